"""The command line as a whole: every command explains itself, and a first screen answers at once."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from click import Command, Group
from typer.main import get_command
from typer.testing import CliRunner

from stations.cli import app, application
from tests.caster.codec.rinex.samples import package_file


def commands(command: Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command and group, with the words that call it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_tells_what_a_command_does_with_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: dipper {' '.join(words)}".strip() in result.stdout
    assert COMMANDS[words].help


@pytest.mark.parametrize(("words", "command"), [item for item in COMMANDS.items() if not isinstance(item[1], Group)])
def test_every_option_is_explained(words: tuple[str, ...], command: Command) -> None:
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"dipper {' '.join(words)}: {parameter.name}"


def test_it_says_which_version_it_is() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"Big Dipper {version('bigdipper')}\n")


@pytest.mark.parametrize(
    "line",
    [
        "sing",
        "group put x --max-sessions 99999999999999999999",
        "account add x --max-sessions 99999999999999999999",
        "account add a:b",
        "group put a:b",
        "token add a:b",
        "ban add 192.0.2.1 --for 9999999d",
        "solve --mode single --rover a.obs --interval inf",
        "archive export A --output a.obs --interval 1e300",
        "station survey a.obs --base b.obs --base-sigma 0,0,0",
        "station survey a.obs --base b.obs --base-sigma nan,1,1",
    ],
)
def test_what_no_command_can_work_with_is_wrong_usage(line: str, tmp_path: Path) -> None:
    environment = {"DIPPER_DATA_DIR": str(tmp_path)}
    assert CliRunner().invoke(app, line.split(), env=environment).exit_code == 2


def test_the_first_screen_loads_neither_numba_nor_the_database() -> None:
    program = "import sys; sys.argv[1:] = ['--help']; from stations.cli import app; app(standalone_mode=False)"
    look = "; print({'numba', 'sqlalchemy', 'fastapi'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program + look], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")


@pytest.mark.parametrize(
    "line",
    [
        "decode FILE --format rinex --output FILE",
        "solve --mode single --rover FILE --output FILE",
        "solve --mode dgnss --rover other --base FILE --output FILE",
        "rover ntrip://127.0.0.1:1/M --upload FILE --output FILE",
    ],
)
def test_no_command_writes_over_what_it_reads(line: str, tmp_path: Path) -> None:
    file = tmp_path / "rover.obs"
    file.write_bytes(package_file("cssrlib", "data/SEPT078M1.21O").read_bytes())
    before = file.read_bytes()
    assert CliRunner().invoke(app, line.replace("FILE", str(file)).split()).exit_code == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", [["--output", "/dev/full"], []])
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    example = str(package_file("cssrlib", "data/SEPT078M1.21O"))
    command = [sys.executable, "-m", "stations", "decode", example, "--format", "rinex", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(": No space left on device")
    assert "Traceback" not in done.stderr


def test_a_command_that_is_called_loads_no_other() -> None:
    program = "import sys; from stations.cli import application; application('check-config'); "
    look = "print([name for name in sys.modules if name.startswith('stations.commands.')])"
    done = subprocess.run([sys.executable, "-c", program + look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stations.commands.check_config']"


@pytest.mark.parametrize("name", ["solve", "check-config", "account"])
def test_a_command_by_itself_is_called_by_its_name(name: str) -> None:
    result = CliRunner().invoke(application(name), [name, "--help"], env={"COLUMNS": "200"})
    assert f"Usage: dipper {name}" in result.stdout
