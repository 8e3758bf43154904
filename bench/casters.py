"""Casters under load: our own and its peers, each set up for the same mountpoints and the same rovers.

A peer is a program that somebody else wrote, found on the path or given by `--peer NAME=PATH`. Each is configured with
what its own manual recommends for such a load; what it cannot do (accounts, TLS, many mountpoints) leaves it out of the
scenarios that need it, with the reason.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trustme

from bench.processes import BenchError, free_port, started, wait_idle, wait_listening

__all__ = [
    "CASTERS",
    "PASSWORD",
    "ROVER",
    "Caster",
    "Prepared",
    "Running",
    "Setup",
    "find_casters",
    "logged_errors",
    "prepare_dipper",
]

ROVER: Final = "rover"
PASSWORD: Final = "bench-password"
_LINE_SHOWN: Final = 200
_WARM_START_S: Final = 90.0  # the first start of all compiles kernels


@dataclass(frozen=True, slots=True)
class Setup:
    """What a caster shall be ready for.

    Attributes:
        mount_names: The mountpoints that sources will push to.
        connections: Rovers and sources together.
        tls: Rovers come by TLS.
        workers: Processes of the caster; 1 where it has no such thing.
    """

    mount_names: tuple[str, ...]
    connections: int
    tls: bool = False
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A caster that listens.

    Attributes:
        pid: Its process.
        port: For rovers.
        push_port: For sources.
        push_protocol: How sources speak to it.
        log: Its output.
        workers: Processes that share its connections.
    """

    pid: int
    port: int
    push_port: int
    log: Path
    push_protocol: Literal["ntrip1", "raw"] = "ntrip1"
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Caster:
    """One of the programs under test.

    Attributes:
        name: As in `--peer NAME=PATH`.
        program: What to look for on the path; empty where it must be given.
        mounts_max, rovers_max: What it can hold.
        tls: It speaks TLS.
        run: Starts it: `run(path, setup, folder)`.
    """

    name: str
    program: str
    mounts_max: int
    rovers_max: int
    tls: bool
    run: Callable[[Path, Setup, Path], contextlib.AbstractContextManager[Running]]

    def why_not(self, setup: Setup) -> str:
        """Why this caster cannot take part; empty where it can."""
        if len(setup.mount_names) > self.mounts_max:
            return f"has {self.mounts_max} mountpoint(s) at most"
        if setup.connections > self.rovers_max:
            return f"takes {self.rovers_max} connections at most"
        if setup.workers > 1 and self.name != "dipper":
            return "one process only"
        return "no TLS set up for it here" if setup.tls and not self.tls else ""


@contextlib.contextmanager
def _dipper(python: Path, setup: Setup, folder: Path) -> Iterator[Running]:
    """Our caster with its defaults: CRC check, accounts and backlog limits on; one address may open all connections."""
    service = prepare_dipper(python, setup, folder)
    with started(service.command, service.log) as process:
        wait_listening(process, service.port, service.log, _WARM_START_S)
        wait_idle(process.pid)
        yield Running(process.pid, service.rover_port, service.port, service.log, workers=setup.workers)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Our caster, ready to be started: its command, the ports for sources and for rovers, and where its output goes."""

    command: tuple[str, ...]
    port: int
    rover_port: int
    log: Path


def prepare_dipper(python: Path, setup: Setup, folder: Path) -> Prepared:
    """Write the configuration of our caster to a folder, and make the accounts."""
    port, config = free_port(), folder / "dipper.toml"
    rover_port = _tls_port(folder) if setup.tls else port
    tls = _DIPPER_TLS.format(folder=folder, port=rover_port) if setup.tls else ""
    config.write_text(_DIPPER_TOML.format(folder=folder, port=port, connections=setup.connections + 100) + tls)
    for name, role in ((ROVER, "rover"), ("base", "station")):
        subprocess.run(
            [python, "-m", "stations", "account", "add", name, "--role", role, "--mounts", "*", "--password-stdin"],
            input=f"{PASSWORD}\n".encode(),
            check=True,
            capture_output=True,
            env={"DIPPER_DATA_DIR": str(folder)},
        )
    workers = ["--workers", str(setup.workers)] if setup.workers > 1 else []
    command = (str(python), "-m", "stations", "serve", "--config", str(config), *workers)
    return Prepared(command, port, rover_port, folder / "dipper.log")


def _tls_port(folder: Path) -> int:
    """A free port, and a certificate for it."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    return free_port()


