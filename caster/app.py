"""The composition root: everything of the service is built here, once, and passed down.

`Caster` is used as an asynchronous context manager: entering it opens the accounts and the mountpoints and listens;
leaving it drains and stops. Services (the solver's engine and what it feeds) join as `Service`s: they bring kinds of
mountpoints, and watch the mountpoints appear.
"""

import asyncio
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from caster.accounts import Account, AccountStore, hash_password
from caster.admin import AdminServer
from caster.bans import Bans, BanStore
from caster.catalogue import Catalogue
from caster.config import AlertsConfig, Config, MountConfig, MqttConfig, TlsListen, UpstreamConfig
from caster.database import Database
from caster.derived import DerivedMountpoint
from caster.errors import ConfigError, DipperError
from caster.gate import Certificate, is_within
from caster.logins import Authenticator
from caster.mountpoints import KindFactory, Mountpoints
from caster.operations import Operations
from caster.positions import PositionLog, PositionStore
from caster.relay import RelayMountpoint
from caster.rights import RightsWatch
from caster.rover_relay import RoverRelayMountpoint
from caster.server import Server
from caster.systemd import Notifier
from caster.usage import UsageRecorder, UsageStore

__all__ = ["Caster", "Service", "check"]

_log = structlog.get_logger(__name__)

OPERATOR = "operator"


class Service(Protocol):
    """A part of the caster that brings kinds of mountpoints.

    Attributes:
        kinds: Factories of mountpoints, by the name of the kind.
    """

    kinds: Mapping[str, KindFactory]

    def attach(self, mountpoints: Mountpoints) -> None:
        """The mountpoints are about to open, in the running event loop; `mountpoints.on_new` tells of each."""

    def close(self) -> None:
        """The sessions have ended: end threads and tasks."""


class Caster:
    """The whole service in one event loop.

    Args:
        config: The configuration.
        services: What is there besides stations and aliases.
        sockets: Listening sockets that were passed on to this process, by section of the configuration.

    Attributes:
        database: What is shared with the commands.
        store: The accounts.
        authenticator: Logins.
        bans: Who is kept out.
        mountpoints: All mountpoints.
        catalogue: Other casters' tables as mountpoints.
        server: The listeners.
        usage: What accounts use; None where it is switched off.
        positions: The log of positions; None where none is configured.
        admin: The administration interface, or None where none is configured.
        operations: Health, metrics and what else serves the operator.
        first_password: Of the operator's account, where this start made it; else empty.
    """

    def __init__(
        self,
        config: Config,
        services: Sequence[Service] = (),
        sockets: Mapping[str, Sequence[socket.socket]] | None = None,
    ) -> None:
        self.config = config
        self._services = services
        self._sockets = sockets
        self.first_password = ""
        self.admin: AdminServer | None = None
        self._read_config: Callable[[], Config] | None = None

    async def __aenter__(self) -> Self:
        """Open and listen."""
        config = self.config
        _make_folder(config.data_dir)
        self.database = Database(config.database_url)
        self.store = AccountStore(self.database)
        try:
            await self.database.open()
            self.first_password = await _ensure_operator(self.store)
            self.authenticator = Authenticator(self.store, config.accounts, asyncio.get_running_loop().time)
            self.mountpoints = Mountpoints(config, _kinds(self._services))
            for service in self._services:
                service.attach(self.mountpoints)
            self.mountpoints.open()
            self.catalogue = Catalogue(config, self.mountpoints)
            self.bans = Bans(config.bans, BanStore(self.database), self._is_exempt, asyncio.get_running_loop().time)
            await self.bans.load()
            self.server = Server(config, self.mountpoints, self.authenticator, self.bans, self._sockets)
            self.usage = UsageRecorder(config.usage, UsageStore(self.database)) if config.usage.enabled else None
            if self.usage is not None:
                self.authenticator.why_spent = self.usage.why_spent
                self.server.on_end.append(self.usage.take)
            self.positions = self._make_positions() if config.positions.enabled else None
            rights = RightsWatch(self.store, lambda: self.server.connections, self.authenticator.forget)
            self.operations = Operations(config, self.mountpoints, self.server, rights, self.usage, self.positions)
            await self.operations.start()
            try:
                await self.server.start()
                await self._start_admin()
            except BaseException:
                await self.server.stop()
                await self.operations.stop()
                raise
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and stop."""
        if self.admin is not None:
            await self.admin.stop()
        await self.server.stop()
        await self.catalogue.close()
        self.mountpoints.close()
        await self.operations.stop()
        for service in self._services:
            service.close()
        await self.authenticator.close()
        await self.database.close()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.server.port

    def _is_exempt(self, address: str) -> bool:
        """Trusted networks and proxies are never banned."""
        return is_within(address, (*self.config.listen.trusted, *self.config.listen.proxies))

    def reload(self, config: Config) -> None:
        """Take a new configuration; listeners, data directory and database stay as they are until the next start."""
        self.config = config
        self.server.reload(config)
        self.catalogue.reload(config)
        self.operations.reload(config)

    async def run_until_signal(
        self, read_config: Callable[[], Config], ready: Callable[[], None], notifier: Notifier | None = None
    ) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again.

        Args:
            read_config: Reads it.
            ready: Called once signals are heard: only now may anybody be told that the service is up.
            notifier: Tells systemd.
        """
        notifier = notifier or Notifier()
        self._read_config = read_config
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def read_again() -> None:
            notifier.reloading()
            try:
                self.read_again()
            except DipperError as error:
                _log.error("the configuration stays as it was", error=str(error))
            notifier.ready(self._status())

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, read_again)
        alive = loop.create_task(notifier.keep_alive(), name="watchdog")
        try:
            ready()
            notifier.ready(self._status())
            await stop.wait()
            notifier.stopping()
        finally:
            alive.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def read_again(self) -> None:
        """Read the configuration again.

        Raises:
            DipperError: It is wrong, and stays as it was.
        """
        if self._read_config is None:
            raise ConfigError("this service has no configuration to read again")
        self.reload(self._read_config())
        _log.info("configuration read again")

    def _make_positions(self) -> PositionLog:
        log = PositionLog(self.config.positions, PositionStore(self.database), asyncio.get_running_loop().time)
        self.mountpoints.on_position.append(log.take)
        return log

    async def _start_admin(self) -> None:
        if self.config.admin.port is not None:
            self.admin = AdminServer(self.config.admin, self)
            await self.admin.start()

    def _status(self) -> str:
        ports = ", ".join(map(str, [self.port, *self.server.tls_ports]))
        return f"listening on port {ports}, {len(self.config.mounts)} mountpoints configured"


