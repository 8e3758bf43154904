"""Basic credentials (RFC 7617), read as receivers send them.

Receivers send base64 with and without padding, with line breaks inside, in the URL-safe alphabet, and text in UTF-8 or
Latin-1. The first colon separates the user from the password, so a password may contain colons.
"""

import base64
import binascii
from typing import NamedTuple

__all__ = ["Credentials", "basic_header", "decode_text", "parse_basic"]

_CREDENTIALS_MAX = 1024  # base64 characters; longer ones are no password that a person or receiver holds
_URL_SAFE = str.maketrans("-_", "+/")


class Credentials(NamedTuple):
    """A user's name and password."""

    user: str
    password: str


def parse_basic(value: str) -> Credentials | None:
    """Read an `Authorization` header's value; None where it holds no Basic credentials that can be read."""
    scheme, _, encoded = value.strip().partition(" ")
    encoded = "".join(encoded.split()).translate(_URL_SAFE).rstrip("=")
    if scheme.lower() != "basic" or len(encoded) > _CREDENTIALS_MAX:
        return None
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = decode_text(raw).partition(":")
    return Credentials(user, password) if colon else None


def basic_header(credentials: Credentials) -> str:
    """The value of an `Authorization` header for these credentials."""
    return "Basic " + base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()


def decode_text(raw: bytes) -> str:
    """Bytes as UTF-8, or as Latin-1 where they are not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
