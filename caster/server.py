"""The listeners and what is behind them: admission, answers to requests, and the clock of all time-outs.

`Server` holds no state of a session; a session (`caster.session`) asks it for answers. What a request gets is in a
table by method. Admission has limits in all and per address; a connection over them is told so and closed.
"""

import asyncio
import socket
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from caster.accounts import Account
from caster.bans import Bans, Offence, origin_of
from caster.codec import websocket
from caster.codec.ntrip import Record, Request, build_table, parse_query, response
from caster.config import Config, Listen, TlsListen
from caster.errors import ConfigError, RefusedError
from caster.fanin import Fanin
from caster.fanout import Coding
from caster.gate import Certificate, Gate, is_within
from caster.hangups import Hangups
from caster.holders import Holders
from caster.logins import Authenticator
from caster.mountpoints import Mountpoint, Mountpoints
from caster.page import Visitor, example_of, host_of, page, rows_of
from caster.session import BANNED, Connection
from caster.sockets import adopt, bind

__all__ = ["Counters", "Server"]

_log = structlog.get_logger(__name__)

_TABLE_AGE_S = 2.0  # building a row costs some 20 us, so a large table is not built for everyone who asks
_DRAIN_S = 5.0
_SWEPT_AT_ONCE = 50
_RECEIVE_BYTES = 64 << 10  # taken in one read: a base station's epoch has 2 to 4 kB
# How a connection that never became a session may end, and be held against its address.
_OFFENCES = {
    "bad request": Offence.REQUEST,
    "bad PROXY header": Offence.REQUEST,
    "head time-out": Offence.REQUEST,
    "TLS on the plain port": Offence.REQUEST,
    "TLS handshake failed": Offence.REQUEST,
    "plain text on the TLS port": Offence.REQUEST,
    "closed before a request": Offence.FLOOD,
    "too many connections from this address": Offence.FLOOD,
}


@dataclass(slots=True)
class Counters:
    """What has happened since the start; read by whoever shows metrics.

    Attributes:
        accepted: Connections.
        open: Sessions that are open now, by mountpoint and kind.
        ended: By kind (rover, source, request) and reason.
        ended_at: Sessions of rovers and sources, by mountpoint and reason.
    """

    accepted: int = 0
    open: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended_at: Counter[tuple[str, str]] = field(default_factory=Counter)


