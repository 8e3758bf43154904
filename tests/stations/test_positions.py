"""The position log as files, and `dipper positions export`."""

import asyncio
import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caster.database import Database
from caster.positions import PositionStore
from tests.stations.commands.test_account import dipper

ROW = {
    "time": datetime(2026, 5, 15, 8, 0, 1, 234567, tzinfo=UTC), "kind": "gga", "account": "Zoë, 北斗", "mount": "M",
    "session": 7, "latitude_deg": 31.123456789012, "longitude_deg": 121.5, "height_m": 10.25, "quality": 4,
    "satellites": 20, "hdop": None,
}  # fmt: skip


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    async def log() -> None:
        database = Database(f"sqlite:///{tmp_path / 'dipper.sqlite3'}")
        await database.open()
        await PositionStore(database).add([ROW, {**ROW, "account": "b", "kind": "fix", "hdop": 0.9}])
        await database.close()

    asyncio.run(log())
    return tmp_path


def test_csv_is_a_table_that_others_read(logged: Path) -> None:
    path = logged / "out.csv"
    assert dipper(logged, "positions", "export", "--output", str(path))[0] == 0
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["time"], first["account"], first["latitude_deg"], first["hdop"]) == (
        "2026-05-15T08:00:01.234Z", "Zoë, 北斗", "31.12345679", "",
    )  # fmt: skip
    assert second["kind"] == "fix" and second["hdop"] == "0.9"


@pytest.mark.parametrize(("options", "count"), [((), 2), (("--account", "b"), 1), (("--to", "2026-05-15"), 0)])
def test_geojson_is_a_collection_of_points(logged: Path, options: tuple[str, ...], count: int) -> None:
    path = logged / "out.geojson"
    arguments = ("positions", "export", "--output", str(path), "--format", "geojson", *options)
    code, said = dipper(logged, *arguments)
    assert code == 0 and said.endswith(f"{count} positions\n")
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == count
    for feature in collection["features"]:
        assert feature["geometry"] == {"type": "Point", "coordinates": [121.5, 31.12345679, 10.25]}
        assert feature["properties"]["quality"] == 4 and "latitude_deg" not in feature["properties"]


def test_what_cannot_be_written_is_named(logged: Path) -> None:
    assert dipper(logged, "positions", "export", "--output", "/no/such/file")[0] == 1
    assert dipper(logged, "positions", "export", "--output", "-", "--format", "kml")[0] == 2
    assert dipper(logged, "positions", "export", "--output", "-", "--kind", "x")[0] == 2
    assert dipper(logged, "positions", "export", "--output", "-")[0] == 0
