"""The configuration: errors name the key, and the order of file, environment and options holds."""

from pathlib import Path

import pytest

from caster.config import load_config
from caster.errors import ConfigError


def load(tmp_path: Path, text: str, **overrides: object) -> object:
    path = tmp_path / "dipper.toml"
    path.write_text(text, encoding="latin-1")
    return load_config(path, **overrides)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour = 1", "colour: unknown key"),
        ("[limits]\nhead_bytes = 3", "limits.head_bytes: .*greater than or equal to 256.*got 3"),
        ("[[mounts]]\nname = 'a b'", r"mounts\[0\].name: "),
        ("[[mounts]]\nname = 'A'\n[[mounts]]\nname = 'A'", "'A' is given twice"),
        ("[[mounts]]\nname = 'A'\nkind = 'alias'", "needs the name of the mountpoint"),
        ("[listen]\nport = 'x'", "listen.port: "),
        ("port = ", "Invalid value"),
        ("\xff", "line 1 is not text in UTF-8"),
        ("[listen]\nhosts = 5", r"listen.hosts: Input should be an array, in brackets \(got 5\)"),
        ("listen = 5", r"listen: Input should be a table \(got 5\)"),
        ("[[mounts]]\nname = 'A'\nowner = 'x'", r"mounts\[0\].owner: not a mail address such as .* \(got 'x'\)"),
        (
            "[[mounts]]\nname = 'D'\nkind = 'derived'\nsource = 'S'\nkeep = ['x-y']",
            r"keep\[0\]: message types are numbers .* \(got 'x-y'\)",
        ),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(tmp_path, text)
    assert "dipper.toml" in str(caught.value)


def test_a_mistake_that_a_thousand_mountpoints_share_is_not_told_a_thousand_times() -> None:
    mounts = [{"name": f"M{number}", "colour": "red"} for number in range(1000)]
    with pytest.raises(ConfigError) as told:
        load_config(None, mounts=mounts)
    lines = str(told.value).splitlines()
    assert lines[1] == "  mounts[0].colour: unknown key (got 'red')"
    assert (len(lines), lines[-1]) == (22, "  and 980 more")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: No such file"):
        load_config(tmp_path / "none.toml")


def test_options_go_before_the_file_and_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPPER_LIMITS__MOUNTS", "7")
    config = load(tmp_path, "[listen]\nport = 1\nqueue = 5\n[limits]\nmounts = 3", **{"listen.port": 2})
    assert (config.listen.port, config.listen.queue, config.limits.mounts) == (2, 5, 7)  # type: ignore[attr-defined]


def test_an_option_goes_before_the_environment_for_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPPER_DATA_DIR", "/environment")
    monkeypatch.setenv("DIPPER_LISTEN__PORT", "7")
    config = load_config(None, data_dir=Path("/option"), **{"listen.port": 2})
    assert (config.data_dir, config.listen.port) == (Path("/option"), 2)


def test_a_list_in_the_environment_is_json_and_named_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPPER_LISTEN__HOSTS", '["::1"]')
    assert load_config(None).listen.hosts == ("::1",)
    monkeypatch.setenv("DIPPER_LISTEN__HOSTS", "::1")
    with pytest.raises(ConfigError, match=r"the environment: DIPPER_LISTEN"):
        load_config(None)


def test_rules_by_pattern_and_by_agent() -> None:
    config = load_config(
        None,
        mounts=[{"name": "A1"}, {"name": "A*", "open": True}, {"name": "*", "country": "CHN"}],
        agents=[{"agent": "ntrip foo*", "output": "identity"}],
    )
    assert config.mount_rule("A7").open and config.mount_rule("A7").name == "A7"
    assert config.mount_rule("B").country == "CHN"
    assert (config.output_for("NTRIP Foo/1"), config.output_for("x")) == ("identity", "")
