"""What every interoperation test needs: a recording to publish, and a peer program whose bytes are collected."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caster.codec.rtcm import FrameReader
from tests.caster.conftest import PATIENCE_S, Peer, Service, frame

PIECE = 1400  # about a segment of the Internet


def recording(folder: Path | None = None) -> bytes:
    """Frames to publish: of all usual types and sizes, with every value of a byte inside."""
    everything = bytes(range(256))
    kinds = [1006, 1033, *[1077, 1087, 1097, 1127] * 20, 1230, 1019, 1042]
    return b"".join(frame(kind, (everything * 4)[n : n + 40 + 11 * n]) for n, kind in enumerate(kinds))


def frames_of(data: bytes) -> list[bytes]:
    """The frames in bytes that may hold other things, too."""
    reader = FrameReader()
    return [*reader.feed(data), *reader.finish()]


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@asynccontextmanager
async def running(
    *command: str, stdin: int | None = None, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that is ended with the block."""
    need(command[0])
    pipe = asyncio.subprocess.PIPE
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=stdin or null, stdout=pipe, stderr=null, cwd=cwd)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.communicate()


async def rover_there(service: Service, mount: str) -> None:
    """Wait until somebody follows a mount."""
    mountpoint = service.caster.mountpoints.get(mount)
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)


async def publish(source: Peer, data: bytes) -> None:
    """Send a recording in pieces, at the pace of the reader."""
    for at in range(0, len(data), PIECE):
        await source.send(data[at : at + PIECE])
        await asyncio.sleep(0.002)


async def read_at_least(stream: asyncio.StreamReader | None, size: int) -> bytes:
    """Read until so many bytes have come, and what comes with them."""
    assert stream is not None
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < size:
            part = await stream.read(65536)
            if not part:
                break
            data += part
    return data


async def file_of_size(path: Path, size: int) -> bytes:
    """Wait until a program has written so many bytes to a file."""
    async with asyncio.timeout(PATIENCE_S):
        while not path.exists() or path.stat().st_size < size:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
    return path.read_bytes()  # noqa: ASYNC240
