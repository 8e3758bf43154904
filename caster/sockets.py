"""Listening sockets with the options that connections inherit from them (on Linux, all that are set here)."""

import errno
import socket

import structlog

from caster.config import Limits
from caster.errors import ConfigError

__all__ = ["adopt", "bind"]

_log = structlog.get_logger(__name__)

_HINTS = {
    errno.EADDRINUSE: " (another program listens there; {key}.port names another port)",
    errno.EACCES: " (ports below 1024 need rights, or a socket of systemd: docs/systemd.md)",
    errno.EADDRNOTAVAIL: " (this machine has no such address; {key}.hosts names others)",
}


def bind(key: str, host: str, port: int, limits: Limits, *, has_other: bool) -> socket.socket | None:
    """A socket bound to an address; None without IPv6 on this machine, where another address is there.

    Args:
        key: Of the configuration, for the error.
        host: IPv4 or IPv6 address.
        port: 0: any free one.
        limits: Buffer and keep-alive.
        has_other: Another address of the section is listened on already.

    Raises:
        ConfigError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_options(sock, limits)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and has_other:
            _log.warning("no IPv6", host=host, error=error.strerror)
            return None
        hint = _HINTS.get(error.errno or 0, "").format(key=key)
        raise ConfigError(f"{key}: {host} port {port}: {error.strerror}{hint}") from None
    sock.setblocking(False)
    return sock


def adopt(key: str, sock: socket.socket, limits: Limits) -> socket.socket:
    """A socket that somebody else has bound, such as systemd.

    Raises:
        ConfigError: It is no TCP socket that listens.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        raise ConfigError(f"{key}: the socket that was passed on is none of TCP")
    _set_options(sock, limits)
    sock.setblocking(False)
    return sock


def _set_options(sock: socket.socket, limits: Limits) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(limits.keepalive_s)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    # Probes are sent to silent peers alone: a rover that has lost its line amid a stream would be held, and counted
    # against its account, until the kernel gives up sending again, after a quarter of an hour (tcp(7)).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(limits.keepalive_s * 1000)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.socket_buffer_bytes)
