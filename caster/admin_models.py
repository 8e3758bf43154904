"""What the administration interface takes and gives, as OpenAPI describes it.

Times are UTC in ISO 8601, sizes bytes.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from caster.accounts import Account, Group
from caster.bans import Ban
from caster.mountpoints import Mountpoint
from caster.usage import SessionState

__all__ = ["AccountChange", "AccountOut", "BanIn", "BanOut", "GroupIn", "GroupOut", "MountOut", "NewAccount"]

Role = Literal["rover", "station", "operator"]
Name = Annotated[str, StringConstraints(pattern=r"^[^:/\x00-\x1f\x7f]{1,100}$")]
Password = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=0, le=2**62)]


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Status(_Out):
    """How the service is doing."""

    uptime_s: float
    connections: int
    rovers: int
    sources: int
    mounts: int
    stations: int
    alarms: int
    bans: int


class SessionOut(_Out):
    """A rover or a base station that is connected now."""

    number: int
    kind: str
    account: str
    group: str
    mount: str
    address: str
    agent: str
    seconds: float
    sent_bytes: int
    received_bytes: int
    dropped: int
    latitude_deg: float | None
    longitude_deg: float | None
    quality: int | None

    @classmethod
    def of(cls, state: SessionState) -> "SessionOut":
        """From a session as it stands."""
        gga, group = state.gga, state.account.group if state.account else None
        return cls(
            number=state.number,
            kind=state.kind,
            account=state.account_name,
            group=group.name if group else "",
            mount=state.mount,
            address=state.address,
            agent=state.agent,
            seconds=round(state.seconds, 1),
            sent_bytes=state.sent_bytes,
            received_bytes=state.received_bytes,
            dropped=state.dropped,
            latitude_deg=gga.latitude_deg if gga else None,
            longitude_deg=gga.longitude_deg if gga else None,
            quality=gga.quality if gga else None,
        )


class MountOut(_Out):
    """A mountpoint."""

    name: str
    kind: str
    live: bool
    open: bool
    rovers: int
    source: str | None
    source_address: str | None
    frames: int
    bytes: int
    bitrate: int
    messages: str
    latitude_deg: float | None
    longitude_deg: float | None

    @classmethod
    def of(cls, mountpoint: Mountpoint) -> "MountOut":
        """From the mountpoint."""
        traffic, source = mountpoint.mount.traffic, mountpoint.source
        place = traffic.position_deg() or (mountpoint.config.latitude, mountpoint.config.longitude)
        return cls(
            name=mountpoint.name,
            kind=mountpoint.config.kind,
            live=mountpoint.is_live,
            open=mountpoint.config.open,
            rovers=len(mountpoint.mount),
            source=source.account if source else None,
            source_address=source.address if source else None,
            frames=traffic.frame_count,
            bytes=traffic.byte_count,
            bitrate=traffic.bitrate(),
            messages=traffic.format_details(),
            latitude_deg=place[0],
            longitude_deg=place[1],
        )


class AccountOut(_Out):
    """An account, without its password."""

    name: str
    role: str
    mounts: str
    max_sessions: int
    expires: datetime | None
    disabled: bool
    created: datetime
    group: str | None

    @classmethod
    def of(cls, account: Account) -> "AccountOut":
        """From the account."""
        values = {name: getattr(account, name) for name in cls.model_fields if name != "group"}
        return cls(**values, group=account.group.name if account.group else None)


class NewAccount(_In):
    """An account to add; without a password one is made up and returned."""

    name: Name
    role: Role = "rover"
    password: Password | None = None
    mounts: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = "*"
    max_sessions: Count = 0
    expires: datetime | None = None
    group: Name | None = None


class AccountChange(_In):
    """What to change; what is not given stays as it is."""

    role: Role | None = None
    password: Password | None = None
    mounts: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    max_sessions: Count | None = None
    expires: datetime | None = None
    disabled: bool | None = None
    group: Name | None = None


class Created(_Out):
    """A new account; its password is shown this once where it was made up."""

    account: AccountOut
    password: str | None = None


class GroupIn(_In):
    """Quotas; 0: no limit."""

    max_sessions: Count = 0
    day_bytes: Bytes = 0
    month_bytes: Bytes = 0


class GroupOut(_Out):
    """A group, and why it may use no more at present (empty where it may)."""

    name: str
    max_sessions: int
    day_bytes: int
    month_bytes: int
    spent: str = ""

    @classmethod
    def of(cls, group: Group, spent: str) -> "GroupOut":
        """From the group."""
        return cls(
            name=group.name,
            max_sessions=group.max_sessions,
            day_bytes=group.day_bytes,
            month_bytes=group.month_bytes,
            spent=spent,
        )


class UsageDay(_Out):
    """What an account used on a day."""

    day: str
    account: str
    sessions: int
    seconds: float
    sent_bytes: int
    received_bytes: int


class BanIn(_In):
    """A ban to make; without seconds it has no end."""

    network: Annotated[str, StringConstraints(max_length=60)]
    reason: Annotated[str, StringConstraints(max_length=200)] = "by the operator"
    seconds: Annotated[float, Field(gt=0, le=3e9)] | None = None


class BanOut(_Out):
    """A ban."""

    network: str
    reason: str
    created: datetime
    until: datetime | None
    automatic: bool

    @classmethod
    def of(cls, ban: Ban) -> "BanOut":
        """From the ban."""
        return cls.model_validate(ban)


class Ended(_Out):
    """How many sessions were ended."""

    ended: int
