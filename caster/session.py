"""One connection: its request, its answer, and its life as a rover or a base station.

`Connection` is the asyncio protocol. It feeds a `RequestReader`; once the head is whole, the handshake runs as a task
of the server (a login may wait for a thread) while reading is paused, and ends in one of: an answer and the end of the
connection, a `RoverSession`, or a `SourceSession`, to which the later bytes go. Nothing is parsed or awaited here:
time-outs are `check`s that the server calls once a second for the connections that can run into one.

Every connection ends once, in `end`, with a reason of few words that is logged and counted.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from caster.accounts import Account
from caster.bans import Offence, origin_of
from caster.codec import websocket
from caster.codec.ntrip import ChunkedDecoder, Gga, GgaExtractor, Request, RequestReader, TlsHello, parse_gga, response
from caster.errors import RefusedError, RemoteProtocolError, WrongPasswordError
from caster.fanout import Coding
from caster.hub import Mount, Subscriber
from caster.mountpoints import Mountpoint
from caster.usage import SessionState

if TYPE_CHECKING:
    from caster.server import Server

__all__ = ["BANNED", "Connection", "RoverSession", "SourceSession"]

_log = structlog.get_logger(__name__)

_BARE_REQUEST_S = 1.0  # a `GET /` without headers is taken as it is after this silence
_HALF_CLOSE_S = 5.0
BANNED = "banned"  # why a connection ends that gets no answer
# Port scans, health checks and broken clients are counted; a line for each would flood the log.
_QUIET_REASONS = frozenset(
    {
        "answered",
        "bad request",
        BANNED,
        "closed before a request",
        "closed by the client",
        "connection lost",
        "head time-out",
        "too many connections from this address",
    }
)


class _Handler(Protocol):
    """What a connection hands its bytes to, once it has a role."""

    kind: str
    holder: Account | None

    @property
    def gga(self) -> Gga | None: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def receive(self, data: bytes) -> None: ...
    def receive_eof(self) -> None: ...
    def check(self, now_s: float) -> None: ...
    def leave(self) -> None: ...
    def summary(self) -> dict[str, object]: ...


class Connection(asyncio.BufferedProtocol):
    """One TCP connection.

    asyncio reads into one buffer that all connections share, since what came is taken before anything else is read; a
    buffer for each read costs more than all that is done with what came.

    Attributes:
        number: Unique in this process.
        address: The peer's address.
        origin: Whom the address is counted with.
        request: What it asked, once known.
        received_bytes: After the head.
    """

    __slots__ = (
        "_answering",
        "_delay",
        "_flushing_since",
        "_handler",
        "_heard_s",
        "_opened_s",
        "_reader",
        "_reason",
        "_watched",
        "address",
        "number",
        "origin",
        "received_bytes",
        "request",
        "server",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: "Server", number: int, address: str = "") -> None:
        self.server = server
        self.number = number
        self.address = address
        self.origin = address
        self.request: Request | None = None
        self.received_bytes = 0
        self._opened_s = server.now()
        self._heard_s = self._opened_s
        self._reader: RequestReader | None = None
        self._handler: _Handler | None = None
        self._reason = ""
        self._answering = False
        self._delay: asyncio.TimerHandle | None = None
        self._flushing_since: float | None = None
        self._watched: Any = None

    # ----- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        limits = self.server.config.limits
        transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self.address = self.address or (peer[0].removeprefix("::ffff:") if peer else "")
        self.origin = origin_of(self.address)
        self._reader = RequestReader(limits.head_bytes, limits.head_lines)
        refusal = self.server.admit(self)
        if refusal and refusal != BANNED:
            self._write_refusal(503, refusal)
        if refusal:
            self.end(refusal, abort=refusal == BANNED)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self.server.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many came."""
        self.data_received(bytes(self.server.receive_buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            if self._handler is not None:
                self.received_bytes += len(data)
                self._handler.receive(data)
            elif self._reader is not None and not self._reason:
                self._heard_s = self.server.now()
                self._on_head(self._reader.receive_data(data))
        except RemoteProtocolError as error:
            self._on_bad_bytes(error)
        except Exception:
            _log.exception("session failed", session=self.number)
            self.end("internal error")

    def eof_received(self) -> bool:
        """The client sends no more; a rover may still want its stream (so the transport stays open)."""
        if self._handler is not None:
            self._handler.receive_eof()
        elif not self._answering:
            self._take_bare_request()
        if self._reason or self.transport.get_extra_info("sslcontext") is not None:  # TLS ends both ways at once
            return False
        self._watched = self.transport.get_extra_info("socket")
        if self._watched is not None:  # None: another process holds it, and watches
            self.server.hangups.watch(self._watched, self._on_hangup)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is no more."""
        if self._watched is not None:
            self.server.hangups.forget(self._watched)
        self.end("connection lost" if error else "closed by the client")
        self.server.forget(self)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._flushing_since = self.server.now()
        self.server.watch(self)
        if isinstance(self._handler, RoverSession):
            self._handler.outlet.stall(self._flushing_since)

    def resume_writing(self) -> None:
        """The socket has taken all."""
        self._flushing_since = None
        if isinstance(self._handler, RoverSession):
            self._handler.outlet.resume()
            self.server.unwatch(self)

    # ----- called by the server

    def check(self, now_s: float) -> None:
        """Look at the clock: has a time-out passed?"""
        limits = self.server.config.limits
        if self._flushing_since is not None and now_s - self._flushing_since > limits.write_timeout_s:
            self.end("too slow", abort=True)
        elif self._handler is not None:
            self._handler.check(now_s)
        elif self._answering or self._reason:
            return
        elif now_s - self._opened_s > limits.head_timeout_s:
            self._write_refusal(408, f"no whole request within {limits.head_timeout_s:g} s")
            self.end("head time-out")
        elif now_s - self._heard_s > _BARE_REQUEST_S:
            self._take_bare_request(final=False)

    def end(self, reason: str, *, abort: bool = False) -> None:
        """End the connection, once; what is in the transport's buffer is still sent, unless aborted."""
        if self._reason:
            if abort:
                self.transport.abort()
            return
        self._reason = reason
        if self._delay is not None:
            self.server.end_delay(self._delay)
        if self._handler is not None:
            self._handler.leave()
        self._report()
        if abort:
            self.transport.abort()
        else:
            self.transport.close()
            self.server.watch(self)  # a client that never reads must not hold its last bytes for ever

    # ----- the head and the answer

    def _take_bare_request(self, *, final: bool = True) -> None:
        """A request line without headers and blank line, by a client that waits or has half-closed."""
        assert self._reader is not None
        try:
            request = self._reader.receive_eof()
        except RemoteProtocolError as error:
            self._on_bad_bytes(error)
            return
        if request is not None and (final or not request.http):
            self._on_head(request)
        elif final:
            self.end("closed before a request")

    def _on_head(self, request: Request | TlsHello | None) -> None:
        if isinstance(request, TlsHello):
            self.end("TLS on the plain port", abort=True)
        elif request is not None:
            self.request = request
            self._answering = True
            self.transport.pause_reading()
            self.server.start_handshake(self._handshake(request), self.number)

    async def _handshake(self, request: Request) -> None:
        try:
            await self.server.answer(self, request)
        except (RefusedError, RemoteProtocolError) as error:
            if isinstance(error, WrongPasswordError):
                self.server.offend(self.address, Offence.PASSWORD)
            refuse = partial(self._refuse, request, error.status, str(error))
            if error.status == 401:  # a client that tries passwords, or one that loops, is slowed down
                self._delay = self.server.delay(self, refuse)
            if self._delay is None:
                refuse()
        except Exception:
            _log.exception("handshake failed", session=self.number, mount=request.mount)
            self._refuse(request, 500, "internal error")
        else:
            self._answering = False

    def _refuse(self, request: Request, status: int, reason: str) -> None:
        if not self._reason:
            self._write_refusal(status, reason, request)
            self.end(f"refused: {status} {reason}")

    def _write_refusal(self, status: int, reason: str, request: Request | None = None) -> None:
        config = self.server.config
        realm = request.mount if request else ""
        self.transport.write(response.refusal(status, reason, config.server_name, self.server.utc(), request, realm))

    def _on_bad_bytes(self, error: RemoteProtocolError) -> None:
        if self._handler is None:
            self._write_refusal(error.status, str(error))
        self.end("bad request" if self._handler is None else f"bad stream: {error}")

    # ----- called by the server's answers and the sessions

    def age_s(self) -> float:
        """Seconds since the client connected."""
        return self.server.now() - self._opened_s

    @property
    def reason(self) -> str:
        """Why the connection has ended; empty before."""
        return self._reason

    @property
    def mount(self) -> str:
        """The mountpoint that was asked for."""
        return self.request.mount if self.request is not None else ""

    @property
    def holder(self) -> Account | None:
        """Whose session it is; None for one that needed no account, and where there is none."""
        return self._handler.holder if self._handler is not None and not self._reason else None

    def change_holder(self, account: Account) -> None:
        """The session's account has other limits or another group now."""
        if self._handler is not None and self._handler.holder is not None:
            self.server.authenticator.exchange_session(self._handler.holder, account)
            self._handler.holder = account

    def may_go_on(self, account: Account) -> bool:
        """The account, as it is now, covers what the session does."""
        return account.covers(self.mount) if self.rover is not None else account.may_feed(self.mount)

    @property
    def has_session(self) -> bool:
        """It is a rover or a base station that was let in."""
        return self._handler is not None

    def state(self) -> SessionState | None:
        """The session as it stands, if there is one."""
        session, request = self._handler, self.request
        if session is None or request is None:
            return None
        return SessionState(
            self.number,
            session.kind,
            session.holder,
            request.mount,
            self.address,
            request.agent,
            self.age_s(),
            session.sent_bytes,
            self.received_bytes,
            session.dropped,
            session.gga,
        )

    @property
    def is_closing(self) -> bool:
        """The connection has ended, or its client has gone during the handshake."""
        return bool(self._reason) or self.transport.is_closing()

    @property
    def rover(self) -> "RoverSession | None":
        """The session of a connection that is a rover's."""
        return self._handler if isinstance(self._handler, RoverSession) else None

    @property
    def is_movable(self) -> bool:
        """Another process may hold the socket: no end was met or reached, and nothing waits."""
        return not (self.is_closing or self._watched or self.transport.get_write_buffer_size())

    def move(self, transport: asyncio.Transport) -> None:
        """Go on with another transport to the same client; the present one is let go without a word to the client."""
        self.transport.set_protocol(asyncio.Protocol())
        self.transport.abort()
        self.transport = transport

    def finish(self, data: bytes, reason: str = "answered") -> None:
        """Send a whole answer and end."""
        self.transport.write(data)
        self.end(reason)

    def become_rover(self, head: bytes, mountpoint: Mountpoint, account: Account | None, coding: Coding) -> None:
        """Answer with a stream's head; the stream follows a moment later.

        Naive clients read the head as text with their first read, so that nothing may stick to it.
        """
        assert self.request is not None
        self.transport.write(head)
        rover = RoverSession(self, self.request, mountpoint, account, coding)
        self._handler = rover
        self.request = self.request.lasting()
        self.server.counters.open[self.mount, rover.kind] += 1
        asyncio.get_running_loop().call_later(self.server.config.limits.header_gap_s, self._begin, rover.begin)

    def become_source(self, head: bytes, mountpoint: Mountpoint, account: Account) -> None:
        """Answer that the base station may send."""
        assert self.request is not None
        self.transport.write(head)
        source = SourceSession(self, self.request, mountpoint, account)
        self._handler = source
        self.server.counters.open[self.mount, source.kind] += 1
        self._begin(source.begin)

    def _begin(self, begin: Callable[[], None]) -> None:
        """Let the handler begin, then give it what came after the head, and read on."""
        if self._reason:
            return
        try:
            begin()
        except Exception:
            _log.exception("session failed", session=self.number)
            self.end("internal error")
            return
        if isinstance(self._handler, RoverSession):
            self.server.unwatch(self)
        trailing, self._reader = (self._reader.trailing if self._reader else b""), None
        if trailing:
            self.data_received(trailing)
        if self.transport.is_closing():
            return
        if isinstance(self._handler, SourceSession):
            self.server.fanin.join(self.transport, self.data_received)
        else:
            self.transport.resume_reading()
        if self.rover is not None and self.rover.is_following:
            self.server.holders.offer(self)

    def _on_hangup(self) -> None:
        """A client that seemed to have half-closed has gone."""
        self.end("closed by the client", abort=True)

    def _report(self) -> None:
        request, kind = self.request, self._handler.kind if self._handler else "request"
        self.server.count_end(kind, self._reason, self.address, self.mount)
        for callback in self.server.on_end:
            callback(self)
        if kind == "request" and self._reason in _QUIET_REASONS:
            return
        details = self._handler.summary() if self._handler else {}
        _log.info(
            f"{kind} ended",
            reason=self._reason,
            session=self.number,
            address=self.address,
            seconds=round(self.age_s(), 1),
            **({"mount": request.mount, "agent": request.agent[:80], "version": request.version} if request else {}),
            **details,
        )


class RoverSession:
    """A rover: `caster.mountpoints.Rover` for the kinds.

    Attributes:
        holder: The account; None for a rover that needed none.
        outlet: The bounded way to it.
        gga: The last sentence that it sent.
        gga_count: Sentences that it sent.
    """

    __slots__ = (
        "_begun",
        "_connection",
        "_decoder",
        "_extractor",
        "_first_gga",
        "_mount",
        "_mountpoint",
        "_websocket",
        "gga",
        "gga_count",
        "holder",
        "outlet",
    )
    kind = "rover"

    def __init__(
        self,
        connection: Connection,
        request: Request,
        mountpoint: Mountpoint,
        account: Account | None,
        coding: Coding,
    ) -> None:
        self._connection = connection
        self._first_gga = request.gga
        self._mountpoint = mountpoint
        self.holder = account
        self._mount: Mount | None = None
        self._begun = False
        self._extractor = GgaExtractor()
        self._decoder = ChunkedDecoder() if request.chunked else None
        self._websocket = websocket.ClientReader() if coding == "websocket" else None
        self.outlet = Subscriber(connection.transport, connection.server.config.limits.backlog_bytes, coding)
        self.gga: Gga | None = None
        self.gga_count = 0

    @property
    def number(self) -> int:
        """Of the session, unique in this process."""
        return self._connection.number

    @property
    def account(self) -> str:
        """The account's name; empty for a rover that needed none."""
        return self.holder.name if self.holder else ""

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._connection.address

    @property
    def sent_bytes(self) -> int:
        """Of the stream."""
        return self.outlet.sent_bytes

    @property
    def dropped(self) -> int:
        """Publishes that were lost because it was too slow."""
        return self.outlet.dropped

    @property
    def is_following(self) -> bool:
        """It gets a mountpoint's stream rather than answers of its own."""
        return self._mount is not None

    def begin(self) -> None:
        """The head has been sent: subscribe, and take the position that came with the request."""
        if self._connection.server.mountpoints.get(self._mountpoint.name) is not self._mountpoint:
            self.close("mountpoint removed")  # in the moment since the answer
            return
        self._begun = True
        self._mountpoint.on_subscribe(self)
        gga = parse_gga(self._first_gga) if self._first_gga else None
        if gga is not None:
            self._take_gga(gga)

    def send(self, data: bytes) -> bool:
        """Send whole frames to this rover alone; False where they do not fit into its backlog."""
        return self.outlet.send(data)

    def follow(self, mount: Mount | None) -> None:
        """Follow a mount instead of the present one."""
        if self._mount is not None:
            self._mount.detach(self.outlet)
        self._mount = mount
        if mount is not None:
            mount.attach(self.outlet)

    def close(self, reason: str) -> None:
        """End the session."""
        self._connection.end(reason)

    def receive(self, data: bytes) -> None:
        """Hand on what the rover sent, and look for its position."""
        if self._websocket is not None:
            self._receive_frames(self._websocket.receive_data(data))
            return
        if self._decoder is not None:
            data = self._decoder.receive_data(data)
        self._receive_plain(data)

    def _receive_frames(self, received: websocket.Received) -> None:
        if received.answer:
            self._connection.transport.write(received.answer)
        if received.data:
            self._receive_plain(received.data)
        if received.closed:
            self._connection.end("closed by the client")

    def _receive_plain(self, data: bytes) -> None:
        self._mountpoint.on_uplink(self, data)
        for gga in self._extractor.receive_data(data):
            self._take_gga(gga)

    def receive_eof(self) -> None:
        """Half-closed, or gone: who half-closes does so right after the request, and still wants the stream."""
        if self._websocket is not None or self._connection.age_s() > _HALF_CLOSE_S:
            self._connection.end("closed by the client")

    def check(self, now_s: float) -> None:
        """A rover has no time-out but that of its stalled socket."""

    def leave(self) -> None:
        """The session ends."""
        self.follow(None)
        if self._begun:
            self._mountpoint.on_leave(self)
        if self._websocket is not None and not self._connection.transport.is_closing():
            self._connection.transport.write(self._websocket.close(websocket.GOING_AWAY, self._connection.reason))
        if self.holder is not None:
            self._connection.server.authenticator.end_session(self.holder)

    def summary(self) -> dict[str, object]:
        """For the log."""
        position = {}
        if self.gga is not None and self.gga.latitude_deg is not None and self.gga.longitude_deg is not None:
            position = {"latitude": round(self.gga.latitude_deg, 4), "longitude": round(self.gga.longitude_deg, 4)}
        return {
            "account": self.account,
            "sent_bytes": self.outlet.sent_bytes,
            "received_bytes": self._connection.received_bytes,
            "dropped": self.outlet.dropped,
            "gga": self.gga_count,
            **position,
        }

    def _take_gga(self, gga: Gga) -> None:
        self.gga = gga
        self.gga_count += 1
        self._mountpoint.on_gga(self, gga)
        self._mountpoint.mountpoints.tell_position("gga", self._mountpoint, self, gga)


class SourceSession:
    """A base station: `caster.mountpoints.Source` for the kinds.

    Attributes:
        holder: The account.
        agent: The station software's name of itself.
    """

    kind = "source"
    gga: Gga | None = None
    sent_bytes: int = 0
    dropped: int = 0

    def __init__(self, connection: Connection, request: Request, mountpoint: Mountpoint, account: Account) -> None:
        self._connection = connection
        self._mountpoint = mountpoint
        self.holder: Account | None = account
        self._frames_before = mountpoint.mount.traffic.frame_count
        self._decoder = ChunkedDecoder() if request.chunked else None
        self._left = _content_length(request)
        self.agent = request.agent

    @property
    def number(self) -> int:
        """Of the session, unique in this process."""
        return self._connection.number

    @property
    def account(self) -> str:
        """The account's name."""
        return self.holder.name if self.holder else ""

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._connection.address

    def begin(self) -> None:
        """The head has been sent."""
        self._mountpoint.source = self
        self._mountpoint.source_last_s = self._connection.server.now()
        self._mountpoint.on_source(self)

    def close(self, reason: str) -> None:
        """End the session."""
        self._connection.end(reason)

    def receive(self, data: bytes) -> None:
        """Hand on what the station sent."""
        self._mountpoint.source_last_s = self._connection.server.now()
        if self._decoder is not None:
            data = self._decoder.receive_data(data)
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            self._mountpoint.on_source_data(self, data, time.time_ns())
        if self._left == 0 or (self._decoder is not None and self._decoder.done):
            self.close("ended by the source")

    def receive_eof(self) -> None:
        """The station sends no more."""
        self.close("ended by the source")

    def check(self, now_s: float) -> None:
        """A silent station is dead: it must not hold its mountpoint."""
        if now_s - self._mountpoint.source_last_s > self._connection.server.config.limits.source_idle_s:
            self.close("source idle")

    def leave(self) -> None:
        """The session ends."""
        self._connection.server.fanin.leave(self._connection.transport)
        if self._mountpoint.source is self:
            self._mountpoint.on_source_gone(self)
            self._mountpoint.source = None
        if self.holder is not None:
            self._connection.server.authenticator.end_session(self.holder)

    def summary(self) -> dict[str, object]:
        """For the log."""
        traffic = self._mountpoint.mount.traffic
        return {
            "account": self.account,
            "received_bytes": self._connection.received_bytes,
            "frames": traffic.frame_count - self._frames_before,
        }


def _content_length(request: Request) -> int | None:
    """How long a body is; None for a stream without an end, as which 0 counts, too."""
    text = request.headers.get("content-length", "")
    if request.chunked or not text.isdecimal() or len(text) > 18:
        return None
    return int(text) or None
