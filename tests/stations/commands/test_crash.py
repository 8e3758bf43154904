"""`dipper serve`, killed in the middle of its work: what was promised is on the disk, and the next start goes on."""

import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from caster.codec.ntrip import Credentials, get_request
from caster.codec.rtcm import FrameReader
from tests.caster.conftest import frame

DIPPER = [sys.executable, "-m", "stations"]
FRAMES = frame(1006) + frame(1077) + frame(1127)
CONFIG = """
[listen]
port = 0
trusted = []

[archive]
enabled = true
flush_s = 0.1
free_bytes_min = 0

[bans]
bad_requests = 2
refresh_s = 0.1

[usage]
period_s = 0.2

[positions]
enabled = true
interval_s = 0
flush_s = 0.1
"""


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process and its port; it is killed at the end."""
    command = [*DIPPER, "serve", "--config", str(folder / "dipper.toml"), "--data-dir", str(folder / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            while (match := re.search(r"listening on port (\d+)", process.stdout.readline())) is None:
                assert process.poll() is None
            yield process, int(match[1])
        finally:
            process.kill()


def connect(stack: ExitStack, port: int, data: bytes) -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
    sock.sendall(data)
    return sock


def dipper(folder: Path, *arguments: str, stdin: str = "") -> str:
    command = [*DIPPER, *arguments, "--data-dir", str(folder / "data")]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "data" / "dipper.sqlite3")) as connection:
        return connection.execute(query).fetchall()


def wait_for(folder: Path, query: str) -> None:
    deadline = time.monotonic() + 30.0
    while not rows(folder, query):
        assert time.monotonic() < deadline, query
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dipper.toml").write_text(CONFIG)
    dipper(tmp_path, "account", "add", "base", "--role", "station", "--password-stdin", stdin="secret")
    dipper(tmp_path, "account", "add", "rover", "--password-stdin", stdin="pass")
    return tmp_path


def test_a_kill_leaves_accounts_bans_usage_positions_and_archive_intact(folder: Path) -> None:
    gga = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,4,08,1.01,499.6,M,48.0,M,,*5E\r\n"
    with served(folder) as (process, port), ExitStack() as stack:
        source = connect(stack, port, b"SOURCE secret /STR1\r\n\r\n")
        assert source.recv(100) == b"ICY 200 OK\r\n\r\n"
        rover = connect(
            stack, port, get_request("STR1", "x", version=1, credentials=Credentials("rover", "pass")) + gga
        )
        assert rover.recv(100) == b"ICY 200 OK\r\n\r\n"
        for _ in range(6):  # two sessions, so three times the limit
            connect(stack, port, b"\xff\xfe\r\n\r\n").recv(1000)
        for _ in range(50):
            source.sendall(FRAMES)
        wait_for(folder, "SELECT 1 FROM bans")
        wait_for(folder, "SELECT 1 FROM positions")
        wait_for(folder, "SELECT 1 FROM sessions WHERE kind = 'source' AND received_bytes > 1000")
        deadline = time.monotonic() + 30.0
        while not list((folder / "data" / "archive").rglob("*.rtcm3")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        source.sendall(FRAMES[:-5])
        process.kill()
        process.wait(30)
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert rows(folder, "SELECT name FROM accounts ORDER BY name") == [("base",), ("operator",), ("rover",)]
    (path,) = (folder / "data" / "archive").rglob("*.rtcm3")
    data, reader = path.read_bytes(), FrameReader()
    assert data and b"".join([*reader.feed(data), *reader.finish()]) == data
    assert "127.0.0.1/32" in dipper(folder, "ban", "list")
    dipper(folder, "ban", "remove", "127.0.0.1")
    with served(folder) as (_, port), ExitStack() as stack:
        assert connect(stack, port, b"SOURCE secret /STR1\r\n\r\n").recv(100) == b"ICY 200 OK\r\n\r\n"
    assert "STR1" in dipper(folder, "account", "usage", "--by", "session")
