"""The documentation names every key of the configuration, with its default, in its section."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from caster.config import Config, load_config
from stations.cli import app
from stations.commands.solve import spread

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "configuration.md").read_text()


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a key holds, or holds a list of."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def keys(model: type[BaseModel] = Config, section: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """Section, key and field of everything that can be configured."""
    for name, field in model.model_fields.items():
        below = model_of(field)
        if below is None:
            yield section, name, field
        else:
            yield from keys(below, f"[{name}]" if isinstance(field.default, BaseModel) else f"[[{name}]]")


def default_text(field: FieldInfo) -> str:
    """The default in TOML; `required` and `none` where there is none."""
    if field.is_required():
        return "required"
    default: Any = field.get_default(call_default_factory=False)
    return "none" if default is None else json.dumps(default, default=str)


def documented(section: str) -> dict[str, str]:
    """Keys and defaults in a section's table."""
    title = f"## `{section}`" if section else "## Top level"
    _, found, rest = TEXT.partition(f"\n{title}\n")
    assert found, f"no section {title}"
    return dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", rest.partition("\n## ")[0], re.MULTILINE))


@pytest.mark.parametrize(
    ("section", "key", "field"), list(keys()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_key_is_documented_with_its_default(section: str, key: str, field: FieldInfo) -> None:
    default = documented(section)[key]
    assert field.default_factory is not None or default == default_text(field)


def test_nothing_is_documented_that_there_is_not() -> None:
    known = {(section, key) for section, key, _ in keys()}
    sections = {section for section, _, _ in keys()}
    assert {(section, key) for section in sections for key in documented(section)} == known


def test_the_examples_of_the_documentation_are_good_configurations(tmp_path: Path) -> None:
    blocks = [
        block
        for path in sorted(DOCS.glob("*.md"))
        for block in re.findall(r"```toml\n(.*?)```", path.read_text(), re.S)
    ]
    assert len(blocks) >= 3
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load_config(path)


COMMAND = re.compile(r"(?:\$ )?(?:sudo -u \w+ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?dipper (.*)")


def command_lines() -> Iterator[tuple[str, str]]:
    """Page and words of each command of an example that runs `dipper`."""
    for path in [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]:
        for block in re.split(r"^```.*\n", path.read_text(), flags=re.MULTILINE)[1::2]:
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"\| | && |\$\(", line):
                    if found := COMMAND.match(part.strip()):
                        yield path.name, found[1].rstrip(")")


@pytest.mark.parametrize(("page", "line"), list(command_lines()), ids=str)
def test_a_command_in_an_example_is_one_with_these_options(page: str, line: str) -> None:
    words = spread(shlex.split(line.replace("X Y Z", "1 2 3"), comments=True))
    command = get_command(app)
    while below := getattr(command, "commands", {}):
        assert words and words[0] in below, f"{page}: dipper {line}"
        command = below[words.pop(0)]
    command.make_context("dipper", words)


def test_the_examples_of_commands_are_found() -> None:
    pages = {page for page, _ in command_lines()}
    assert {"README.md", "accounts.md", "archive.md", "network.md", "static.md", "systemd.md"} <= pages


def test_every_page_is_in_the_manual_s_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert {path.name for path in DOCS.glob("*.md")} - {"README.md"} == set(re.findall(r"\]\((\w[\w-]*\.md)\)", index))
