"""The table of features links each claim to a test that exists; and every quirk has a named one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "features.md").read_text()
LINKS = re.findall(r"\[[^]]+\]\(\.\./(tests/[\w/]+\.py)#(\w+)\)", TEXT)
TABLE = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and line.count(" | ") > 10][1:]
QUIRKS = range(1, 25)


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("path", "name"), sorted(set(LINKS)), ids=lambda value: value)
def test_a_linked_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_") and name in functions(ROOT / path)


def test_every_yes_is_linked_and_every_peer_has_its_say() -> None:
    assert len(TABLE) > 40
    for feature, ours, *peers in TABLE:
        assert "](../tests/" in ours or ours.startswith(("no", "not yet")), feature
        assert len(peers) == 11 and all(cell.strip(" |") in {"Y", "p", "n", "?"} for cell in peers), feature


def test_every_test_of_a_quirk_is_listed() -> None:
    listed = {name for _, name in LINKS}
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert {name for name in functions(path) if name.startswith("test_quirk_")} <= listed, path
    assert {int(number) for number in re.findall(r"^\| (\d+)\. ", TEXT, re.MULTILINE)} == set(QUIRKS)
