"""The administration interface: what operators see and change, over HTTP with JSON.

Every request names a token (`Authorization: Bearer ...`); wrong ones are held against the client's address like wrong
passwords, and a read-only one changes nothing. What is changed counts at once: what the service remembers of accounts
and bans is read anew. OpenAPI's description is at `/api/v1/openapi.json`, without a token.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from caster import admin_models as models
from caster.accounts import Account, Group, GroupStore, hash_password
from caster.app import Caster
from caster.bans import Ban, BanStore, Offence, network_of
from caster.errors import DipperError
from caster.session import Connection
from caster.tokens import TokenStore
from caster.usage import SessionState, UsageStore

__all__ = ["BODY_MAX", "build_api"]

BODY_MAX: Final = 65_536
SENT_AWAY: Final = "sent away by the operator"
_STATES_AT_ONCE: Final = 100
_READING = {"GET", "HEAD", "OPTIONS"}
_REFUSALS: Final = {
    401: "no token, or a wrong one",
    403: "the token may only read",
    429: "the address is banned",
    503: "the database is away, or there are too many requests at one time",
}
_Login = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(scheme_name="token", description="Of `dipper token add NAME`.", auto_error=False)),
]

Limit = Annotated[int, Query(ge=1, le=1000, description="Most rows.")]
Offset = Annotated[int, Query(ge=0, description="Rows to leave out.")]
Text = Annotated[str, Query(max_length=100)]


def build_api(caster: Caster) -> FastAPI:
    """The interface to a running service."""
    api = FastAPI(
        title="Big Dipper",
        summary="Administration of the caster",
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its pages would be loaded from elsewhere
        redoc_url=None,
    )
    api.add_middleware(_BodyLimit)
    answers: dict[int | str, dict[str, Any]] = {status: {"description": text} for status, text in _REFUSALS.items()}
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(_Guard(caster))], responses=answers)
    for add in (_add_state, _add_sessions, _add_accounts, _add_groups, _add_usage, _add_bans):
        add(router, caster)
    api.include_router(router)
    for kind in caster.database.errors:
        api.add_exception_handler(kind, _database_is_away)
    return api


class _Guard:
    """Lets a request in that names a token, unless its address is banned."""

    def __init__(self, caster: Caster) -> None:
        self._caster = caster
        self._tokens = TokenStore(caster.database)

    async def __call__(self, request: Request, login: _Login) -> None:
        address = request.client.host if request.client else ""
        ban = self._caster.bans.find(address)
        if ban is not None:
            raise HTTPException(429, str(ban))
        if login is None:
            raise HTTPException(401, "name a token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})
        token = await self._tokens.find(login.credentials.strip(), datetime.now(UTC))
        if token is None:
            self._caster.server.offend(address, Offence.PASSWORD)
            raise HTTPException(401, "there is no such token", {"WWW-Authenticate": "Bearer"})
        if token.read_only and request.method not in _READING:
            raise HTTPException(403, f"the token {token.name} may change nothing")


class _BodyLimit:
    """Refuses bodies that are too long, whatever their head says of them."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size = 0

        async def receive_some() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_MAX:
                raise HTTPException(413, f"a body has at most {BODY_MAX} bytes")
            return message

        await self._app(scope, receive_some, send)


