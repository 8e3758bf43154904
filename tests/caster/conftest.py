"""A real caster on a free port of the loopback, with accounts of every role."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caster.accounts import Account, hash_password
from caster.app import Caster
from caster.app import Service as CasterService
from caster.codec.ntrip import Credentials, get_request
from caster.codec.rtcm import make_frame
from caster.config import Config, load_config
from caster.database import Database
from tests.caster.postgres import Cluster

ROVER = Credentials("rover", "ro:ver")
STATION = Credentials("base", "pa ss")
OTHER_STATION = Credentials("other", "secret")
PATIENCE_S = 10.0  # for what should happen at once, on a busy machine

_HASHES: dict[str, str] = {}


def frame(kind: int, fill: bytes = b"\x00" * 20) -> bytes:
    """An RTCM frame of a message type with any content."""
    return make_frame(bytes([kind >> 4, (kind & 15) << 4]) + fill)


@dataclass
class Peer:
    """A client's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), PATIENCE_S)

    async def until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), PATIENCE_S)

    async def all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), PATIENCE_S)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@dataclass
class Service:
    """A running caster, and clients of it that are closed at the end."""

    caster: Caster
    stack: AsyncExitStack

    @property
    def port(self) -> int:
        return self.caster.port

    async def connect(self, data: bytes = b"") -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self.stack.push_async_callback(peer.close)
        if data:
            await peer.send(data)
        return peer

    async def ask(self, data: bytes) -> bytes:
        """Send, and return all that comes until the caster closes."""
        peer = await self.connect(data)
        return await peer.all()

    async def feed(self, mount: str = "M", password: str = STATION.password) -> Peer:
        """A version 1 base station that has been let in."""
        peer = await self.connect(f"SOURCE {password} /{mount}\r\n\r\n".encode())
        assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
        return peer

    async def follow(self, mount: str = "M", version: int = 1) -> Peer:
        """A rover that follows a mount."""
        peer = await self.connect(get_request(mount, "caster", version=version, credentials=ROVER))
        await peer.until(b"\r\n\r\n")
        mountpoint = self.caster.mountpoints.get(mount)
        assert mountpoint is not None
        await self.wait(lambda: len(mountpoint.mount) > 0)
        return peer

    async def ended(self, kind: str, reason: str, count: int = 1) -> None:
        """Wait until so many sessions of a kind have ended for a reason."""
        await self.wait(lambda: self.caster.server.counters.ended[kind, reason] >= count)

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


StartService = Callable[..., Awaitable[Service]]


def service_config(data_dir: Path, **overrides: Any) -> Config:
    values = {
        "data_dir": data_dir,
        "listen.port": 0,
        "listen.hosts": ["127.0.0.1"],
        "limits.refusal_delay_s": 0.05,
        "accounts.refresh_s": 0.05,
        "mounts": [{"name": "OPEN*", "open": True}],
        **overrides,
    }
    return load_config(None, **values)


def quick_hash(password: str) -> str:
    """Hash each of the tests' passwords once."""
    return _HASHES.setdefault(password, hash_password(password))


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartService]:
    """Start a caster with other settings than the default ones: `await start(**{"limits.mounts": 3})`."""
    async with AsyncExitStack() as stack:

        async def start_service(*services: CasterService, **overrides: Any) -> Service:
            caster = await stack.enter_async_context(Caster(service_config(tmp_path, **overrides), services))
            for who, role in ((ROVER, "rover"), (STATION, "station"), (OTHER_STATION, "station")):
                await caster.store.add(Account(who.user, role, quick_hash(who.password)))
            return Service(caster, stack)

        yield start_service


@pytest.fixture
async def service(start: StartService) -> Service:
    """A caster with the tests' default settings."""
    return await start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server; the test is skipped where none is installed."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'people.sqlite3'}"
    cluster: Cluster = request.getfixturevalue("postgres")
    return await cluster.new_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind with the newest tables."""
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()
