"""Rovers that upload real observations and read positions, and a station whose frames are followed: load processes.

Everything is sent on one beat: epoch number n by the station n seconds after the start, and by rover k of N a share
(k + 1/2) / N of a second later, so that rovers' epochs come evenly over the second as they do from a network. What is
sent and what comes back is stamped with CLOCK_MONOTONIC, which all processes of a machine share, and is judged
elsewhere. Load processes thus need no kernels.
"""

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from caster.codec.ntrip import Credentials, get_request, source_request

__all__ = ["Answer", "StationPlan", "StationReport", "UploadPlan", "UploadReport", "run_station", "run_uploads"]

_HOST: Final = "127.0.0.1"
_TIMEOUT_S: Final = 10.0
_DRAIN_S: Final = 3.0
_RECV_BYTES: Final = 65_536
_OPENED: Final = b"ICY 200 OK\r\n"
_NOBODY: Final = "no answer"


@dataclass(frozen=True, slots=True)
class StationPlan:
    """A base station, and one rover that follows its mountpoint.

    Attributes:
        port: The caster's.
        mount: The mountpoint.
        epochs: What is pushed, an element a second.
        follower: The rover's login.
        password: The station's.
    """

    port: int
    mount: str
    epochs: tuple[bytes, ...]
    follower: Credentials
    password: str


@dataclass(frozen=True, slots=True)
class StationReport:
    """What the follower had of the station.

    Attributes:
        latencies_ms: By number of the epoch, from before it was sent to when all of it had come; NaN: it never was.
        cpu_s: Of the process.
    """

    latencies_ms: list[float]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Rovers that upload.

    Attributes:
        port: The service's.
        mount: Its mountpoint.
        rovers: How many.
        epochs: What each sends, an element a second.
        first: Number of the first that is sent.
        login: Of the rovers.
        listen: Instead of the service, the ports where one receiver fetches its stream and brings its answers.
    """

    port: int
    mount: str
    rovers: int
    epochs: tuple[bytes, ...]
    first: int
    login: Credentials
    listen: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A GGA sentence as a rover read it."""

    rover: int
    received_ns: int
    line: bytes


@dataclass(slots=True)
class UploadReport:
    """What was sent and what came.

    Attributes:
        sent_ns: Of each epoch that was sent, by rover and number of the epoch.
        answers: All GGA sentences.
        closed: Rovers whose connection was ended, or took no more.
        late_s_max: How far a sending came behind its time at worst: large where the machine is overloaded.
        cpu_s: Of the process.
    """

    sent_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    closed: int = 0
    late_s_max: float = 0.0
    cpu_s: float = 0.0


def run_station(plan: StationPlan, pipe: Connection) -> None:
    """The main function of the station's process: connects, says what is wrong, gets the start's time, reports."""
    try:
        source, why = _opened(plan.port, source_request(plan.mount, plan.password))
        follower, why_not = _opened(plan.port, get_request(plan.mount, _HOST, version=1, credentials=plan.follower))
        pipe.send(why or why_not)
        if source is not None and follower is not None:
            pipe.send(_follow(plan, source, follower, pipe.recv()))
            pipe.recv()  # stay connected until all is counted: rovers of a mountpoint without a source are sent away
    except (EOFError, BrokenPipeError):  # the benchmark itself has gone
        pass


def run_uploads(plan: UploadPlan, pipe: Connection) -> None:
    """The main function of the rovers' process: connects, says what is wrong, gets the start's time, reports."""
    try:
        uploads = _Uploads(plan)
        pipe.send(uploads.why)
        if not uploads.why:
            pipe.send(uploads.run(pipe.recv()))
            pipe.recv()
    except (EOFError, BrokenPipeError):  # the benchmark itself has gone
        pass


