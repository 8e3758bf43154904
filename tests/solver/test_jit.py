"""The kernel decorator: where compiled code is kept, and when it is thrown away."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from solver import jit


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two modules, of which `upper` calls a kernel of `lower`."""
    folder = tmp_path / "tests_jit_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "lower.py").write_text("FACTOR = 2\n")
    (folder / "upper.py").write_text("from tests_jit_package import lower\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(jit, "_PACKAGES", ("tests_jit_package",))
    jit._source_digest.cache_clear()
    yield folder
    jit._source_digest.cache_clear()
    for name in [name for name in sys.modules if name.startswith("tests_jit_package")]:
        del sys.modules[name]


def test_a_kernel_computes_what_its_python_computes() -> None:
    @jit.kernel
    def halve(values: np.ndarray) -> float:
        return values.sum() / 2.0

    assert halve(np.array([1.0, 2.0])) == 1.5


def test_division_by_zero_gives_infinity_as_in_numpy() -> None:
    @jit.kernel
    def divide(numerator: float, denominator: float) -> float:
        return numerator / denominator

    assert divide(1.0, 0.0) == np.inf


def test_a_change_in_an_imported_module_changes_the_digest(package: Path) -> None:
    """numba alone would go on with code that was inlined from the old file."""
    before = jit._source_digest("tests_jit_package.upper")
    (package / "lower.py").write_text("FACTOR = 3\n")
    jit._source_digest.cache_clear()
    assert jit._source_digest("tests_jit_package.upper") != before


def test_a_change_elsewhere_leaves_the_digest_alone(package: Path) -> None:
    before = jit._source_digest("tests_jit_package.lower")
    (package / "upper.py").write_text("# changed\n")
    jit._source_digest.cache_clear()
    assert jit._source_digest("tests_jit_package.lower") == before


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert jit.cache_root() == tmp_path
