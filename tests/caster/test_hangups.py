"""Clients that half-close and clients that are gone look alike at first; the kernel tells them apart."""

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from caster.codec.ntrip import get_request
from caster.hangups import Hangups
from tests.caster.conftest import PATIENCE_S, ROVER, Peer, Service, frame

FRAMES = frame(1006) + frame(1077)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        with theirs:
            yield ours, theirs


def reset(sock: socket.socket) -> None:
    """Close at once, with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_a_reset_is_told_once_and_a_half_close_is_not(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    hangups, gone = Hangups(), asyncio.Event()
    hangups.watch(ours, gone.set)
    hangups.watch(ours, gone.set)
    theirs.shutdown(socket.SHUT_WR)
    assert await asyncio.get_running_loop().run_in_executor(None, ours.recv, 1) == b""
    assert not gone.is_set()
    reset(theirs)
    await asyncio.wait_for(gone.wait(), PATIENCE_S)
    hangups.forget(ours)
    hangups.close()


async def test_a_socket_that_is_forgotten_is_not_told_of(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    hangups, told, other = Hangups(), asyncio.Event(), asyncio.Event()
    hangups.watch(ours, told.set)
    hangups.forget(ours)
    reset(theirs)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as second:
        third, _ = listener.accept()
        hangups.watch(second, other.set)
        second.shutdown(socket.SHUT_WR)
        reset(third)
        await asyncio.wait_for(other.wait(), PATIENCE_S)
    assert not told.is_set()
    hangups.close()


async def half_closed_rover(service: Service) -> Peer:
    rover = await service.connect(get_request("M", "caster", version=1, credentials=ROVER))
    rover.writer.write_eof()
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    return rover


async def test_a_half_closed_rover_that_is_reset_gives_its_session_back_without_a_send(service: Service) -> None:
    await service.feed()
    await service.caster.store.change("rover", max_sessions=1)
    rover = await half_closed_rover(service)
    rover.writer.transport.abort()
    reset(rover.writer.get_extra_info("socket")._sock)
    await service.ended("rover", "closed by the client")
    await half_closed_rover(service)


async def test_one_publish_is_enough_to_find_out_that_a_rover_has_closed(service: Service) -> None:
    source = await service.feed()
    await service.caster.store.change("rover", max_sessions=1)
    rover = await service.connect(get_request("M", "caster", version=1, credentials=ROVER))
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await rover.close()
    await source.send(FRAMES)
    await service.ended("rover", "closed by the client")
    await half_closed_rover(service)
