"""`dipper serve` as a process: it listens, takes signals, and works on the database that `dipper account` works on."""

import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caster.errors import ConfigError
from stations.cli import app

DIPPER = [sys.executable, "-m", "stations"]


def ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        return sock.recv(65536)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The process, its port, and what it said on its first start."""
    command = [*DIPPER, "serve", "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        said = ""
        while "listening on port" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        match = re.search(r"port (\d+)", said)
        assert match
        yield process, int(match[1]), said
        if process.poll() is None:
            process.kill()


def test_serve_listens_reloads_and_stops_by_signals(
    tmp_path: Path, served: tuple[subprocess.Popen[str], int, str]
) -> None:
    process, port, said = served
    assert "the operator's account is 'operator', its password" in said
    assert ask(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"SOURCETABLE 200 OK")
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard  # a thousand open files are too few rovers

    add = [*DIPPER, "account", "add", "base", "--role", "station", "--password-stdin", "--data-dir", str(tmp_path)]
    subprocess.run(add, input="secret", text=True, check=True, capture_output=True)
    assert ask(port, b"SOURCE secret /NEW\r\n\r\n") == b"ICY 200 OK\r\n\r\n"

    table = subprocess.run(
        [*DIPPER, "sourcetable", f"ntrip://127.0.0.1:{port}", "--match", "STR;NEW"], capture_output=True, text=True
    )
    assert table.returncode == 0 and "NEW" in table.stdout

    process.send_signal(signal.SIGHUP)
    assert ask(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"SOURCETABLE 200 OK")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert '"reason": "ended by the source"' in log and "configuration read again" in log


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*DIPPER, "serve", "--port", str(port), "--data-dir", str(tmp_path)]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and f"port {port}: Address already in use" in result.stderr


def test_check_config_names_every_wrong_key(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[listen]\nport = 2102\n")
    bad.write_text("colour = 1\n[limits]\nhead_bytes = 3\n")
    assert subprocess.run([*DIPPER, "check-config", str(good)], capture_output=True).returncode == 0
    result = subprocess.run([*DIPPER, "check-config", str(bad)], capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        "bad.toml" in result.stderr and "colour: unknown key" in result.stderr and "limits.head_bytes" in result.stderr
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[mounts]]\nname = 'A'\nkind = 'magic'", "mounts[0].kind: A: kind 'magic' is none of alias, derived, dgnss"),
        ("[[tls]]\ncertificate = 'none.pem'\nkey = 'none.key'", "tls: none.pem: No such file or directory"),
        ("[admin]\ncertificate = 'none.pem'\nkey = 'none.key'", "admin: none.pem: No such file or directory"),
        ("[alerts]\nca_file = 'none.pem'", "alerts.ca_file: none.pem: No such file or directory"),
        ("[mqtt]\nca_file = 'none.pem'", "mqtt.ca_file: none.pem: No such file or directory"),
        ("[accounts]\nurl = 'mysql://host/name'", "accounts.url: mysql is neither sqlite nor postgresql"),
    ],
)
def test_check_config_finds_what_a_start_would_stumble_over(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "dipper.toml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["check-config", str(path)])
    assert isinstance(result.exception, ConfigError) and f"{path}: {complaint}" in str(result.exception)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("[[mounts]]\nname = 'A'\nkind = 'alias'\ntarget = 'B'", "mounts: A: no mountpoint is named B"),
        (
            "mounts = [{name = 'A', kind = 'alias', target = 'B'}, {name = 'B', kind = 'alias', target = 'A'}]",
            "mounts: A: B is an alias, too; A stays offline",
        ),
        (
            "[[mounts]]\nname = 'A'\nkind = 'derived'\nsource = 'F'\n[[mounts]]\nname = 'F'\nkind = 'fix'",
            "mounts: A: F is neither a station nor a relay; A stays offline",
        ),
        ("[mqtt]\nhost = 'broker'\nrovers = 'NONE'", "mqtt.rovers: no mountpoint is named NONE"),
    ],
)
def test_check_config_tells_of_mountpoints_that_will_serve_nobody(tmp_path: Path, text: str, note: str) -> None:
    path = tmp_path / "dipper.toml"
    path.write_text(text)
    result = CliRunner().invoke(app, ["check-config", str(path)])
    assert result.exit_code == 0 and f"note: {note}" in result.stdout


def test_a_caster_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    result = subprocess.run([*DIPPER, "sourcetable", f"ntrip://127.0.0.1:{port}"], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith(f"dipper: 127.0.0.1:{port}: ")
