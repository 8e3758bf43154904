"""The load's rovers see what a caster does to its frames: losing, tearing, repeating, refusing, closing."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from bench.frames import Stamp, make_frame
from bench.rovers import FleetPlan, FleetReport, Order, run_fleet

TIMEOUT_S = 10.0
HEAD = b"ICY 200 OK\r\n\r\n"


def frame(sequence: int) -> bytes:
    return make_frame(Stamp(0, sequence, 1))


@contextmanager
def coming_rover(
    stalled: int = 0, churn_s: float = 0.0
) -> Iterator[tuple[socket.socket, "multiprocessing.connection.Connection"]]:
    """A rover in a thread that connects to the yielded listener, which plays the caster."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(TIMEOUT_S)
    port = listener.getsockname()[1]
    plan = FleetPlan("127.0.0.1", port, (0,), ("MOUNT",), "user", "secret", stalled=stalled, churn_s=churn_s)
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=run_fleet, args=(plan, theirs))
    thread.start()
    ours.send(Order("connect"))
    try:
        yield listener, ours
    finally:
        ours.send(Order("stop"))
        thread.join(TIMEOUT_S)
        listener.close()
        ours.close()


def let_in(listener: socket.socket) -> socket.socket:
    """The caster's end of the next connection, whose request has been read."""
    connection, _ = listener.accept()
    connection.settimeout(TIMEOUT_S)
    request = connection.recv(4096)
    assert request.startswith(b"GET /MOUNT HTTP/1.0\r\n")
    assert b"Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in request
    return connection


@contextmanager
def one_rover(stalled: int = 0) -> Iterator[tuple[socket.socket, "multiprocessing.connection.Connection"]]:
    """A rover in a thread, connected to the yielded socket, which plays the caster."""
    with coming_rover(stalled) as (listener, pipe), let_in(listener) as connection:
        yield connection, pipe


def ask(pipe: "multiprocessing.connection.Connection", last: int = 0) -> FleetReport:
    pipe.send(Order("report", {0: last}))
    assert pipe.poll(TIMEOUT_S)
    report: FleetReport = pipe.recv()
    return report


def report_after(
    pipe: "multiprocessing.connection.Connection", caster: socket.socket, data: bytes, last: int
) -> FleetReport:
    """Send the data, end the stream, and ask what the rover has seen once it has seen the end."""
    caster.sendall(data)
    with suppress(OSError):  # a rover that is refused may have gone already
        caster.shutdown(socket.SHUT_WR)
    while True:
        report = ask(pipe, last)
        if report.closed or report.refused:
            return report


def test_whole_frames_in_order_are_counted_however_they_are_split() -> None:
    with one_rover() as (caster, pipe):
        data = HEAD + b"".join(frame(number) for number in range(7))
        caster.sendall(data[:1000])
        report = report_after(pipe, caster, data[1000:], 6)
        assert (report.frames, report.lost, report.torn) == (7, 0, 0)
        assert report.latencies.count == 7


def test_a_frame_left_out_is_lost_and_not_torn() -> None:
    with one_rover() as (caster, pipe):
        report = report_after(pipe, caster, HEAD + frame(3) + frame(6), 6)
        assert (report.frames, report.lost, report.torn) == (2, 2, 0)


def test_a_damaged_and_a_repeated_frame_are_torn() -> None:
    with one_rover() as (caster, pipe):
        damaged = frame(1)[:500] + b"\0" + frame(1)[501:]
        report = report_after(pipe, caster, HEAD + frame(0) + damaged + frame(2) + frame(2), 2)
        assert (report.frames, report.torn) == (2, 2)


def test_a_frame_cut_in_the_middle_tears_all_that_follow() -> None:
    with one_rover() as (caster, pipe):
        report = report_after(pipe, caster, HEAD + frame(0)[:700] + frame(1) + frame(2), 2)
        assert report.frames == 0
        assert report.torn == 2


def test_any_other_answer_is_a_refusal() -> None:
    with one_rover() as (caster, pipe):
        report = report_after(pipe, caster, b"HTTP/1.0 401 Unauthorized\r\n\r\n", 0)
        assert (report.refused, report.connected, report.frames) == (1, 0, 0)
        assert dict(report.refusals) == {"HTTP/1.0 401 Unauthorized": 1}


def test_a_rover_that_stalls_reads_nothing_until_it_is_woken_and_then_only_whole_frames() -> None:
    with one_rover(stalled=1) as (caster, pipe):
        caster.sendall(HEAD)
        while not ask(pipe).connected:
            pass
        caster.sendall(frame(0) + frame(3) + frame(4)[:100])
        pipe.send(Order("wake"))
        caster.shutdown(socket.SHUT_WR)
        while not (report := ask(pipe)).stalled_closed:
            pass
        assert (report.stalled_closed, report.closed, report.frames, report.torn, report.lost) == (1, 0, 0, 0, 0)


def test_a_rover_that_comes_and_goes_comes_anew_until_it_is_told_to_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came after the last frame of a run would count as one that has lost it."""
    clock = SimpleNamespace(now_s=0.0)
    times = {"monotonic": lambda: clock.now_s, "monotonic_ns": time.monotonic_ns, "process_time": time.process_time}
    monkeypatch.setattr("bench.rovers.time", SimpleNamespace(**times))
    with coming_rover(churn_s=1.0) as (listener, pipe):
        with let_in(listener) as first:
            first.sendall(HEAD + frame(0))
            while not ask(pipe).frames:
                pass
            clock.now_s = 1.0
            with pytest.raises(ConnectionResetError):
                first.recv(1)
        with let_in(listener) as second:
            second.sendall(HEAD + frame(1))
            while ask(pipe, 1).frames < 2:
                pass
            pipe.send(Order("stay"))
            ask(pipe, 1)  # it has been heard
            clock.now_s = 10.0
            report = [ask(pipe, 1) for _ in range(3)][-1]
            assert (report.connected, report.undelivered, report.lost) == (1, 0, 0)
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
