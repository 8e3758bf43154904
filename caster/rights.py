"""Whether open sessions may go on: an account that is removed, disabled, expired or given other rights loses its own.

Strategy: the commands and the administration interface count their changes in the database (`changes`). Every
`accounts.refresh_s` the watch reads this one number; only where it is another one, it reads the accounts that have
sessions, once, and hands each session its account as it is now. Expiry is looked at twice a minute.
While the database is away, everybody stays.

A new password is no reason to end a session: it was opened with one that was right then.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from caster.accounts import Account, AccountStore

__all__ = ["RightsWatch", "Session"]

_log = structlog.get_logger(__name__)

_SESSIONS_AT_ONCE: Final = 1000  # some tenths of a millisecond of the event loop
_EXPIRY_PERIOD: Final = timedelta(seconds=30)  # accounts end with a day


class Session(Protocol):
    """A connection, as far as its rights go."""

    @property
    def holder(self) -> Account | None:
        """Whose session it is; None where it needed no account, or is none."""

    def change_holder(self, account: Account) -> None:
        """The account has other limits or another group now."""

    def may_go_on(self, account: Account) -> bool:
        """The account still covers what the session does."""

    def end(self, reason: str) -> None:
        """End it."""


class RightsWatch:
    """Ends sessions whose account lets them no longer; belongs to one event loop.

    Args:
        store: Where the accounts are.
        sessions: All open connections.
        on_change: Called once accounts or groups have changed: what others have read of them is old.
        now: The present, UTC.
    """

    def __init__(
        self,
        store: AccountStore,
        sessions: Callable[[], Iterable[Session]],
        on_change: Callable[[], object] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._on_change = on_change
        self._now = now
        self._changes: int | None = None
        self._judged = datetime.min.replace(tzinfo=UTC)
        self._is_failing = False

    async def run(self, period_s: float) -> None:
        """Look once in a while, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.look()
                self._is_failing = False
            except self._store.errors as error:
                if not self._is_failing:
                    _log.error("changes of accounts cannot be read", error=str(error).partition("\n")[0])
                self._is_failing = True

    async def look(self) -> None:
        """End the sessions of accounts that have expired or, since the last look, have lost their rights."""
        changes, now = await self._store.changes(), self._now()
        if changes == self._changes and abs(now - self._judged) < _EXPIRY_PERIOD:
            return
        self._judged, accounts = now, None
        held = [session for session in self._sessions() if session.holder is not None]
        if changes != self._changes:
            self._on_change()
            accounts = await self._store.some({session.holder.name for session in held if session.holder is not None})
        for number, session in enumerate(held):
            if number % _SESSIONS_AT_ONCE == 0:
                await asyncio.sleep(0)
            known = session.holder
            if known is not None and (accounts is not None or known.expires is not None):
                self._judge(session, known, known if accounts is None else accounts.get(known.name))
        self._changes = changes

    def _judge(self, session: Session, known: Account, account: Account | None) -> None:
        """Hold a session against its account as it is now."""
        if account is None:
            session.end(f"account closed: the account {known.name} was removed")
        elif why := account.why_closed(self._now()):
            session.end(f"account closed: {why}")
        elif account == known:
            return
        elif session.may_go_on(account):
            session.change_holder(account)
        else:
            session.end(f"account closed: the account {known.name} covers this no longer")
