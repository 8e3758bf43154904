"""What a user installs: three packages with their types, one command, and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=120)
    (path,) = folder.glob("bigdipper-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {entry for entry in top if not entry.endswith(".dist-info")} == {"caster", "solver", "stations"}


def test_every_module_of_the_tree_is_in_the_wheel(wheel):
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in ("caster", "solver", "stations")
        for path in (ROOT / package).rglob("*.py")
    }
    assert tree <= set(wheel.namelist())


def test_each_package_says_that_it_is_typed(wheel):
    assert {f"{package}/py.typed" for package in ("caster", "solver", "stations")} <= set(wheel.namelist())


def test_the_command_is_installed_and_the_licence_is_stated(wheel):
    (entry_points,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    parsed = configparser.ConfigParser()
    parsed.read_string(wheel.read(entry_points).decode())
    assert dict(parsed["console_scripts"]) == {"dipper": "stations.cli:main"}
    assert "License-Expression: Apache-2.0" in wheel.read(metadata).decode()
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
