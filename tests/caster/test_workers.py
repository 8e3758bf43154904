"""Solver threads: jobs of a key one at a time and never stale, and a failure that ends nothing else."""

import asyncio
import threading
from contextlib import contextmanager

from caster.workers import BURST_MAX, Workers

WAIT_S = 10.0


@contextmanager
def started(threads):
    workers = Workers(threads)
    workers.start()
    try:
        yield workers
    finally:
        workers.close()


async def wait_for(event):
    async with asyncio.timeout(WAIT_S):
        await event.wait()


async def test_a_result_comes_back_on_the_loop():
    arrived, seen = asyncio.Event(), []

    def done(result):
        seen.append((result, threading.current_thread() is threading.main_thread()))
        arrived.set()

    with started(2) as workers:
        workers.submit("rover", lambda: threading.current_thread().name, done)
        await wait_for(arrived)
    ((name, on_loop),) = seen
    assert name.startswith("solver-")
    assert on_loop


async def held_up(*names):
    """Submit named jobs under one key while the first holds the thread; what came back, and the pool."""
    gate, begun, arrived, seen = threading.Event(), threading.Event(), asyncio.Event(), []

    def first():
        begun.set()
        assert gate.wait(WAIT_S)
        return "first"

    def done(result):
        seen.append(result)
        if result == names[-1]:
            arrived.set()

    with started(2) as workers:
        workers.submit("rover", first, done)
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        for name in names:
            workers.submit("rover", lambda name=name: name, done)
        assert workers.backlog == min(len(names), BURST_MAX)
        gate.set()
        await wait_for(arrived)
    return seen, workers


async def test_jobs_that_arrive_together_all_run_in_order():
    seen, workers = await held_up("second", "third", "last")
    assert seen == ["first", "second", "third", "last"]
    assert (workers.dropped, workers.finished) == (0, 4)


async def test_a_stale_job_gives_way_to_the_newest(monkeypatch):
    monkeypatch.setattr("caster.workers.STALE_S", -1.0)
    seen, workers = await held_up("second", "third", "last")
    assert seen == ["first", "last"]
    assert (workers.dropped, workers.finished) == (2, 2)


async def test_a_key_has_a_bounded_backlog_and_loses_its_oldest():
    names = [str(number) for number in range(BURST_MAX + 5)]
    seen, workers = await held_up(*names)
    assert seen == ["first", *names[5:]]
    assert workers.dropped == 5


async def test_jobs_of_one_key_never_run_together_while_other_keys_go_on():
    running, together, arrived, left = set(), [], asyncio.Event(), [60]
    lock = threading.Lock()

    def work(key):
        with lock:
            together.append(key in running)
            running.add(key)
        with lock:
            running.discard(key)

    def done(_):
        left[0] -= 1
        if left[0] > 0 and left[0] % 3 == 0:
            for key in "abc":
                workers.submit(key, lambda key=key: work(key), done)
        if left[0] <= 0:
            arrived.set()

    with started(3) as workers:
        for key in "abc":
            workers.submit(key, lambda key=key: work(key), done)
        await wait_for(arrived)
    assert not any(together)


async def test_a_job_that_fails_is_counted_and_the_next_one_runs():
    arrived = asyncio.Event()
    with started(1) as workers:
        workers.submit("bad", lambda: 1 / 0, lambda _: None)
        workers.submit("good", lambda: 1, lambda _: arrived.set())
        await wait_for(arrived)
        assert (workers.failed, workers.finished) == (1, 1)


async def test_a_cancelled_job_does_not_run():
    gate, arrived, seen = threading.Event(), asyncio.Event(), []
    with started(1) as workers:
        workers.submit("first", lambda: gate.wait(WAIT_S), lambda _: None)
        workers.submit("gone", lambda: "gone", seen.append)
        workers.submit("kept", lambda: "kept", lambda result: (seen.append(result), arrived.set()))
        workers.cancel("gone")
        gate.set()
        await wait_for(arrived)
    assert seen == ["kept"]


async def test_closing_ends_the_threads_and_drops_what_waits():
    gate, seen = threading.Event(), []
    with started(1) as workers:
        workers.submit("first", lambda: gate.wait(WAIT_S), lambda _: None)
        workers.submit("second", lambda: "second", seen.append)
        threading.Timer(0.01, gate.set).start()
    assert not any(thread.name.startswith("solver-") for thread in threading.enumerate())
    assert seen == []
