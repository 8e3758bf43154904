"""`dipper token`: who may use the administration interface."""

from pathlib import Path

from tests.stations.commands.test_account import dipper


def test_a_token_lives_through_its_commands(tmp_path: Path) -> None:
    code, text = dipper(tmp_path, "token", "add", "dashboard", "--read-only", "--expires", "2031-01-31")
    assert code == 0 and text.startswith("dipper_") and len(text) > 40
    assert dipper(tmp_path, "token", "add", "dashboard") == (1, "there is a token dashboard already")
    listed = dipper(tmp_path, "token", "list")[1]
    assert all(word in listed for word in ("dashboard", "read", "2031-01-31")) and text.strip() not in listed
    assert dipper(tmp_path, "token", "remove", "dashboard") == (0, "removed token dashboard\n")
    assert dipper(tmp_path, "token", "remove", "dashboard") == (1, "there is no token dashboard")