def check(config: Config, services: Sequence[Service] = ()) -> list[str]:
    """Look at what a start would stumble over, without starting anything.

    Returns:
        What is no error and may still be none's intention, a line for each.

    Raises:
        ConfigError: A mountpoint's kind is not known, there is no such kind of database, or a certificate or its key
            cannot be read.
    """
    Mountpoints(config, _kinds(services)).check()
    Database(config.database_url)
    for listener in config.tls:
        Certificate(listener)
    admin = config.admin
    if admin.certificate is not None and admin.key is not None:
        Certificate(TlsListen(certificate=admin.certificate, key=admin.key), "admin")
    for key, path in _authorities(config):
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"{key}.ca_file: {path}: {error.strerror or error}") from None
    return list(_notes(config))


def _authorities(config: Config) -> Iterator[tuple[str, Path]]:
    """All files of certificates to trust."""
    sections: list[tuple[str, AlertsConfig | MqttConfig | UpstreamConfig | MountConfig]] = [
        ("alerts", config.alerts),
        ("mqtt", config.mqtt),
        *((f"upstreams[{number}]", upstream) for number, upstream in enumerate(config.upstreams)),
        *((f"mounts[{number}]", rule) for number, rule in enumerate(config.mounts)),
    ]
    for key, section in sections:
        if section.ca_file is not None:
            yield key, section.ca_file


def _notes(config: Config) -> Iterator[str]:
    """Mountpoints that stand for none, or for one that cannot be what is asked of it."""
    kinds = {rule.name: rule.kind for rule in config.mounts}
    for rule in config.mounts:
        name = rule.target or rule.source
        if name and name not in kinds:
            yield f"mounts: {rule.name}: no mountpoint is named {name}; it is offline until a station makes it"
        elif rule.target and kinds[name] == "alias":
            yield f"mounts: {rule.name}: {name} is an alias, too; {rule.name} stays offline"
        elif rule.source and kinds[name] not in ("station", "relay"):
            yield f"mounts: {rule.name}: {name} is neither a station nor a relay; {rule.name} stays offline"
    if config.mqtt.host and config.mqtt.rovers and config.mqtt.rovers not in kinds:
        yield f"mqtt.rovers: no mountpoint is named {config.mqtt.rovers}; rovers by topic are refused until there is"


def _kinds(services: Sequence[Service]) -> dict[str, KindFactory]:
    """All kinds of mountpoints by name, besides the plain ones."""
    kinds: dict[str, KindFactory] = {
        "relay": RelayMountpoint,
        "rover-relay": RoverRelayMountpoint,
        "derived": DerivedMountpoint,
    }
    for service in services:
        kinds |= service.kinds
    return kinds


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data_dir: {path}: {error.strerror}") from None


async def _ensure_operator(store: AccountStore) -> str:
    """Make an operator's account where there is none; return its password, which nobody can read again.

    Accounts may be added before the service has ever run, so that an empty database is not what tells a first start.
    """
    if await store.has_role("operator") or await store.get(OPERATOR) is not None:
        return ""
    password = secrets.token_urlsafe(12)
    password_hash = await asyncio.to_thread(hash_password, password)
    await store.add(Account(OPERATOR, "operator", password_hash))
    return password
