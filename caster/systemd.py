"""What systemd and a service tell each other: sd_notify(3), the watchdog, and sockets passed on (sd_listen_fds(3)).

The protocol is a datagram with lines `NAME=value` to the socket in `NOTIFY_SOCKET`, and descriptors from 3 on, counted
and named by environment variables. Without these variables everything here does nothing.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Final, Self

__all__ = ["Notifier", "inherited_sockets"]

_FIRST_FD: Final = 3
_FDS_MAX: Final = 64


class Notifier:
    """Tells systemd how the service is; says nothing where nobody asked for it.

    Args:
        address: Of systemd's socket; empty: none. A leading @ means an abstract one.
        watchdog_s: The longest that systemd waits for a sign of life; 0: it does not wait for any.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What systemd has set for this process."""
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(environment.get("NOTIFY_SOCKET", ""), int(usec) * 1e-6 if usec.isdecimal() and ours else 0.0)

    def ready(self, status: str) -> None:
        """The service is up, or up again after `reloading`; the status is what `systemctl status` shows."""
        self._send(READY=1, STATUS=status)

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self) -> None:
        """The service ends."""
        self._send(STOPPING=1, STATUS="draining")

    async def keep_alive(self) -> None:
        """Give signs of life from the event loop until cancelled: a loop that hangs gives none."""
        while self._watchdog_s:
            self._send(WATCHDOG=1)
            await asyncio.sleep(self._watchdog_s / 2)

    def _send(self, **fields: object) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        # systemd may be gone or slow; the service goes on all the same.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """The sockets that systemd has opened for this process, by the listener that they are for.

    Their name (`FileDescriptorName=`) is `tls` or `tls1`, `tls2`, ... for the sections `[[tls]]` in turn; all others
    are for `[listen]`. The variables are taken away, so that no child takes them for its own.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()) or not count.isdecimal():
        return found
    for place in range(min(int(count), _FDS_MAX)):
        os.set_inheritable(_FIRST_FD + place, False)
        name = names[place] if place < len(names) else ""
        found.setdefault(_listener(name), []).append(socket.socket(fileno=_FIRST_FD + place))
    return found


def _listener(name: str) -> str:
    """The configuration's key for a socket's name."""
    number = name.removeprefix("tls")
    if not name.startswith("tls") or not (number or "1").isdecimal():
        return "listen"
    return f"tls[{int(number or 1) - 1}]"
