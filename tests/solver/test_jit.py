"""The kernel decorator: where compiled code is kept, and when it is thrown away."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from solver import jit


def forget() -> None:
    """Read the sources anew, as another process would."""
    for known in (jit._source_digest, jit._digest, jit._source, jit._project_imports, jit._origin):
        known.cache_clear()


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
    forget()
    yield folder
    forget()
    for name in [name for name in sys.modules if name.startswith("tests_jit_package")]:
        del sys.modules[name]


def test_a_kernel_computes_what_its_python_computes() -> None:
    @jit.kernel
    def halve(values: np.ndarray) -> float:
        return values.sum() / 2.0

    assert halve(np.array([1.0, 2.0])) == 1.5


def test_a_part_that_is_inlined_twice_keeps_its_variables_apart() -> None:
    """Parts share one table of variables with their copies, which numba would copy for each block."""

    @jit.part
    def total(values: np.ndarray, power: int) -> float:
        result = 0.0
        for value in values:
            if value > 0.0:
                result += value**power
        return result

    @jit.kernel
    def ratio(values: np.ndarray) -> float:
        result = total(values, 1)
        return total(values, 2) / result

    assert ratio(np.array([1.0, -5.0, 3.0])) == 2.5


def test_division_by_zero_gives_infinity_as_in_numpy() -> None:
    @jit.kernel
    def divide(numerator: float, denominator: float) -> float:
        return numerator / denominator

    assert divide(1.0, 0.0) == np.inf


def test_a_change_in_an_imported_module_changes_the_digest(package: Path) -> None:
    """numba alone would go on with code that was inlined from the old file."""
    before = jit._source_digest("tests_jit_package.upper")
    (package / "lower.py").write_text("FACTOR = 3\n")
    forget()
    assert jit._source_digest("tests_jit_package.upper") != before


def test_a_change_elsewhere_leaves_the_digest_alone(package: Path) -> None:
    before = jit._source_digest("tests_jit_package.lower")
    (package / "upper.py").write_text("# changed\n")
    forget()
    assert jit._source_digest("tests_jit_package.lower") == before


@pytest.mark.parametrize(
    "statement",
    [
        "import tests_jit_package.lower",
        "import os, tests_jit_package.lower as below",
        "from tests_jit_package.lower import FACTOR",
        "from tests_jit_package import (  # with a remark (and more)\n    lower as below,\n)",
        "def later():\n    from tests_jit_package import lower",
    ],
)
def test_every_form_of_import_is_followed(package: Path, statement: str) -> None:
    (package / "upper.py").write_text(statement + "\n")
    assert "tests_jit_package.lower" in jit._project_imports("tests_jit_package.upper")


def test_the_projects_imports_are_those_that_python_parses() -> None:
    """Of every module of the solver and the caster, by `ast`, whose sight of a module takes a hundred times longer."""
    folder = Path(jit.__file__).parents[1]
    paths = [path for package in ("solver", "caster") for path in (folder / package).rglob("*.py")]
    assert len(paths) > 30
    for path in paths:
        module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        parsed = {name for name in imports_by_parser(path) if name.split(".")[0] in jit._PACKAGES and jit._origin(name)}
        assert parsed <= set(jit._project_imports(module)), module


def imports_by_parser(path: Path) -> Iterator[str]:
    """All that a source imports, or might import as modules."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert jit.cache_root() == tmp_path


def test_a_kernel_that_was_compiled_is_loaded_without_the_compiler(tmp_path: Path) -> None:
    program = "import sys, numpy; from solver.kernels.geodesy import geodetic_from_ecef as kernel; "
    program += "print(kernel(7e6, 0.0, 0.0)[2] > 0.0, 'numba.np.arrayobj' in sys.modules)"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert [run(), run()] == ["True True", "True False"]


def test_a_loaded_kernel_is_compiled_for_other_types_as_well(tmp_path: Path) -> None:
    """The compiler is set up then, though loading has done without it."""
    program = "from solver.kernels.geodesy import geodetic_from_ecef as kernel; "
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for calls in ("kernel(7e6, 0.0, 0.0)", "kernel(7e6, 0.0, 0.0), kernel(7_000_000, 0, 0)"):
        done = subprocess.run([sys.executable, "-c", f"{program}print({calls})"], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_a_loaded_kernel_is_linked_with_one_that_is_compiled_later(tmp_path: Path) -> None:
    """Its intermediate code is not parsed before, nor are the modules loaded of what numba has put in."""
    (tmp_path / "tests_linked.py").write_text(
        "import numpy\nfrom solver.jit import kernel\n"
        "@kernel\ndef add(values):\n    more = numpy.full(3, 2.0)\n    values += more\n    return values.sum()\n"
        "@kernel\ndef twice(values):\n    return add(values) + add(values)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    program = "import sys, numpy; sys.path.insert(0, sys.argv[1]); from tests_linked import *; values = numpy.zeros(3)"
    called = (
        ("add(values)", "6.0 True"), ("twice(values)", "18.0 True"), ("add(values), twice(values)", "6.0 30.0 False")
    )  # fmt: skip
    for call, total in called:
        words = [sys.executable, "-c", f"{program}; print({call}, 'numba.np.arrayobj' in sys.modules)", str(tmp_path)]
        assert subprocess.run(words, env=environment, capture_output=True, text=True).stdout.strip() == total


def test_a_kernel_is_called_by_its_address(tmp_path: Path) -> None:
    """Also where both were compiled before, and the compiler is not set up."""
    (tmp_path / "tests_addresses.py").write_text(
        "import sys, numpy\nfrom solver.jit import Address, kernel\n"
        "@kernel\ndef add(values, more):\n    values += more\n    return len(values)\n"
        "@kernel\ndef twice(step, values):\n    return step(values, 1.0) + step(values[1:], 2.0)\n"
        "values = numpy.zeros(3)\n"
        "print(twice(Address(add, values, 1.0), values), values.tolist(), 'numba.np.arrayobj' in sys.modules)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import tests_addresses", str(tmp_path)]
    for compiled in ("True", "False"):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"5 [1.0, 3.0, 3.0] {compiled}"


def test_whether_a_module_was_compiled_shows_in_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not jit.was_compiled("solver.kernels.geodesy")
    Path(jit._cache_of("solver.kernels.geodesy", str(tmp_path))).mkdir()
    assert jit.was_compiled("solver.kernels.geodesy")
