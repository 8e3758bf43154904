"""`dipper account` and `check-config`: people and rights from the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stations.cli import app


def dipper(data_dir: Path, *arguments: str, stdin: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)], input=stdin)
    return result.exit_code, result.output if result.exit_code != 1 else str(result.exception)


def test_an_account_lives_through_its_commands(tmp_path: Path) -> None:
    rights = ("--role", "station", "--mounts", "AB*,C", "--expires", "2099-01-31")
    assert dipper(tmp_path, "account", "add", "base", *rights, "--password-stdin", stdin="se:cret\n") == (
        0,
        "added station base\n",
    )
    code, text = dipper(tmp_path, "account", "list")
    assert code == 0 and all(word in text for word in ("base", "station", "AB*,C", "2099-01-31", "active"))
    assert dipper(tmp_path, "account", "disable", "base")[0] == 0
    assert "disabled" in dipper(tmp_path, "account", "list")[1]
    assert dipper(tmp_path, "account", "disable", "base", "--undo")[0] == 0
    assert "password" in dipper(tmp_path, "account", "passwd", "base")[1]
    assert dipper(tmp_path, "account", "remove", "base") == (0, "removed base\n")


@pytest.mark.parametrize("command", [("remove",), ("passwd",), ("disable",)])
def test_an_account_that_is_not_there_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert dipper(tmp_path, "account", *command, "nobody") == (1, "there is no account nobody")


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    assert dipper(tmp_path, "account", "add", "a")[0] == 0
    assert dipper(tmp_path, "account", "add", "a") == (1, "there is an account a already")


@pytest.mark.parametrize("options", [("--role", "king"), ("--expires", "tomorrow"), ("--max-sessions", "-1")])
def test_wrong_usage_exits_with_2(tmp_path: Path, options: tuple[str, str]) -> None:
    assert dipper(tmp_path, "account", "add", "a", *options)[0] == 2
    assert dipper(tmp_path, "account", "add", "a:b")[0] == 2


def test_no_password_on_standard_input_is_an_error(tmp_path: Path) -> None:
    assert dipper(tmp_path, "account", "add", "a", "--password-stdin")[0] == 1
