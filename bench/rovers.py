"""Thousands of rovers in one process: they connect, receive, and check every byte. One epoll loop, no threads.

A fleet is told what to do over a pipe (`Order`), so that connecting, counting and reporting happen in all processes at
the same time. Frames are recognised by themselves (`bench.frames`): the reply's head is what comes before the first
preamble. All rovers of a mountpoint get the same bytes, so a frame equal to the last checked one costs one comparison.

Rules: a frame that is broken, repeated or out of order is *torn*; numbers left out between two good frames are *lost*
whole; either is counted, never hidden by a reconnect.
"""

import base64
import contextlib
import select
import socket
import ssl
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from bench.frames import FRAME_BYTES, PREAMBLE, Stamp, check_frame
from bench.latency import Latencies

__all__ = ["FleetPlan", "FleetReport", "Order", "run_fleet"]

_CONNECTING_MAX: Final = 200
_POLL_EVENTS: Final = 512
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT, so that ports last for the next run
_STALLED_BUFFER: Final = 4096
_RECV_BYTES: Final = 65536
_ANSWER_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What the rovers of one process are.

    Attributes:
        host, port: The caster.
        mounts: The mountpoint of each rover: its number, which goes with its name.
        mount_names: All mountpoints.
        user, password: Basic authentication; none where the user is empty.
        source_host: The rovers' own address, one per process, so that ports do not run out.
        stalled: So many of the rovers read nothing after the reply's head.
        tls: Connect by TLS (the certificate is not checked).
        churn_s: Each rover comes anew after about so long; 0: it stays.
    """

    host: str
    port: int
    mounts: tuple[int, ...]
    mount_names: tuple[str, ...]
    user: str = ""
    password: str = ""
    source_host: str = "127.0.0.1"
    stalled: int = 0
    tls: bool = False
    churn_s: float = 0.0


class Order(NamedTuple):
    """What a fleet shall do.

    `connect`, `reset` (count from now), `stay` (no more coming and going), `wake` (the stalled), `report`, `stop`.
    """

    verb: str
    last_sequences: dict[int, int] = {}  # noqa: RUF012 - never changed


@dataclass
class FleetReport:
    """What the rovers of one process (or of several, added up) have seen since the last reset.

    Attributes:
        connected: Rovers that have had the caster's good reply and are still there.
        silent: Those of them that read and have had no frame so far.
        refused: Connections that were refused, or answered with anything else.
        closed: Connections that the caster ended.
        refusals: The first words of the answers to those that were refused.
        stalled_closed: Of those that had stopped reading: whose connection had been ended when they read on.
        frames: Whole frames received.
        torn: Frames broken, repeated or out of order.
        lost: Frames left out between two good ones.
        undelivered: At the end: frames sent that had not arrived (rovers without any frame count one).
        connect_s: How long the last `connect` took.
        cpu_s: The process's own CPU time.
        latencies: From the source's sending to the rover's reading.
    """

    connected: int = 0
    silent: int = 0
    refused: int = 0
    closed: int = 0
    stalled_closed: int = 0
    frames: int = 0
    torn: int = 0
    lost: int = 0
    undelivered: int = 0
    connect_s: float = 0.0
    cpu_s: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    refusals: Counter[str] = field(default_factory=Counter)

    def add(self, other: "FleetReport") -> None:
        """Add up the report of another process."""
        for name in (
            "connected",
            "silent",
            "refused",
            "closed",
            "stalled_closed",
            "frames",
            "torn",
            "lost",
            "undelivered",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.connect_s = max(self.connect_s, other.connect_s)
        self.cpu_s += other.cpu_s
        self.latencies.merge(other.latencies)
        self.refusals.update(other.refusals)


class _Rover:
    """One connection."""

    __slots__ = ("asked", "expected", "in_stream", "link", "mount", "pending", "stalls")

    link: socket.socket | None
    asked: bool
    in_stream: bool
    pending: bytes
    expected: int

    def __init__(self, mount: int, stalls: bool) -> None:
        self.mount = mount
        self.stalls = stalls
        self.reset(None)

    def reset(self, connection: socket.socket | None) -> None:
        """Begin anew."""
        self.link = connection
        self.asked = False
        self.in_stream = False
        self.pending = b""
        self.expected = -1


def run_fleet(plan: FleetPlan, pipe: Connection) -> None:
    """The main function of a load process: follows orders until told to stop."""
    fleet = _Fleet(plan, pipe)
    try:
        while fleet.step():
            pass
    except EOFError:  # the benchmark itself has gone
        pass
    finally:
        fleet.close()


class _Fleet:
    def __init__(self, plan: FleetPlan, pipe: Connection) -> None:
        self._plan = plan
        self._pipe = pipe
        self._poll = select.epoll()
        self._poll.register(pipe.fileno(), select.EPOLLIN)
        self._rovers = [_Rover(mount, number < plan.stalled) for number, mount in enumerate(plan.mounts)]
        self._by_fd: dict[int, _Rover] = {}
        self._todo: deque[_Rover] = deque()
        self._connecting: dict[int, _Rover] = {}
        self._connect_began_s = 0.0
        self._checked: dict[int, tuple[bytes, Stamp]] = {}
        self._report = FleetReport()
        self._cpu_s = time.process_time()
        self._churns = plan.churn_s > 0.0
        self._churn_due_s = time.monotonic() + 1.0
        self._churned = 0
        self._tls: ssl.SSLContext | None = None
        if plan.tls:
            self._tls = ssl.create_default_context()
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def step(self) -> bool:
        """Handle what has happened; False once told to stop."""
        for fd, _ in self._poll.poll(0.2, _POLL_EVENTS):
            rover = self._by_fd.get(fd)
            if rover is not None:
                if fd in self._connecting:
                    self._go_on_connecting(fd, rover)
                else:
                    self._receive(fd, rover)
            elif fd == self._pipe.fileno() and not self._obey(self._pipe.recv()):
                return False
        self._start_connections()
        if self._churns and time.monotonic() >= self._churn_due_s:
            self._churn()
        return True

    def close(self) -> None:
        """Leave at once."""
        for fd, rover in list(self._by_fd.items()):
            self._forget(fd, rover)
        self._poll.close()
        self._pipe.close()

    def _obey(self, order: Order) -> bool:
        if order.verb == "connect":
            self._todo.extend(rover for rover in self._rovers if rover.link is None)
            self._connect_began_s = time.monotonic()
        elif order.verb == "reset":
            connect_s = self._report.connect_s
            self._report = FleetReport(
                connect_s=connect_s, refused=self._report.refused, refusals=self._report.refusals
            )
            self._cpu_s = time.process_time()
        elif order.verb == "stay":
            self._churns = False
        elif order.verb == "wake":
            self._wake()
        elif order.verb == "report":
            self._pipe.send(self._make_report(order.last_sequences))
        return order.verb != "stop"

    def _make_report(self, last_sequences: dict[int, int]) -> FleetReport:
        report = self._report
        report.connected = sum(rover.in_stream for rover in self._rovers)
        report.silent = sum(rover.in_stream and not rover.stalls and rover.expected < 0 for rover in self._rovers)
        report.cpu_s = time.process_time() - self._cpu_s
        report.undelivered = 0
        for rover in self._rovers:
            if rover.in_stream and not rover.stalls and rover.mount in last_sequences:
                missing = last_sequences[rover.mount] + 1 - rover.expected if rover.expected >= 0 else 1
                report.undelivered += max(0, missing)
        return report

    def _wake(self) -> None:
        """The stalled read on: what they get must be whole frames, too, up to where the caster cut them off."""
        for rover in self._rovers:
            if rover.stalls and rover.link is not None:
                self._by_fd[rover.link.fileno()] = rover
                self._poll.register(rover.link.fileno(), select.EPOLLIN)

    def _start_connections(self) -> None:
        while self._todo and len(self._connecting) < _CONNECTING_MAX:
            rover = self._todo.popleft()
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            if rover.stalls:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BUFFER)
            connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
            connection.bind((self._plan.source_host, 0))
            connection.connect_ex((self._plan.host, self._plan.port))
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, do_handshake_on_connect=False)
            rover.reset(connection)
            self._by_fd[connection.fileno()] = self._connecting[connection.fileno()] = rover
            self._poll.register(connection.fileno(), select.EPOLLOUT)

    def _go_on_connecting(self, fd: int, rover: _Rover) -> None:
        """Send the request once connected (and the TLS handshake is done), then read the reply's head."""
        assert rover.link is not None
        try:
            if not rover.asked:
                if isinstance(rover.link, ssl.SSLSocket):
                    rover.link.do_handshake()
                rover.link.send(self._request(rover))
                rover.asked = True
                self._poll.modify(fd, select.EPOLLIN)
                return
            data = rover.link.recv(_RECV_BYTES)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except ssl.SSLWantReadError:
            self._poll.modify(fd, select.EPOLLIN)
            return
        except OSError:
            data = b""
        rover.pending += data
        if not data or not b"ICY 200 OK\r\n".startswith(rover.pending[:12]):
            self._report.refused += 1
            self._report.refusals[_first_words(rover.pending)] += 1
            self._forget(fd, rover)
        elif len(rover.pending) >= 12:
            self._begin_stream(fd, rover)

    def _request(self, rover: _Rover) -> bytes:
        plan = self._plan
        login = base64.b64encode(f"{plan.user}:{plan.password}".encode()).decode()
        authorization = f"Authorization: Basic {login}\r\n" if plan.user else ""
        name = plan.mount_names[rover.mount]
        return f"GET /{name} HTTP/1.0\r\nUser-Agent: NTRIP BigDipperBench/1\r\n{authorization}\r\n".encode()

    def _begin_stream(self, fd: int, rover: _Rover) -> None:
        del self._connecting[fd]
        rover.in_stream = True
        if not self._connecting and not self._todo:
            self._report.connect_s = time.monotonic() - self._connect_began_s
        start = rover.pending.find(PREAMBLE)
        data, rover.pending = rover.pending[start:] if start >= 0 else b"", b""
        if rover.stalls:
            rover.pending = data
            self._poll.unregister(fd)
            del self._by_fd[fd]
        elif data:
            self._take(rover, data, time.monotonic_ns())

    def _receive(self, fd: int, rover: _Rover) -> None:
        assert rover.link is not None
        try:
            data = rover.link.recv(_RECV_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._report.closed += not rover.stalls
            self._report.stalled_closed += rover.stalls
            self._forget(fd, rover)
            return
        now_ns = time.monotonic_ns()
        if rover.expected < 0 and not rover.pending:  # the rest of the head
            data = data[data.find(PREAMBLE) :] if PREAMBLE in data else b""
        self._take(rover, data, now_ns)

    def _take(self, rover: _Rover, data: bytes, now_ns: int) -> None:
        if rover.pending:
            data = rover.pending + data
        place = 0
        while len(data) - place >= FRAME_BYTES:
            frame = data[place : place + FRAME_BYTES] if place or len(data) > FRAME_BYTES else data
            self._count(rover, frame, now_ns)
            place += FRAME_BYTES
        rover.pending = data[place:]

    def _count(self, rover: _Rover, frame: bytes, now_ns: int) -> None:
        known, stamp = self._checked.get(rover.mount, (b"", None))
        if frame != known:
            stamp = check_frame(frame)
            if stamp is not None:
                self._checked[rover.mount] = (frame, stamp)
        report = self._report
        if stamp is None or stamp.mount != rover.mount or stamp.sequence < rover.expected:
            report.torn += 1
            return
        if rover.expected >= 0 and not rover.stalls:
            report.lost += stamp.sequence - rover.expected
        rover.expected = stamp.sequence + 1
        if rover.stalls:
            return
        report.frames += 1
        report.latencies.add_ns(now_ns - stamp.sent_ns)

    def _churn(self) -> None:
        """Let the rovers whose turn it is come anew."""
        self._churn_due_s += 1.0
        for _ in range(max(1, round(len(self._rovers) / self._plan.churn_s))):
            rover = self._rovers[self._churned % len(self._rovers)]
            self._churned += 1
            if rover.link is not None and rover.in_stream:
                self._forget(rover.link.fileno(), rover)
            if rover.link is None and rover not in self._todo:
                self._todo.append(rover)

    def _forget(self, fd: int, rover: _Rover) -> None:
        self._by_fd.pop(fd, None)
        self._connecting.pop(fd, None)
        if rover.link is not None:
            with contextlib.suppress(OSError, ValueError):
                self._poll.unregister(fd)
            rover.link.close()
        rover.reset(None)


def _first_words(answer: bytes) -> str:
    """The first line of an answer, or what became of the connection instead."""
    return answer.partition(b"\r\n")[0][:_ANSWER_SHOWN].decode(errors="replace") or "closed without an answer"
