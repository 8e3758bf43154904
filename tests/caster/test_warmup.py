"""First calls with a progress bar, and a bounded folder of compiled code."""

import io
import os
import threading

import pytest
from rich.console import Console

from caster import warmup
from caster.warmup import compiled_folders, prune_cache, warm_up
from solver.jit import cache_root
from solver.kernels.geodesy import geodetic_from_ecef


def test_each_step_runs_once_in_order_and_is_timed():
    seen = []
    seconds = warm_up({name: lambda name=name: seen.append(name) for name in ("first", "second")})
    assert seen == ["first", "second"]
    assert list(seconds) == seen
    assert all(taken >= 0.0 for taken in seconds.values())


def test_a_warm_start_shows_nothing_and_a_cold_one_says_what_it_does(monkeypatch):
    quiet, slow = io.StringIO(), io.StringIO()
    warm_up({"quick": lambda: None}, Console(file=quiet))
    assert quiet.getvalue() == ""
    monkeypatch.setattr(warmup, "SHOWN_AFTER_S", 0.0)
    shown = Console(file=slow)
    warm_up({"slow": lambda: wait_until(lambda: "Compiling kernels" in slow.getvalue())}, shown)
    assert slow.getvalue().count("Compiling kernels") == 1


def test_a_terminal_gets_a_progress_bar_with_the_step_in_it(monkeypatch):
    monkeypatch.setattr(warmup, "SHOWN_AFTER_S", 0.0)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    warm_up({"orbits": lambda: wait_until(lambda: "orbits" in screen.getvalue())}, console)
    assert "orbits" in screen.getvalue()


def wait_until(condition):
    """Wait on another thread's output, ten seconds at most."""
    tick = threading.Event()
    for _ in range(1000):
        if condition():
            return
        tick.wait(0.01)
    raise TimeoutError


def test_a_step_that_fails_ends_the_warm_up_with_its_error():
    with pytest.raises(ZeroDivisionError):
        warm_up({"bad": lambda: 1 / 0})


def test_old_compiled_code_is_deleted_and_code_in_use_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(warmup, "compiled_folders", lambda: {tmp_path / "used"})
    for age, name in enumerate(["used", "newest", "older", "oldest"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.nbc").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert prune_cache(bytes_max=2500) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"used", "newest", "older"}
    assert prune_cache(bytes_max=0) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"used"}


def test_the_folders_in_use_are_those_of_kernels_that_were_called():
    geodetic_from_ecef(6378137.0, 0.0, 0.0)
    folders = compiled_folders()
    assert folders
    assert all(folder.parent == cache_root() and folder.is_dir() for folder in folders)
