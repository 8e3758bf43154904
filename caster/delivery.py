"""Messages to people: one by e-mail, one by a webhook; each is delivered, or fails with a reason in words."""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiosmtplib

from caster.config import SERVER_NAME, AlertsConfig
from caster.errors import SourceError

__all__ = ["post", "send_mail"]

_HEAD_BYTES_MAX: Final = 16_384


async def send_mail(config: AlertsConfig, to: Sequence[str], subject: str, text: str) -> None:
    """Hand a message to the configured server.

    Raises:
        SourceError: The server cannot be reached or does not take it.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = config.sender, ", ".join(to), subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=config.sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
    message.set_content(text)
    try:
        await aiosmtplib.send(
            message,
            hostname=config.smtp_host,
            port=config.smtp_port,
            username=config.smtp_user or None,
            password=config.smtp_password.get_secret_value() or None,
            use_tls=config.smtp_security == "tls",
            start_tls=config.smtp_security == "starttls",
            tls_context=None if config.smtp_security == "none" else _tls_context(config.ca_file),
            timeout=config.timeout_s,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"mail by {config.smtp_host} port {config.smtp_port}: {reason}") from None


async def post(config: AlertsConfig, url: str, values: Mapping[str, Any]) -> None:
    """Post values as JSON to a webhook, which must answer with a status of 2xx.

    Raises:
        SourceError: The webhook cannot be reached or refuses; the text does not show what follows its host, since
            webhooks carry their secret there.
    """
    parts = urlsplit(url)
    where = f"webhook {parts.scheme}://{parts.hostname}"
    try:
        async with asyncio.timeout(config.timeout_s):
            status = await _exchange(config, url, json.dumps(values).encode())
    except TimeoutError:
        raise SourceError(f"{where}: no answer within {config.timeout_s:g} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise SourceError(f"{where}: {error or type(error).__name__}") from None
    if not 200 <= status < 300:
        raise SourceError(f"{where}: answered {status}")


async def _exchange(config: AlertsConfig, url: str, body: bytes) -> int:
    """The status of the answer to one POST."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=_tls_context(config.ca_file) if secure else None,
        limit=_HEAD_BYTES_MAX,
    )
    try:
        writer.write(_request(config, url, len(body)) + body)
        await writer.drain()
        line = (await reader.readuntil(b"\n")).split(maxsplit=2)
        return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/1.") else 0
    finally:
        writer.transport.abort()


def _request(config: AlertsConfig, url: str, size: int) -> bytes:
    parts = urlsplit(url)
    token = config.webhook_token.get_secret_value()
    lines = [
        f"POST {parts.path or '/'}{'?' if parts.query else ''}{parts.query} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        f"User-Agent: {SERVER_NAME}",
        *([f"Authorization: Bearer {token}"] if token else []),
        "Content-Type: application/json",
        f"Content-Length: {size}",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
