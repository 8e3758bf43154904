"""The loop gathers what comes within a moment, and makes nobody wait who comes to an idle one."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from caster import loop
from caster.loop import GATHER_S, new_loop


class Clock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


def test_what_comes_within_a_moment_of_the_last_look_is_gathered(clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, loop._GatheringSelector() as selector:
        selector.register(ours, 1)
        theirs.send(b"first")
        assert selector.select(None) and clock.slept == []
        clock.now_s += GATHER_S / 4
        assert selector.select(None)
        assert clock.slept == [pytest.approx(GATHER_S * 3 / 4)]
        clock.now_s += GATHER_S
        assert selector.select(None) and len(clock.slept) == 1


def test_a_loop_that_has_work_or_a_timer_does_not_wait_longer(clock: Clock) -> None:
    with loop._GatheringSelector() as selector:
        for timeout_s in (0.0, 0.0, GATHER_S / 8):
            assert selector.select(timeout_s) == []
        assert clock.slept == [GATHER_S / 8]


def test_work_and_timers_amid_the_moment_do_not_make_it_look_for_news(clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, loop._GatheringSelector() as selector:
        selector.register(ours, 1)
        theirs.send(b"first")
        assert selector.select(None)
        assert selector.select(0.0) == selector.select(GATHER_S / 2) == []
        assert selector.select(GATHER_S) and clock.slept == [GATHER_S / 2, pytest.approx(GATHER_S / 2)]


def test_a_service_runs_on_it() -> None:
    async def echo() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(10))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"there")
            answered = await reader.read()
            writer.close()
        return answered

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(echo()) == b"there"
