"""Tokens of the administration interface: shown once, kept as a hash.

A token is 256 random bits, so that a plain SHA-256 of it is as hard to turn back as any slower hash (what argon2 is for
are passwords that people make up).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from caster.database import Database
from caster.errors import DipperError
from caster.schema import TOKENS

__all__ = ["Token", "TokenStore"]

_PREFIX: Final = "dipper_"


@dataclass(frozen=True, slots=True)
class Token:
    """Who may use the administration interface.

    Attributes:
        name: For the operator; unique.
        token_hash: SHA-256, hexadecimal.
        created: UTC.
        expires: It ends then (UTC), or None.
        read_only: It may look and change nothing.
    """

    name: str
    token_hash: str
    created: datetime
    expires: datetime | None = None
    read_only: bool = False


class TokenStore:
    """The tokens in the database.

    Args:
        database: Opened by its owner.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, name: str, now: datetime, expires: datetime | None = None, *, read_only: bool = False) -> str:
        """Make a token; return it, which nobody can read again.

        Raises:
            DipperError: The name is taken.
        """
        text = _PREFIX + secrets.token_urlsafe(32)
        token = Token(name, _hash(text), now, expires, read_only)
        try:
            async with self._database.begin() as connection:
                values = {key: getattr(token, key) for key in TOKENS.columns.keys()}
                await connection.execute(TOKENS.insert().values(**values))
        except IntegrityError:
            raise DipperError(f"there is a token {name} already") from None
        return text

    async def find(self, text: str, now: datetime) -> Token | None:
        """The token that a client sent, if it is one and has not expired."""
        query = select(TOKENS).where(TOKENS.c.token_hash == _hash(text))
        async with self._database.connect() as connection:
            row = (await connection.execute(query)).first()
        token = Token(**row._mapping) if row else None
        return token if token and (token.expires is None or now < token.expires) else None

    async def all(self) -> list[Token]:
        """All tokens, by name."""
        async with self._database.connect() as connection:
            return [Token(**row._mapping) for row in await connection.execute(select(TOKENS).order_by(TOKENS.c.name))]

    async def remove(self, name: str) -> None:
        """Remove a token; it is refused from now on.

        Raises:
            DipperError: There is no such token.
        """
        async with self._database.begin() as connection:
            result = await connection.execute(TOKENS.delete().where(TOKENS.c.name == name))
        if not result.rowcount:
            raise DipperError(f"there is no token {name}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