class Server:
    """The caster's listeners.

    Args:
        config: The configuration.
        mountpoints: All mountpoints.
        authenticator: Who may do what.
        bans: Who is kept out.
        sockets: Listening sockets that were passed on to this process, by section: `listen`, `tls[0]`, ...

    Attributes:
        connections: All open connections.
        counters: What has happened.
        on_end: Called with each connection that ends.
        fanin: Reads from base stations.
        hangups: Tells when half-closed clients have gone.
        holders: Processes that hold rovers' sockets, where there are any.
        receive_buffer: Where the bytes of all connections arrive, one read at a time.
        port: The port listened on (of interest where the configuration says 0).
        tls_ports: The ports with TLS, one for each `[[tls]]`.
    """

    def __init__(
        self,
        config: Config,
        mountpoints: Mountpoints,
        authenticator: Authenticator,
        bans: Bans,
        sockets: Mapping[str, Sequence[socket.socket]] | None = None,
    ) -> None:
        self.config = config
        self._sockets = sockets or {}
        self.bans = bans
        self.mountpoints = mountpoints
        self.authenticator = authenticator
        self.counters = Counters()
        self.connections: set[Connection] = set()
        self.on_end: list[Callable[[Connection], object]] = []
        self.fanin = Fanin()
        self.hangups = Hangups()
        self.holders = Holders(config.listen.workers)
        self.receive_buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self.port = 0
        self.tls_ports: list[int] = []
        self._watched: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._listeners: list[asyncio.Server | Gate] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._table: tuple[float, list[Record], bytes] | None = None
        self._rows: tuple[object, str] = (None, "")
        self._numbers = 0
        self._drained = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._delayed = 0
        mountpoints.on_new.append(self._forget_table)
        bans.on_command.append(self._end_banned)
        self._answers: dict[str, Callable[[Connection, Request], Awaitable[None]]] = {
            "GET": self._answer_get,
            "SOURCE": self._answer_source,
            "POST": self._answer_source,
        }

    # ----- the life of the server

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: An address cannot be listened on.
        """
        certificates = [Certificate(config) for config in self.config.tls]
        try:
            await self.holders.start()
            self.port = await self._listen("listen", self.config.listen, None)
            for number, certificate in enumerate(certificates):
                self.tls_ports.append(await self._listen(f"tls[{number}]", self.config.tls[number], certificate))
        except ConfigError:
            await self.stop()
            raise
        self._sweeper = asyncio.create_task(self._sweep(), name="sweep time-outs")

    async def stop(self) -> None:
        """Stop listening, end every session in form, and wait shortly for the last bytes to leave."""
        self._drained.clear()
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.end("the caster stops")
        for task in list(self._handshakes):
            task.cancel()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), _DRAIN_S)
        for connection in list(self.connections):
            connection.end("the caster stops", abort=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*self._handshakes, *filter(None, [self._sweeper]), return_exceptions=True)
        for listener in self._listeners:
            await listener.wait_closed()
        await self.holders.stop()
        self.hangups.close()
        self.fanin.close()

    def reload(self, config: Config) -> None:
        """Take a new configuration; sessions go on."""
        self.config = config
        self.bans.reload(config.bans)
        self.mountpoints.reload(config)
        self.authenticator.forget()
        self._forget_table()
        for listener in self._listeners:
            if isinstance(listener, Gate):
                listener.reload()

    # ----- called by gates and connections

    def connection(self, address: str = "") -> Connection:
        """A new connection, of a client whose address a proxy has told."""
        self._numbers += 1
        return Connection(self, self._numbers, address)

    def now(self) -> float:
        """The loop's time, s."""
        return self._clock()

    def utc(self) -> datetime:
        """The time for the heads of answers."""
        return datetime.now(UTC)

    def admit(self, connection: Connection) -> str:
        """Count a new connection; return why it is refused, or an empty text.

        Of those that a ban keeps out, a few are let in as far as to be told so; `BANNED` is for the others.
        """
        limits = self.config.limits
        self.counters.accepted += 1
        self.connections.add(connection)
        self._watched.add(connection)
        self._per_address[connection.origin] += 1
        ban = self.bans.find(connection.address)
        if ban is not None and not self.bans.explains(ban):
            return BANNED
        if len(self.connections) > limits.connections:
            return "too many connections"
        if self._per_address[connection.origin] > limits.connections_per_address and not self._is_trusted(connection):
            return "too many connections from this address"
        return ""

    def forget(self, connection: Connection) -> None:
        """A connection is no more."""
        self.connections.discard(connection)
        self._watched.discard(connection)
        self._per_address[connection.origin] -= 1
        if not self._per_address[connection.origin]:
            del self._per_address[connection.origin]
        if not self.connections:
            self._drained.set()

    def count_end(self, kind: str, reason: str, address: str, mount: str = "") -> None:
        """Count the end of a connection, and hold it against its address where it was an offence.

        Args:
            kind: `rover`, `source`, or `request` where there was no session.
            reason: Why it ended; what is before a colon counts.
            address: The peer's.
            mount: The session's mountpoint; what a request named that got none is anybody's text.
        """
        short = reason.partition(":")[0]
        self.counters.ended[kind, short] += 1
        if kind != "request":
            self.counters.ended_at[mount, short] += 1
            self.counters.open[mount, kind] -= 1
            if not self.counters.open[mount, kind]:
                del self.counters.open[mount, kind]
        offence = _OFFENCES.get(short)
        if kind == "request" and offence is not None:
            self.offend(address, offence)

    def offend(self, address: str, offence: Offence) -> None:
        """Hold something against an address."""
        origin = origin_of(address)
        self.bans.offend(
            address, offence, lambda: sum(other.has_session and other.origin == origin for other in self.connections)
        )

    def delay(self, connection: Connection, refuse: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Refuse a wrong password later, without a task; at once (None) where too many wait already."""
        limits = self.config.limits
        if self._delayed >= limits.delayed or not limits.refusal_delay_s:
            return None
        before = min(self.bans.count(connection.address, Offence.PASSWORD), 20)
        delay_s = min(limits.refusal_delay_s * 2.0 ** max(before - 1, 0), limits.refusal_delay_max_s)
        self._delayed += 1
        return asyncio.get_running_loop().call_later(delay_s, refuse)

    def end_delay(self, timer: asyncio.TimerHandle) -> None:
        """A refusal has been sent, or its client has gone."""
        timer.cancel()
        self._delayed -= 1

    def watch(self, connection: Connection) -> None:
        """Look at the clock for a connection."""
        if connection in self.connections:
            self._watched.add(connection)

    def unwatch(self, connection: Connection) -> None:
        """No time-out can happen to a connection now."""
        self._watched.discard(connection)

    def start_handshake(self, handshake: Coroutine[Any, Any, None], number: int) -> None:
        """Run a handshake; as a task of the server from where it waits: a login that is known waits for nothing."""
        try:
            awaited = handshake.send(None)
        except StopIteration:
            return
        task = asyncio.create_task(_go_on(handshake, awaited), name=f"handshake {number}")
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def answer(self, connection: Connection, request: Request) -> None:
        """Answer a request.

        Raises:
            RefusedError: It is refused.
            RemoteProtocolError: It is no request that the protocol knows.
        """
        ban = self.bans.find(connection.address)
        if ban is not None:
            raise RefusedError(str(ban), 429)
        if len(self._handshakes) > self.config.limits.handshakes:
            raise RefusedError("too many logins at this moment", 503)
        answer = self._answers.get(request.method)
        if answer is None:
            raise RefusedError(f"the method {request.method} is not known here", 501)
        await answer(connection, request)

    # ----- answers

    async def _answer_get(self, connection: Connection, request: Request) -> None:
        if request.from_browser:
            self._answer_browser(connection, request)
            return
        if not request.mount:
            await self._answer_table(connection, request)
            return
        mountpoint = self.mountpoints.get(request.mount)
        if mountpoint is None:
            if request.version == 1:
                connection.finish(response.table(request, self._whole_table(), self.config.server_name, self.utc()))
                return
            raise RefusedError(f"there is no mountpoint {request.mount}", 404)
        account = None if mountpoint.config.open else await self._login_rover(connection, request, mountpoint)
        if refusal := mountpoint.refusal:
            raise RefusedError(f"mountpoint {request.mount} {refusal}", 503)
        coding, head = self._open_stream(request, mountpoint)
        if connection.is_closing:
            return
        if account is not None:
            self.authenticator.begin_session(account)
        connection.become_rover(head, mountpoint, account, coding)

    def _open_stream(self, request: Request, mountpoint: Mountpoint) -> tuple[Coding, bytes]:
        """How the stream is sent, and the head that says so."""
        if websocket.is_upgrade(request):
            return "websocket", websocket.upgraded(request, self.config.server_name, self.utc())
        chunked = self._chunked(request, mountpoint)
        head = response.stream_opened(request, self.config.server_name, self.utc(), chunked=chunked)
        return "chunked" if chunked else "plain", head

    async def _login_rover(self, connection: Connection, request: Request, mountpoint: Mountpoint) -> Account:
        is_upgrade = websocket.is_upgrade(request)
        credentials = websocket.credentials_of(request) if is_upgrade else request.credentials
        account = await self.authenticator.login(credentials, connection.origin)
        if not account.covers(mountpoint.name):
            raise RefusedError(f"the account {account.name} does not cover mountpoint {mountpoint.name}", 403)
        return account

    def _chunked(self, request: Request, mountpoint: Mountpoint) -> bool:
        """Version 2 streams are chunked, unless the mountpoint or the client's kind wants them plain."""
        if request.version == 1 or request.http != "HTTP/1.1":
            return False
        configured = mountpoint.config.output
        return (self.config.output_for(request.agent) if configured == "auto" else configured) != "identity"

    async def _answer_table(self, connection: Connection, request: Request) -> None:
        text = self._whole_table()
        if request.query:
            text = build_table(await self._ask_table(connection, request))
        connection.finish(response.table(request, text, self.config.server_name, self.utc()))

    async def _ask_table(self, connection: Connection, request: Request) -> list[Record]:
        query = parse_query(request.query)
        account = None
        if query.auth and request.credentials:
            account = await self.authenticator.login(request.credentials, connection.origin)

        def allowed(name: str) -> bool:
            mountpoint = self.mountpoints.get(name)
            return mountpoint is not None and (mountpoint.config.open or (account is not None and account.covers(name)))

        return query.select(self._records(), allowed)

    async def _answer_source(self, connection: Connection, request: Request) -> None:
        if not request.mount:
            raise RefusedError("the request names no mountpoint", 404)
        account = await self._login_source(connection, request)
        if connection.is_closing:
            return
        mountpoint = self.mountpoints.for_source(request.mount)
        self._make_way(mountpoint, account)
        self.authenticator.begin_session(account)
        go_on = response.CONTINUE if request.expects_continue else b""
        head = response.source_accepted(request, self.config.server_name, self.utc())
        connection.become_source(go_on + head, mountpoint, account)

    async def _login_source(self, connection: Connection, request: Request) -> Account:
        if request.password is not None:
            return await self.authenticator.login_source(request.mount, request.password, connection.origin)
        account = await self.authenticator.login(request.credentials, connection.origin)
        if not account.may_feed(request.mount):
            raise RefusedError(f"the account {account.name} may not feed mountpoint {request.mount}", 403)
        return account

    def _make_way(self, mountpoint: Mountpoint, account: Account) -> None:
        """A mountpoint has one source; the same account takes over from a connection that has gone silent."""
        source = mountpoint.source
        if source is None:
            return
        silent_s = self.now() - mountpoint.source_last_s
        if source.account != account.name or silent_s < self.config.limits.takeover_s:
            raise RefusedError(f"mountpoint {mountpoint.name} is fed already", 409)
        source.close("taken over")

    # ----- the sourcetable

    def _forget_table(self, _new: Mountpoint | None = None) -> None:
        """Build the table anew for whoever asks next: a mountpoint that has just been pushed to is to be seen."""
        self._table = None

    def _records(self) -> list[Record]:
        if self._table is None or self.now() - self._table[0] > _TABLE_AGE_S:
            records = self.mountpoints.records(self.port)
            self._table = (self.now(), records, build_table(records))
        return self._table[1]

    def _whole_table(self) -> bytes:
        self._records()
        assert self._table is not None
        return self._table[2]

    def _answer_browser(self, connection: Connection, request: Request) -> None:
        """A page for a person, whatever the address: what there is, and how to connect."""
        records, info = self._records(), self.config.caster
        if self._rows[0] is not records:
            self._rows = (records, rows_of(records))
        name = request.mount
        is_known = not name or self.mountpoints.get(name) is not None
        notice = f"{name} is a stream for receivers." if name else ""
        example = name if name and is_known else example_of(records)
        host = host_of(request.headers.get("host", ""), info.host or "this.caster")
        bans = self.config.bans
        wrong = self.bans.count(connection.address, Offence.PASSWORD)
        visitor = Visitor(connection.address, wrong, bans.wrong_passwords, bans.window_s)
        html = page(
            info,
            self._rows[1],
            example,
            host,
            self.port,
            self.tls_ports[0] if self.tls_ports else None,
            visitor,
            notice if is_known else f"There is no mountpoint {name}.",
        )
        status = 200 if is_known else 404
        connection.finish(response.page(html, self.config.server_name, self.utc(), status))

    # ----- inside

    async def _listen(self, key: str, config: Listen | TlsListen, certificate: Certificate | None) -> int:
        """Listen on all addresses of a section, or on the sockets passed on for it; return the port."""
        sockets = [adopt(key, sock, self.config.limits) for sock in self._sockets.get(key, ())] or self._bind(
            key, config
        )
        for sock in sockets:
            queue = self.config.listen.queue
            if certificate is not None or self.config.listen.proxies:
                sock.listen(queue)
                self._listeners.append(Gate(self, sock, certificate))
            else:
                loop = asyncio.get_running_loop()
                self._listeners.append(await loop.create_server(self.connection, sock=sock, backlog=queue))
        return int(sockets[0].getsockname()[1])

    def _bind(self, key: str, config: Listen | TlsListen) -> list[socket.socket]:
        """Sockets on all addresses of a section, with one port."""
        port, sockets = config.port, list[socket.socket]()
        for host in config.hosts:
            try:
                sock = bind(key, host, port, self.config.limits, has_other=bool(sockets))
            except ConfigError:
                for other in sockets:
                    other.close()
                raise
            if sock is not None:
                sockets.append(sock)
                port = sock.getsockname()[1]
        if not sockets:
            raise ConfigError(f"{key}.hosts: none of the addresses can be listened on")
        return sockets

    def _end_banned(self) -> None:
        """End the sessions that an operator's ban meets; those of an automatic one have done no harm."""
        for connection in list(self.connections):
            if self.bans.find(connection.address, by_operator=True) is not None:
                connection.end(BANNED)

    def _is_trusted(self, connection: Connection) -> bool:
        """Connections from these networks are not limited per address."""
        return is_within(connection.address, self.config.listen.trusted)

    async def _sweep(self) -> None:
        """Once a second, look at the clock for the connections that a time-out can happen to, some in each turn."""
        while True:
            await asyncio.sleep(1.0)
            now_s = self.now()
            for number, connection in enumerate(list(self._watched)):
                if number % _SWEPT_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if connection in self._watched:
                    connection.check(now_s)


async def _go_on(started: Coroutine[Any, Any, None], awaited: object) -> None:
    """A coroutine that was begun outside of a task, from where it waits for something."""
    await _rest(started, awaited)


@types.coroutine
def _rest(started: Coroutine[Any, Any, None], awaited: object) -> Generator[object, Any, None]:
    while True:
        try:
            value = yield awaited
        except BaseException as error:  # a cancellation, in nearly all cases
            step = partial(started.throw, error)
        else:
            step = partial(started.send, value)
        try:
            awaited = step()
        except StopIteration:
            return
