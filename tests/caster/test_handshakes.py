"""Handshakes begin outside of a task: a login that is known ends there, any other becomes a task where it waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.caster.conftest import PATIENCE_S, Service

NUMBER = 7


def begin(service: Service, handshake: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Begin a handshake; its task, where it has become one."""
    service.caster.server.start_handshake(handshake, NUMBER)
    return next((task for task in asyncio.all_tasks() if task.get_name() == f"handshake {NUMBER}"), None)


async def test_a_handshake_that_waits_for_nothing_ends_without_a_task(service: Service) -> None:
    done = []

    async def known() -> None:
        done.append("known")

    assert begin(service, known()) is None
    assert done == ["known"]


async def test_a_handshake_that_waits_goes_on_with_what_it_waited_for(service: Service) -> None:
    """Futures, bare turns of the loop and time-outs, one after the other."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    heard: list[object] = []

    async def waits() -> None:
        heard.append(await first)
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0):
                await loop.create_future()
        except TimeoutError:
            heard.append("late")
        heard.append(await asyncio.shield(second))

    task = begin(service, waits())
    assert task is not None and not heard
    first.set_result("account")
    loop.call_later(0.01, second.set_result, "right")
    await asyncio.wait_for(task, PATIENCE_S)
    assert heard == ["account", "late", "right"]


async def test_what_a_handshake_waits_for_may_fail_and_the_handshake_handles_it(service: Service) -> None:
    answer = asyncio.get_running_loop().create_future()
    heard: list[str] = []

    async def handles() -> None:
        try:
            await answer
        except ConnectionError as error:
            heard.append(str(error))
        await asyncio.sleep(0)
        heard.append("went on")

    task = begin(service, handles())
    answer.set_exception(ConnectionError("the database is away"))
    assert task is not None
    await asyncio.wait_for(task, PATIENCE_S)
    assert heard == ["the database is away", "went on"]


async def test_a_handshake_that_is_cancelled_cleans_up(service: Service) -> None:
    heard: list[str] = []

    async def cleans_up() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            heard.append("cleaned up")

    task = begin(service, cleans_up())
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cleaned up"]


async def test_the_handshakes_that_wait_are_ended_with_the_service(service: Service) -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    task = begin(service, waits())
    assert task is not None
    await asyncio.wait_for(service.caster.server.stop(), PATIENCE_S)
    assert task.cancelled()
