"""`dipper serve`: the caster and its services, until a signal."""

import asyncio
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stations.commands.running import compile_apart

if TYPE_CHECKING:
    from caster.app import Caster
    from caster.config import Config
    from caster.solving import Carriers

__all__ = ["serve"]

_SWITCH_S = 0.0005
"""How long a thread keeps Python's lock from others. With 5 ms, the default, solver threads that come back from a
kernel wait for a busy event loop ten times in an epoch, and what the loop sends waits for them."""


def serve(
    config: Annotated[Path | None, typer.Option("--config", help="The TOML file; defaults where not given.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Listen here; 0: any free port.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", envvar="DIPPER_DATA_DIR", help="Accounts and archive.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that send to rovers, besides the one that does the rest.")
    ] = None,
    json_log: Annotated[bool, typer.Option("--json-log", help="Log lines as JSON.")] = False,
) -> None:
    """Run the caster and its services: SIGHUP reads the configuration again, SIGTERM drains and stops.

    Example: dipper serve --port 2101 --data-dir /var/lib/dipper
    """
    from caster.config import load_config
    from caster.logs import configure_logs
    from caster.loop import new_loop
    from caster.memory import bound_heap

    bound_heap()
    sys.setswitchinterval(_SWITCH_S)

    def read() -> "Config":
        return load_config(config, data_dir=data_dir, **{"listen.port": port, "listen.workers": workers})

    settings = read()
    _raise_descriptors()
    configure_logs(as_json=json_log or not sys.stderr.isatty())
    _warm_up_loop()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(settings, read))


async def _serve(settings: "Config", read: "Callable[[], Config]") -> None:
    from caster.app import Caster
    from caster.services import PositioningService
    from caster.systemd import Notifier, inherited_sockets

    service = PositioningService()
    warming = asyncio.create_task(_warm_up(up := asyncio.Event(), service.carriers), name="warm-up")
    async with Caster(settings, [service], inherited_sockets()) as caster:
        await caster.run_until_signal(read, lambda: _ready(caster, up), Notifier.from_environment())
        typer.echo("dipper: stopping", err=True)
    warming.cancel()
    await asyncio.wait([warming])


def _raise_descriptors() -> None:
    """Use as many open files as the system allows: the usual soft limit of 1,024 is for programs that use `select`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _ready(caster: "Caster", up: asyncio.Event) -> None:
    _announce(caster)
    up.set()


def _announce(caster: "Caster") -> None:
    """Say where it listens, and the first operator's password, which nobody can read later."""
    if caster.first_password:
        typer.echo(f"first start: the operator's account is 'operator', its password {caster.first_password}")
    hosts = ", ".join(caster.config.listen.hosts)
    tls = "".join(f", TLS on port {port}" for port in caster.server.tls_ports)
    admin = f", administration on port {caster.admin.port}" if caster.admin else ""
    typer.echo(f"dipper: listening on port {caster.port} ({hosts}){tls}{admin}; data in {caster.config.data_dir}")
    sys.stdout.flush()


def _warm_up_loop() -> None:
    """Compile what the event loop calls, before anybody waits for it."""
    from rich.console import Console

    from caster.warmup import warm_up
    from caster.warmup_steps import loop_steps

    warm_up(loop_steps(), Console(stderr=True), notice="Compiling what moves the streams, once for this version.")


async def _warm_up(up: asyncio.Event, carriers: "Carriers") -> None:
    """Once the service is up, compile what rovers will need, where that has not been done yet.

    Whoever needs a kernel later loads it in a moment. So a caster that only passes streams on never holds the solver's
    code.
    """
    from caster.memory import let_go

    await up.wait()
    let_go()
    await compile_apart(carriers)
