"""`dipper ban`: an operator's bans in the database of a service."""

from pathlib import Path

import pytest

from tests.stations.commands.test_account import dipper


def test_bans_are_added_listed_and_removed(tmp_path: Path) -> None:
    code, text = dipper(tmp_path, "ban", "add", "2001:db8::7", "--for", "2h", "--reason", "too loud")
    assert code == 0 and text.startswith("2001:db8::/64 is banned until 20") and text.endswith("UTC: too loud\n")
    assert dipper(tmp_path, "ban", "add", "192.0.2.0/24")[1] == "192.0.2.0/24 is banned for good: by the operator\n"
    code, text = dipper(tmp_path, "ban", "list")
    assert code == 0 and all(word in text for word in ("2001:db8::/64", "operator", "too loud", "for good"))
    assert dipper(tmp_path, "ban", "remove", "192.0.2.9/24") == (0, "lifted the ban on 192.0.2.0/24\n")
    assert "192.0.2.0" not in dipper(tmp_path, "ban", "list")[1]


def test_a_ban_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert dipper(tmp_path, "ban", "remove", "192.0.2.9") == (1, "there is no ban on 192.0.2.9/32")


@pytest.mark.parametrize("arguments", [("here",), ("192.0.2.1", "--for", "soon")])
def test_what_is_no_network_or_no_time_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert dipper(tmp_path, "ban", "add", *arguments)[0] == 2


def test_a_ban_that_trust_overrules_is_said_to_be_none(tmp_path: Path) -> None:
    note = "note: listen.trusted names 127.0.0.0/8, which is let in all the same"
    assert note in dipper(tmp_path, "ban", "add", "127.0.0.0/16")[1]
    assert "note" not in dipper(tmp_path, "ban", "add", "192.0.2.7")[1]
