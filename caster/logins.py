"""Logins: a name and a password become an account, at once where they are known.

* Passwords are argon2 hashes, verified in two threads, never in the event loop; an address that guesses many waits for
  itself.
* A password that was verified is remembered by a fast salted hash, in memory, bounded and for a limited time, so that a
  storm of reconnections costs nothing; so is one that was wrong, for a short time. A new password counts at once, since
  what is remembered names the argon2 hash that it was verified with.
* What the database says of an account is believed for `refresh_s`, and for as long as the database is away.
* An unknown name costs the same time as a wrong password.
* A version 1 base station sends a password alone. It is compared with the station accounts whose pattern covers the
  mountpoint, the narrowest pattern first, at most `source_candidates` of them.
"""

import asyncio
import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from caster.accounts import Account, AccountStore, Group, hash_password, verify_password
from caster.codec.ntrip import Credentials
from caster.config import AccountsConfig
from caster.errors import RefusedError, WrongPasswordError

__all__ = ["Authenticator"]

PASSWORD_MAX = 256
_THREADS = 2
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)

_WRONG_S = 10.0  # how long a wrong password is remembered
_ANSWER_S = 5.0  # how long the end of the service waits for the database


class Authenticator:
    """Answers logins and counts sessions; belongs to one event loop.

    Args:
        store: Where the accounts are.
        config: How long what is known is believed.
        clock: Monotonic seconds.

    Attributes:
        why_spent: Tells why a group may have no further session now; empty where it may.
    """

    def __init__(self, store: AccountStore, config: AccountsConfig, clock: Callable[[], float]) -> None:
        self.why_spent: Callable[[Group], str] = lambda group: ""
        self._store = store
        self._config = config
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._hash = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._known: OrderedDict[str, tuple[Account | None, float]] = OrderedDict()
        self._stations: tuple[list[Account], float] = ([], 0.0)
        self._verified: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._verifying: dict[bytes, asyncio.Task[bool]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._asking: dict[str, asyncio.Task[Any]] = {}
        self._sessions: Counter[Hashable] = Counter()
        self._unknown = hash_password(secrets.token_hex())

    async def close(self) -> None:
        """End the threads once the database has answered: the driver's thread would trip over a closed loop."""
        if self._asking:
            _, late = await asyncio.wait(self._asking.values(), timeout=_ANSWER_S)
            for task in late:
                task.cancel()
        for verifying in list(self._verifying.values()):
            verifying.cancel()
        await asyncio.gather(*self._verifying.values(), return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Believe nothing that was read from the database (the configuration was read again)."""
        self._known.clear()
        self._stations = ([], 0.0)

    async def login(self, credentials: Credentials | None, origin: str = "") -> Account:
        """The account of a name and a password.

        Args:
            credentials: As the client sent them.
            origin: Whom the client is counted with.

        Raises:
            RefusedError: 401 where they are missing or wrong, 403 where the account is disabled or has expired.
        """
        if credentials is None:
            raise RefusedError("this mountpoint needs a user name and a password", 401)
        account = await self._account(credentials.user)
        good = await self._check(account.password_hash if account else self._unknown, credentials.password, origin)
        if account is None or not good:
            raise WrongPasswordError("wrong user name or password")
        return _opened(account)

    async def login_source(self, mount: str, password: str, origin: str = "") -> Account:
        """The station account that a version 1 base station's password alone belongs to.

        Some stations send `user:password` in the place of the password; they are taken at their word first.

        Raises:
            RefusedError: 401 where no account that covers the mountpoint has the password, 403 where it is closed.
        """
        user, colon, rest = password.partition(":")
        if colon:
            named = await self._account(user)
            if named and named.may_feed(mount) and await self._check(named.password_hash, rest, origin):
                return _opened(named)
        candidates = [account for account in await self._all_stations() if account.may_feed(mount)]
        candidates.sort(key=lambda account: -account.narrowness(mount))
        for account in candidates[: self._config.source_candidates]:
            if await self._check(account.password_hash, password, origin):
                return _opened(account)
        if not candidates:
            await self._check(self._unknown, password, origin)
        raise WrongPasswordError("wrong password for this mountpoint")

    def begin_session(self, account: Account) -> None:
        """Count a session of an account and of its group.

        Raises:
            RefusedError: The account or the group has as many as it may, or the group's quota is used up (403).
        """
        holders = zip(("account", "group"), (account, account.group), _session_keys(account), strict=False)
        for what, holder, key in holders:
            if holder is not None and 0 < holder.max_sessions <= self._sessions[key]:
                raise RefusedError(f"the {what} {holder.name} has {holder.max_sessions} sessions, its limit", 403)
        why = self.why_spent(account.group) if account.group else ""
        if why:
            raise RefusedError(why, 403)
        self._sessions.update(_session_keys(account))

    def end_session(self, account: Account) -> None:
        """A session of an account has ended."""
        for key in _session_keys(account):
            self._sessions[key] -= 1
            if self._sessions[key] <= 0:
                del self._sessions[key]

    def exchange_session(self, old: Account, new: Account) -> None:
        """A session's account has changed, perhaps its group; its session is counted on, whatever the limits."""
        self.end_session(old)
        self._sessions.update(_session_keys(new))

    async def _account(self, name: str) -> Account | None:
        """The account of a name; what is known is renewed at half its time, so that nobody waits for it in a storm."""
        now, refresh_s = self._clock(), self._config.refresh_s
        known = self._known.get(name)
        if known is None or now >= known[1]:
            return await self._ask_once(f"account {name}", partial(self._learn, name))
        if now >= known[1] - refresh_s / 2 and f"account {name}" not in self._asking:
            self._ask(f"account {name}", partial(self._learn, name))
        return known[0]

    async def _learn(self, name: str) -> Account | None:
        asked = self._clock()
        known = self._known.get(name)
        if "\0" in name:  # no account's name has one, and PostgreSQL does not even look for it
            return None
        account = await self._read(lambda: self._store.get(name[:100]), known)
        _keep(self._known, name, (account, asked + self._config.refresh_s), self._config.verified_count)
        return account

    async def _all_stations(self) -> list[Account]:
        if self._clock() >= self._stations[1]:
            stations = await self._ask_once("stations", self._learn_stations)
            self._stations = (stations, self._clock() + self._config.refresh_s)
        return self._stations[0]

    async def _learn_stations(self) -> list[Account]:
        return await self._read(self._store.stations, self._stations if self._stations[0] else None)

    async def _read(self, ask: Callable[[], Awaitable[_T]], known: tuple[_T, float] | None) -> _T:
        """Ask the database; where it is away, what was known of it counts.

        Raises:
            RefusedError: It is away, and nothing is known.
        """
        try:
            return await ask()
        except self._store.errors as error:
            _log.error("the accounts cannot be read", error=str(error).partition("\n")[0])
            if known is None:
                raise RefusedError("the accounts cannot be asked at this moment", 503) from None
            return known[0]

    async def _ask_once(self, question: str, ask: Callable[[], Coroutine[None, None, _T]]) -> _T:
        """Ask the database; a storm of connections asks the same only once."""
        return await asyncio.shield(self._asking.get(question) or self._ask(question, ask))

    def _ask(self, question: str, ask: Callable[[], Coroutine[None, None, _T]]) -> asyncio.Task[_T]:
        task = self._asking[question] = asyncio.create_task(ask(), name=question)
        task.add_done_callback(lambda _: self._asking.pop(question))
        return task

    async def _check(self, password_hash: str, password: str, origin: str) -> bool:
        """Verify a password, or remember that it was; equal questions at the same time are verified once."""
        if len(password) > PASSWORD_MAX:
            return False
        hasher = self._hash.copy()
        hasher.update(f"{password_hash}\0{password}".encode())
        key = hasher.digest()
        now = self._clock()
        remembered = self._verified.get(key)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        waiting = self._verifying.get(key)
        if waiting is None:
            waiting = asyncio.create_task(self._verify(password_hash, password, origin), name="verify a password")
            self._verifying[key] = waiting
            waiting.add_done_callback(lambda task: self._remember(key, task))
        return await asyncio.shield(waiting)

    async def _verify(self, password_hash: str, password: str, origin: str) -> bool:
        """Hash in a thread; one address waits for itself, so that nobody waits for its storm of guesses."""
        turns = self._turns.get(origin) or asyncio.Semaphore(_THREADS)
        self._turns[origin] = turns
        async with turns:
            work = partial(verify_password, password_hash, password)
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _remember(self, key: bytes, task: asyncio.Task[bool]) -> None:
        del self._verifying[key]
        if task.cancelled() or task.exception() is not None:
            return
        good = task.result()
        until = self._clock() + (self._config.verified_s if good else _WRONG_S)
        _keep(self._verified, key, (good, until), self._config.verified_count)


def _keep(cache: OrderedDict[Any, Any], key: object, value: object, count_max: int) -> None:
    """Put a value into a bounded cache; the oldest gives way."""
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > count_max:
        cache.popitem(last=False)


def _session_keys(account: Account) -> list[Hashable]:
    """What a session is counted under: the account and, apart from it, the group."""
    return [account.name, *([("group", account.group.name)] if account.group else [])]


def _opened(account: Account) -> Account:
    why = account.why_closed(datetime.now(UTC))
    if why:
        raise RefusedError(why, 403)
    return account
