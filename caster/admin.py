"""The listener of the administration interface: uvicorn in the caster's own event loop.

FastAPI and uvicorn take half a second to import, so they are imported when the interface starts, and never where the
configuration opens no port. The interface itself is `caster.admin_api`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from caster.config import AdminConfig
from caster.errors import ConfigError
from caster.sockets import bind

if TYPE_CHECKING:
    from caster.app import Caster

__all__ = ["AdminServer"]

_CLIENTS_MAX: Final = 50
_HEAD_MAX: Final = 16_384
_STOP_S: Final = 2


class AdminServer:
    """Serves the administration interface.

    Args:
        config: Where to listen.
        caster: The service.

    Attributes:
        port: The port listened on (of interest where the configuration says 0).
    """

    def __init__(self, config: AdminConfig, caster: "Caster") -> None:
        self.port = 0
        self._config = config
        self._caster = caster
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: An address cannot be listened on, or the certificate cannot be read.
        """
        port, sockets = self._config.port or 0, list[socket.socket]()
        try:
            for host in self._config.hosts:
                sock = bind("admin", host, port, self._caster.config.limits, has_other=bool(sockets))
                if sock is not None:
                    sockets.append(sock)
                    self.port = port = sock.getsockname()[1]
            self._server = self._make_server()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._serving = asyncio.create_task(self._server.serve(sockets), name="administration")
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Answer what has been asked, and stop."""
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)

    def _make_server(self) -> Any:
        import uvicorn

        from caster.admin_api import build_api

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Signals are the caster's."""
                yield

        certificate, key = self._config.certificate, self._config.key
        settings = uvicorn.Config(
            build_api(self._caster),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            limit_concurrency=_CLIENTS_MAX,
            h11_max_incomplete_event_size=_HEAD_MAX,
            timeout_graceful_shutdown=_STOP_S,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        try:
            settings.load()
        except OSError as error:
            raise ConfigError(f"admin: {certificate} and {key}: no certificate and its key: {error}") from None
        return Server(settings)
