"""systemd and the service tell each other what they must: by real sockets and descriptors of real processes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caster.config import Limits
from caster.errors import ConfigError
from caster.sockets import adopt
from caster.systemd import Notifier, inherited_sockets
from caster.warmup import warm_up
from caster.warmup_steps import loop_steps

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "packaging" / "systemd"
PATIENCE_S = 120.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().split("\n"))


def test_every_state_is_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("listening")
    notifier.reloading()
    notifier.stopping()
    assert told(manager) == {"READY": "1", "STATUS": "listening"}
    reloading = told(manager)
    assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
    assert told(manager)["STOPPING"] == "1"


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0dipper-test-{os.getpid()}")
        Notifier(f"@dipper-test-{os.getpid()}").ready("x")
        assert sock.recv(100) == b"READY=1\nSTATUS=x"


def test_without_systemd_and_when_it_has_gone_nothing_happens(tmp_path: Path) -> None:
    Notifier.from_environment({}).ready("x")
    Notifier(str(tmp_path / "gone")).ready("x")


async def test_the_watchdog_hears_twice_in_its_time(manager: socket.socket) -> None:
    usec = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    alive = asyncio.create_task(Notifier.from_environment(usec).keep_alive())
    loop, started = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    for _ in range(3):
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
    assert 0.09 < loop.time() - started < 5.0
    alive.cancel()
    await asyncio.wait_for(Notifier.from_environment({**usec, "WATCHDOG_PID": "1"}).keep_alive(), 1.0)  # another's


def test_sockets_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "PATH": "x"}
    assert inherited_sockets(environment) == {} and environment == {"PATH": "x"}
    assert inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == {}


PRINT_SOCKETS = """
import os
os.environ["LISTEN_PID"] = str(os.getpid())
from caster.systemd import inherited_sockets
for key, found in inherited_sockets().items():
    for sock in found:
        print(key, sock.getsockname()[1], sock.get_inheritable())
        sock.close()
"""


@pytest.mark.parametrize(
    ("names", "keys"),
    [("dipper.socket:tls2", ("listen", "tls[1]")), ("a:tls", ("listen", "tls[0]")), ("", ("listen", "listen"))],
)
def test_sockets_are_given_to_their_listeners_by_name(names: str, keys: tuple[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        shell = f'exec 3<&{one.fileno()} 4<&{two.fileno()}; exec "$0" -c "$1"'
        done = subprocess.run(
            ["bash", "-c", shell, sys.executable, PRINT_SOCKETS],
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": names},
            pass_fds=(one.fileno(), two.fileno()), capture_output=True, text=True, cwd=ROOT, check=True,
        )  # fmt: skip
        ports = [sock.getsockname()[1] for sock in (one, two)]
    assert done.stdout.split("\n")[:2] == [f"{key} {port} False" for key, port in zip(keys, ports, strict=True)]


def test_a_socket_that_is_none_of_tcp_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConfigError, match=r"tls\[0\]: .* none of TCP"):
        adopt("tls[0]", sock, Limits())


# ----- a real service


@asynccontextmanager
async def activated(port: int, tmp_path: Path, manager: socket.socket) -> AsyncIterator[asyncio.subprocess.Process]:
    """`dipper serve`, started by the first connection to a port that another program has opened."""
    environment = [f"NOTIFY_SOCKET={manager.getsockname()}", "WATCHDOG_USEC=1000000"]
    command = [
        "systemd-socket-activate", "-l", f"127.0.0.1:{port}", *(f"--setenv={each}" for each in environment),
        "-E", "PATH", "-E", "HOME", "-E", "NUMBA_CACHE_DIR", "-E", "OPENBLAS_CORETYPE",
        sys.executable, "-m", "stations", "serve", "--data-dir", str(tmp_path / "data"),
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_S)


async def wait_for_state(manager: socket.socket, name: str) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            text = (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode()
            state = dict(line.split("=", 1) for line in text.split("\n"))
            if name in state:
                return state


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


async def test_the_first_connection_starts_the_service_and_is_answered(
    tmp_path: Path, manager: socket.socket, unused_tcp_port: int
) -> None:
    """Ready, signs of life, a reload and the end are told in turn; the connection that waited gets its table."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("systemd-socket-activate is not installed")
    warm_up(loop_steps())
    async with activated(unused_tcp_port, tmp_path, manager) as process:
        reader, writer = await connected(unused_tcp_port)
        writer.write(b"GET / HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n")
        ready = await wait_for_state(manager, "READY")
        assert ready["STATUS"].startswith(f"listening on port {unused_tcp_port}")
        table = await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert table.startswith(b"SOURCETABLE 200 OK\r\n") and table.endswith(b"ENDSOURCETABLE\r\n")
        writer.close()
        await wait_for_state(manager, "WATCHDOG")
        process.send_signal(signal.SIGHUP)
        await wait_for_state(manager, "RELOADING")
        await wait_for_state(manager, "READY")
        process.send_signal(signal.SIGTERM)
        await wait_for_state(manager, "STOPPING")
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0, (tmp_path / "log").read_text()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` knows every key; it also wants the program to be there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = (UNITS / "dipper.service").read_text().replace("/opt/dipper/bin/dipper", sys.executable)
    (tmp_path / "dipper.service").write_text(unit)
    shutil.copy(UNITS / "dipper.socket", tmp_path)
    names = [str(tmp_path / name) for name in ("dipper.service", "dipper.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "dipper" in line]
    assert not ours