async def _database_is_away(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the database: {str(error).partition(chr(10))[0]}"}, 503)


@asynccontextmanager
async def _or(status: int) -> AsyncIterator[None]:
    """Answer with a status where the work fails for a reason that can be told."""
    try:
        yield
    except DipperError as error:
        raise HTTPException(status, str(error)) from None


# ----- the state of the service


def _add_state(router: APIRouter, caster: Caster) -> None:
    started_s = caster.server.now()
    monitor = caster.operations.monitor

    @router.get("/status")
    async def status() -> models.Status:
        """How the service is doing."""
        kinds = [state.kind async for state in _states(caster)]
        return models.Status(
            uptime_s=round(caster.server.now() - started_s, 1),
            connections=len(caster.server.connections),
            rovers=kinds.count("rover"),
            sources=kinds.count("source"),
            mounts=sum(1 for _ in caster.mountpoints),
            stations=len(monitor.reports),
            alarms=sum(map(len, monitor.alarms.values())),
            bans=len([ban for ban in await BanStore(caster.database).all() if ban.is_in_force(datetime.now(UTC))]),
        )

    @router.get("/mounts")
    async def mounts() -> list[models.MountOut]:
        """All mountpoints."""
        return [models.MountOut.of(mountpoint) for mountpoint in caster.mountpoints]

    @router.get("/mounts/{name}")
    async def mount(name: str) -> models.MountOut:
        """One mountpoint."""
        mountpoint = caster.mountpoints.get(name)
        if mountpoint is None:
            raise HTTPException(404, f"there is no mountpoint {name}")
        return models.MountOut.of(mountpoint)

    @router.get("/stations")
    async def stations() -> list[dict[str, Any]]:
        """The health of all base stations (`docs/monitoring.md`), with their alarms."""
        return [
            {**report.as_dict(), "alarms": sorted(monitor.alarms.get(report.mount, ()))}
            for report in sorted(monitor.reports, key=lambda report: report.mount)
        ]

    @router.post("/reload", status_code=204)
    async def reload() -> None:
        """Read the configuration again, as SIGHUP does."""
        async with _or(409):
            caster.read_again()


# ----- sessions


async def _states(caster: Caster) -> AsyncIterator[SessionState]:
    """All sessions, some in each turn of the event loop: ten thousand at once would hold up the streams."""
    for number, connection in enumerate(list(caster.server.connections)):
        if number % _STATES_AT_ONCE == 0:
            await asyncio.sleep(0)
        if (state := connection.state()) is not None and not connection.reason:
            yield state


def _add_sessions(router: APIRouter, caster: Caster) -> None:
    @router.get("/sessions")
    async def sessions(
        account: Text = "",
        mount: Text = "",
        address: Text = "",
        kind: Text = "",
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[models.SessionOut]:
        """Sessions that are open now, the oldest first."""
        found = [state async for state in _states(caster) if _matches(state, account, mount, address, kind)]
        found.sort(key=lambda state: state.number)
        return [models.SessionOut.of(state) for state in found[offset : offset + limit]]

    @router.delete("/sessions/{number}")
    async def end_session(number: int) -> models.Ended:
        """End one session; the client may come back."""
        if not _end(caster, lambda connection: connection.number == number):
            raise HTTPException(404, f"there is no session {number}")
        return models.Ended(ended=1)

    @router.delete("/sessions")
    async def end_sessions(account: Text = "", mount: Text = "", address: Text = "", kind: Text = "") -> models.Ended:
        """End all sessions of an account, a mountpoint or an address."""
        if not (account or mount or address):
            raise HTTPException(422, "name an account, a mount or an address")

        def matches(connection: Connection) -> bool:
            state = connection.state()
            return state is not None and _matches(state, account, mount, address, kind)

        return models.Ended(ended=_end(caster, matches))


def _matches(state: SessionState, account: str, mount: str, address: str, kind: str) -> bool:
    wanted = ((account, state.account_name), (mount, state.mount), (address, state.address), (kind, state.kind))
    return all(not want or want == have for want, have in wanted)


def _end(caster: Caster, matches: Callable[[Connection], bool]) -> int:
    ending = [connection for connection in caster.server.connections if connection.has_session and matches(connection)]
    for connection in ending:
        connection.end(SENT_AWAY)
    return len(ending)


# ----- accounts and groups


def _add_accounts(router: APIRouter, caster: Caster) -> None:
    store = caster.store

    async def get(name: str) -> Account:
        account = await store.get(name)
        if account is None:
            raise HTTPException(404, f"there is no account {name}")
        return account

    @router.get("/accounts")
    async def accounts() -> list[models.AccountOut]:
        """All accounts."""
        return [models.AccountOut.of(account) for account in await store.all()]

    @router.get("/accounts/{name}")
    async def account(name: str) -> models.AccountOut:
        """One account."""
        return models.AccountOut.of(await get(name))

    @router.post("/accounts", status_code=201)
    async def add_account(new: models.NewAccount) -> models.Created:
        """Add an account; without a password one is made up and returned this once."""
        made_up = None if new.password else secrets.token_urlsafe(12)
        hashed = await asyncio.to_thread(hash_password, new.password or made_up or "")
        group = await _group(caster, new.group) if new.group else None
        values = new.model_dump(exclude={"password", "group"})
        async with _or(409):
            await store.add(Account(**values, password_hash=hashed, group=group, created=datetime.now(UTC)))
        caster.authenticator.forget()
        return models.Created(account=models.AccountOut.of(await get(new.name)), password=made_up)

    @router.patch("/accounts/{name}")
    async def change_account(name: str, change: models.AccountChange) -> models.AccountOut:
        """Change an account; sessions that it lets no longer end within seconds."""
        values = change.model_dump(exclude_unset=True)
        if "password" in values:
            values["password_hash"] = await asyncio.to_thread(hash_password, values.pop("password") or "")
        if "group" in values:
            group = values.pop("group")
            values["group_name"] = (await _group(caster, group)).name if group else None
        missing = [key for key, value in values.items() if value is None and key not in ("expires", "group_name")]
        if missing or not values:
            raise HTTPException(422, f"{missing[0]}: may not be null" if missing else "nothing to change was given")
        async with _or(404):
            await store.change(name, **values)
        caster.authenticator.forget()
        return models.AccountOut.of(await get(name))

    @router.delete("/accounts/{name}", status_code=204)
    async def remove_account(name: str) -> None:
        """Remove an account; its sessions end within seconds."""
        async with _or(404):
            await store.remove(name)
        caster.authenticator.forget()


async def _group(caster: Caster, name: str) -> Group:
    async with _or(422):
        return await GroupStore(caster.database).get(name)


def _add_groups(router: APIRouter, caster: Caster) -> None:
    store = GroupStore(caster.database)

    def shown(group: Group) -> models.GroupOut:
        return models.GroupOut.of(group, caster.authenticator.why_spent(group))

    @router.get("/groups")
    async def groups() -> list[models.GroupOut]:
        """All groups."""
        return [shown(group) for group in await store.all()]

    @router.put("/groups/{name}")
    async def put_group(name: models.Name, new: models.GroupIn) -> models.GroupOut:
        """Add a group, or give it other quotas."""
        group = Group(name, **new.model_dump())
        await store.put(group)
        caster.authenticator.forget()
        return shown(group)

    @router.delete("/groups/{name}", status_code=204)
    async def remove_group(name: str) -> None:
        """Remove a group; its members stay, without quotas."""
        async with _or(404):
            await store.remove(name)
        caster.authenticator.forget()


def _add_usage(router: APIRouter, caster: Caster) -> None:
    @router.get("/usage")
    async def usage(
        account: Text = "",
        since: Annotated[date | None, Query(alias="from")] = None,
        until: Annotated[date | None, Query(alias="to")] = None,
    ) -> list[models.UsageDay]:
        """What accounts used, by day; the last minutes may be missing."""
        rows = await UsageStore(caster.database).days(account, since, until)
        return [models.UsageDay(**{**row._mapping, "day": str(row.day)}) for row in rows]


# ----- bans


def _add_bans(router: APIRouter, caster: Caster) -> None:
    store = BanStore(caster.database)

    @router.get("/bans")
    async def bans() -> list[models.BanOut]:
        """Bans that are in force."""
        now = datetime.now(UTC)
        return [models.BanOut.of(ban) for ban in await store.all() if ban.is_in_force(now)]

    @router.post("/bans", status_code=201)
    async def add_ban(new: models.BanIn) -> models.BanOut:
        """Keep a network out, and end its sessions."""
        now = datetime.now(UTC)
        async with _or(422):
            network = network_of(new.network)
        ban = Ban(network, new.reason, now, now + timedelta(seconds=new.seconds) if new.seconds else None)
        await store.put(ban)
        await caster.bans.exchange()
        return models.BanOut.of(ban)

    @router.delete("/bans/{network:path}", status_code=204)
    async def remove_ban(network: str) -> None:
        """Lift a ban."""
        async with _or(404):
            await store.remove(network_of(network))
        await caster.bans.exchange()
