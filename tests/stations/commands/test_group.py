"""`dipper group` and `dipper account usage`: quotas, and what has been used of them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caster.config import UsageConfig
from caster.database import Database
from caster.usage import UsageRecorder, UsageStore
from stations.commands.group import byte_text
from tests.caster.test_usage import Session, session
from tests.stations.commands.test_account import dipper


def test_a_group_lives_through_its_commands(tmp_path: Path) -> None:
    assert dipper(tmp_path, "group", "put", "g", "--max-sessions", "3", "--day", "500MB", "--month", "20 GB") == (
        0,
        "group g: 3 sessions, 500 MB a day, 20 GB a month\n",
    )
    assert dipper(tmp_path, "account", "add", "a", "--group", "g")[0] == 0
    assert dipper(tmp_path, "account", "add", "b", "--group", "x") == (1, "there is no group x")
    assert "20 GB" in dipper(tmp_path, "group", "list")[1]
    assert dipper(tmp_path, "account", "change", "a", "--group", "", "--max-sessions", "2") == (0, "changed a\n")
    assert dipper(tmp_path, "account", "change", "a") == (1, "nothing to change was given")
    assert dipper(tmp_path, "account", "change", "a", "--group", "g", "--expires", "2031-01-31")[0] == 0
    text = dipper(tmp_path, "account", "list")[1]
    assert all(word in text for word in (" g ", "2031-01-31", " 2 "))
    assert dipper(tmp_path, "group", "put", "g", "--day", "much")[0] == 2
    assert dipper(tmp_path, "group", "remove", "g") == (0, "removed group g\n")
    assert dipper(tmp_path, "group", "remove", "g") == (1, "there is no group g")


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """The data directory of a service that has been used."""

    async def use() -> None:
        database = Database(f"sqlite:///{tmp_path / 'dipper.sqlite3'}")
        await database.open()
        for moment, name in ((datetime(2026, 4, 30, 12, tzinfo=UTC), "a"), (datetime(2026, 5, 1, 12, tzinfo=UTC), "b")):
            recorder = UsageRecorder(UsageConfig(), UsageStore(database), lambda at=moment: at)  # type: ignore[misc]
            rover: Session = session(account=name)
            rover.go_on(3661.0, 1_500_000, 2000)
            rover.end("closed by the client")
            recorder.take(rover)
            await recorder.flush()
        await database.close()

    asyncio.run(use())
    return tmp_path


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        ((), ("2026-04", "2026-05", "1:01:01", "1.5 MB", "2 kB"), ()),
        (("a", "--by", "day"), ("2026-04-30", " a "), ("2026-05-01", " b ")),
        (("--by", "account", "--from", "2026-05-01"), (" b ",), (" a ",)),
        (("--by", "account", "--to", "2026-04-30"), (" a ",), (" b ",)),
        (("--by", "session"), ("closed by the client", "192.0.2.7", "47.28523 8.56527", "2026-04-30"), ()),
        (("--by", "session", "--from", "2026-05-01"), ("2026-05-01",), ("2026-04-30",)),
    ],
)
def test_usage_is_shown(used: Path, options: tuple[str, ...], there: tuple[str, ...], missing: tuple[str, ...]) -> None:
    code, text = dipper(used, "account", "usage", *options)
    assert code == 0
    assert [word for word in there if word not in text] == [] and [word for word in missing if word in text] == []


def test_what_usage_can_be_told_apart_by_is_named(used: Path) -> None:
    assert dipper(used, "account", "usage", "--by", "hour")[0] == 2


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "1.5 MB"), (5 * 10**16, "5e+04 TB")]
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert byte_text(count) == text
