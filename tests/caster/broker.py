"""A real Mosquitto on a free port of the loopback, and a client of it."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import aiomqtt
import pytest

PATIENCE_S = 15.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Broker:
    """Mosquitto, which can be stopped and started again on the same port."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\n{lines}")
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("no mosquitto")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._config)], stdout=log, stderr=log)

    async def start(self) -> None:
        self._spawn()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def client(self, **options) -> aiomqtt.Client:
        return aiomqtt.Client("127.0.0.1", self.port, protocol=aiomqtt.ProtocolVersion.V5, **options)


async def message(client: aiomqtt.Client, topic: str = "#", having: bytes = b"") -> aiomqtt.Message:
    """The next message of a topic that contains some bytes."""
    async with asyncio.timeout(PATIENCE_S):
        async for found in client.messages:
            if found.topic.matches(topic) and having in found.payload:
                return found
    raise AssertionError("the broker has gone")
