"""The house style that linters do not know: sizes, docstrings, and nothing of one machine in the tree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("caster", "solver", "stations", "bench")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 700
MEDIAN_FUNCTION_LINES_MAX = 12
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".cfg", ".ini", ".sh", ""}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its decorators and docstring left out."""
    docstring = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    end = function.end_lineno or function.lineno
    return end - function.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(*PACKAGES, "tests"), ids=name)
def test_a_module_and_its_functions_fit_on_a_screen(path):
    assert len(path.read_text().splitlines()) <= MODULE_LINES_MAX
    long = {
        function.name: lines for function in functions(path) if (lines := code_lines(function)) > FUNCTION_LINES_MAX
    }
    assert not long


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_a_module_says_what_it_is_and_so_does_everything_public_in_it(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    silent = [
        f"{node.name}:{node.lineno}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=name)
def test_every_exported_name_exists(path):
    tree = ast.parse(path.read_text())
    bound = {
        name.asname or name.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert exported(tree) <= bound


def exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def test_most_functions_are_small():
    lengths = sorted(code_lines(function) for path in modules(*PACKAGES) for function in functions(path))
    assert lengths[len(lengths) // 2] <= MEDIAN_FUNCTION_LINES_MAX


def test_nothing_is_printed_past_the_console():
    printing = [
        f"{name(path)}:{node.lineno}"
        for path in modules("caster", "solver", "stations")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "breakpoint"}
    ]
    assert not printing


def test_nothing_in_the_tree_names_a_folder_of_one_machine():
    folders = [ROOT / folder for folder in (*PACKAGES, "tests", "docs", ".ci")]
    files = [path for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    named = [
        f"{name(path)}: {match.group()}"
        for path in files
        if path.is_file() and path.suffix in TEXT_SUFFIXES and path.name != ".git" and "__pycache__" not in path.parts
        for match in [MACHINE_PATH.search(path.read_text(errors="replace"))]
        if match
    ]
    assert not named


def test_functions_are_measured_without_their_docstrings():
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n'
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert code_lines(function) == 3