_DIPPER_TOML: Final = """\
data_dir = "{folder}"

[listen]
hosts = ["127.0.0.1"]
port = {port}

[limits]
connections = {connections}
connections_per_address = {connections}
"""
_DIPPER_TLS: Final = """
[[tls]]
port = {port}
certificate = "{folder}/tls.pem"
key = "{folder}/tls.pem"
"""


@contextlib.contextmanager
def _str2str(path: Path, setup: Setup, folder: Path) -> Iterator[Running]:
    """RTKLIB's caster relays one stream of its own, taken from a plain connection."""
    push_port = free_port()
    port, log = push_port + 5000, folder / "str2str.log"
    command = [
        str(path),
        "-in",
        f"tcpsvr://:{push_port}",
        "-out",
        f"ntripc://{ROVER}:{PASSWORD}@:{port}/{setup.mount_names[0]}",
    ]
    with started(command, log) as process:
        wait_listening(process, port, log, 10.0)
        yield Running(process.pid, port, push_port, log, "raw")


@contextlib.contextmanager
def _millipede(path: Path, setup: Setup, folder: Path) -> Iterator[Running]:
    """Millipede, with the limits of its sample configuration; it checks no accounts of rovers."""
    port, log = free_port(), folder / "millipede.log"
    for name, line in (
        ("source.auth", "{mount}:source:" + PASSWORD),
        ("sourcetable.dat", "STR;{mount};{mount};RTCM3;4094(1);2;GPS;NONE;NONE;48.00;2.00;0;0;bench;none;N;N;6400;"),
    ):
        (folder / name).write_text("".join(line.format(mount=mount) + "\n" for mount in setup.mount_names))
    for name in ("host.auth", "blocklist"):
        (folder / name).write_text("")
    config = folder / "caster.yaml"
    config.write_text(_MILLIPEDE_YAML.format(folder=folder, port=port))
    with started([path, "-c", config], log) as process:
        wait_listening(process, port, log, 10.0)
        yield Running(process.pid, port, port, log)


_MILLIPEDE_YAML: Final = """\
listen:
  - port: {port}
    ip: 127.0.0.1
host_auth_file: {folder}/host.auth
blocklist_file: {folder}/blocklist
source_auth_file: {folder}/source.auth
sourcetable_file: {folder}/sourcetable.dat
access_log: {folder}/access.log
log: {folder}/caster.log
log_level: NOTICE
hysteresis_m: 500.0
backlog_socket: 114688
backlog_evbuffer: 16384
admin_user: admin
"""

_MANY: Final = 1_000_000
CASTERS: Final = (
    Caster("dipper", sys.executable, _MANY, _MANY, True, _dipper),
    Caster("str2str", "str2str", 1, 32, False, _str2str),
    Caster("millipede", "", _MANY, _MANY, False, _millipede),
)


def find_casters(given: dict[str, Path]) -> tuple[list[tuple[Caster, Path]], list[str]]:
    """The casters that can run here, and for each other one a line that says why it is left out.

    Raises:
        BenchError: A name that is not known, or a path without a program.
    """
    known = {caster.name for caster in CASTERS}
    for name, path in given.items():
        if name not in known:
            raise BenchError(f"--peer {name}: no such caster; there are {', '.join(sorted(known))}")
        if not shutil.which(path):
            raise BenchError(f"--peer {name}={path}: no program there")
    found, left_out = [], []
    for caster in CASTERS:
        where = given.get(caster.name) or (shutil.which(caster.program) if caster.program else None)
        if where:
            found.append((caster, Path(where)))
        else:
            left_out.append(
                f"{caster.name} is left out: " + ("not installed" if caster.program else "give its --peer PATH")
            )
    return found, left_out


def logged_errors(log: Path) -> str:
    """What our own caster has logged as errors; empty where there is nothing."""
    errors = [line for line in log.read_text(errors="replace").splitlines() if '"level": "error"' in line]
    return f"{len(errors)} errors in its log, such as {errors[0][:_LINE_SHOWN]}" if errors else ""