def _opened(port: int, request: bytes) -> tuple[socket.socket | None, str]:
    """A stream that a caster has opened, or why there is none."""
    answer = b""
    try:
        connection = socket.create_connection((_HOST, port), timeout=_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        while len(answer) < len(_OPENED) and (data := connection.recv(len(_OPENED) - len(answer))):
            answer += data  # what comes behind it, if an empty line, disturbs nobody
    except OSError as error:
        return None, str(error)
    if answer != _OPENED:
        return None, answer.decode(errors="replace").strip() or _NOBODY
    connection.setblocking(False)
    return connection, ""


def _listen(poll: "select.epoll", until_s: float, take: Callable[[int], None]) -> float:
    """Take what comes until a time, and at least what is there; how late it has become, s."""
    while True:
        wait_s = until_s - time.monotonic()
        for fd, _ in poll.poll(max(0.0, wait_s)):
            take(fd)
        if wait_s <= 0.0:
            return -wait_s


def _follow(plan: StationPlan, source: socket.socket, follower: socket.socket, start_s: float) -> StationReport:
    """Push on the beat; the follower must get the same bytes, epoch by epoch."""
    sent_ns: list[int] = []
    latencies_ms = [float("nan")] * len(plan.epochs)
    pending, place = b"", 0

    def take(_: int) -> None:
        nonlocal pending, place
        pending += follower.recv(_RECV_BYTES)
        while place < len(sent_ns) and (at := pending.find(plan.epochs[place])) >= 0:
            latencies_ms[place] = (time.monotonic_ns() - sent_ns[place]) / 1e6
            pending = pending[at + len(plan.epochs[place]) :]
            place += 1

    with source, follower, select.epoll() as poll:
        poll.register(follower.fileno(), select.EPOLLIN)
        cpu_s = time.process_time()
        for number, data in enumerate(plan.epochs):
            _listen(poll, start_s + number, take)
            sent_ns.append(time.monotonic_ns())
            source.sendall(data)
        _listen(poll, time.monotonic() + _DRAIN_S, take)
        return StationReport(latencies_ms, time.process_time() - cpu_s)


@dataclass(slots=True)
class _Rover:
    """One receiver: where its stream goes, where its answers come from, and the end of what came."""

    uplink: socket.socket
    answers: socket.socket
    pending: bytes = b""
    is_closed: bool = False


class _Uploads:
    """All rovers of a process.

    Attributes:
        why: Why they cannot begin; empty where they can.
    """

    def __init__(self, plan: UploadPlan) -> None:
        self.why = ""
        self._plan = plan
        self._rovers: list[_Rover] = []
        self._report = UploadReport()
        self._by_fd: dict[int, int] = {}
        if plan.listen is None:
            self._connect()
        else:
            self._accept(*plan.listen)

    def _connect(self) -> None:
        request = get_request(self._plan.mount, _HOST, version=1, credentials=self._plan.login)
        while len(self._rovers) < self._plan.rovers and not self.why:
            connection, self.why = _opened(self._plan.port, request)
            if connection is not None:
                self._rovers.append(_Rover(connection, connection))

    def _accept(self, *ports: int) -> None:
        """Let a receiver in that connects by itself, as soon as it has been started."""
        listeners = [socket.create_server((_HOST, port)) for port in ports]
        links = []
        for listener in listeners:
            listener.settimeout(_TIMEOUT_S)
            try:
                links.append(listener.accept()[0])
                links[-1].setblocking(False)
            except OSError:
                self.why = _NOBODY
            listener.close()
        if not self.why:
            self._rovers.append(_Rover(links[0], links[1]))

    def run(self, start_s: float) -> UploadReport:
        """Send all epochs on the beat, and read until some seconds after the last."""
        report, plan = self._report, self._plan
        with select.epoll() as poll:
            for number, rover in enumerate(self._rovers):
                self._by_fd[rover.answers.fileno()] = number
                poll.register(rover.answers.fileno(), select.EPOLLIN)
            cpu_s = time.process_time()
            for epoch in range(plan.first, len(plan.epochs)):
                for number in range(len(self._rovers)):
                    due_s = start_s + epoch + (number + 0.5) / len(self._rovers)
                    late_s = _listen(poll, due_s, self._take)
                    report.late_s_max = max(report.late_s_max, late_s)
                    self._send(number, epoch)
            _listen(poll, time.monotonic() + _DRAIN_S, self._take)
        report.cpu_s = time.process_time() - cpu_s
        return report

    def _send(self, number: int, epoch: int) -> None:
        rover, data = self._rovers[number], self._plan.epochs[epoch]
        self._report.sent_ns[number, epoch] = time.monotonic_ns()  # before: an answer may be there when `send` is back
        if rover.is_closed:
            return
        try:
            whole = rover.uplink.send(data) == len(data)
        except OSError:
            whole = False
        if not whole:  # it has not taken what was sent for minutes
            self._close(rover)

    def _take(self, fd: int) -> None:
        number = self._by_fd[fd]
        rover = self._rovers[number]
        try:
            data = rover.answers.recv(_RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now_ns = time.monotonic_ns()
        if not data:
            self._close(rover)
            return
        *lines, rover.pending = (rover.pending + data).split(b"\n")
        self._report.answers += [Answer(number, now_ns, line) for line in lines if line[3:6] == b"GGA"]

    def _close(self, rover: _Rover) -> None:
        rover.is_closed = True
        self._report.closed += 1
        rover.uplink.close()
        rover.answers.close()
