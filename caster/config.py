"""The configuration: one TOML file, read into frozen models, with errors that name the key.

Every limit of the service lives here, with its unit and its reason. `docs/configuration.md` documents every key; a test
asserts it. Environment variables named `DIPPER_` and the key (`DIPPER_DATA_DIR`, `DIPPER_LISTEN__PORT`) go before the
file; the command line's options go before both.
"""

import re
import socket
import tomllib
from fnmatch import fnmatchcase
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from caster.codec.ntrip import Record, parse_query
from caster.errors import ConfigError, RemoteProtocolError
from caster.upstream import Upstream

__all__ = [
    "AdminConfig",
    "AgentRule",
    "AlertsConfig",
    "ArchiveConfig",
    "BansConfig",
    "CasterInfo",
    "Config",
    "HealthConfig",
    "Limits",
    "Listen",
    "MetricsConfig",
    "MountConfig",
    "MqttConfig",
    "NetworkInfo",
    "PositionsConfig",
    "TlsListen",
    "UsageConfig",
    "load_config",
]

SERVER_NAME = "NTRIP BigDipper/0.1"

Seconds = Annotated[float, Field(gt=0, le=86400)]
Bytes = Annotated[int, Field(ge=256, le=1 << 30)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
MountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
MountPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*?\[\]!-]{1,100}$")]
Country = Annotated[str, StringConstraints(pattern=r"^([A-Z]{3})?$")]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=360)]


def _is_upstream(url: str) -> str:
    try:
        Upstream.parse(url)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return url


_TYPES = "message types are numbers from 0 to 4095, or ranges such as 1070-1079"


def _as_type_range(value: object) -> object:
    """Message types as in `1077` or `"1070-1079"`."""
    if isinstance(value, tuple):
        return value
    first, dash, last = str(value).partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(_TYPES)
    return tuple(map(int, numbers))


def _is_type_range(types: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= types[0] <= types[1] <= 4095:
        raise ValueError(_TYPES)
    return types


TypeRange = Annotated[tuple[int, int], BeforeValidator(_as_type_range), AfterValidator(_is_type_range)]
Conversion = Literal["", "msm1", "msm2", "msm3", "msm4", "msm5", "msm6", "legacy"]


def _divides_a_day(interval_s: float) -> float:
    if interval_s and abs(86_400 / interval_s - round(86_400 / interval_s)) > 1e-9:
        raise ValueError("a day must be a whole number of intervals")
    return interval_s


def _is_caster(url: str) -> str:
    try:
        Upstream.parse(url, needs_mount=False)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return url


def _is_filter(text: str) -> str:
    """An expression of NTRIP 2 that is good throughout."""
    try:
        parse_query(f"filter={text}&strict").select([Record.of("STR")])
    except RemoteProtocolError as error:
        raise ValueError(str(error)) from None
    return text


UpstreamUrl = Annotated[str, AfterValidator(_is_upstream)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(_Model):
    """Where the caster listens: IPv4 and IPv6 on every address by default; port 0 takes any free port."""

    hosts: tuple[str, ...] = ("0.0.0.0", "::")
    port: Annotated[int, Field(ge=0, le=65535)] = 2101
    queue: Count = 2000
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    trusted: tuple[IPvAnyNetwork, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    proxies: tuple[IPvAnyNetwork, ...] = ()


class TlsListen(_Model):
    """A listener that speaks TLS, with its certificate chain and key as PEM files."""

    hosts: tuple[str, ...] = ("0.0.0.0", "::")
    port: Annotated[int, Field(ge=0, le=65535)] = 2102
    certificate: Path
    key: Path


class CasterInfo(_Model):
    """What the caster says of itself: the sourcetable's CAS record and the page for browsers."""

    host: str = ""
    identifier: str = "Big Dipper"
    operator: str = ""
    country: Country = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    fallback_host: str = "0.0.0.0"
    fallback_port: Annotated[int, Field(ge=0, le=65535)] = 0
    misc: str = ""


class NetworkInfo(_Model):
    """A NET record of the sourcetable."""

    identifier: str
    operator: str = ""
    fee: bool = False
    web_net: str = ""
    web_str: str = ""
    web_reg: str = ""
    misc: str = ""


class Limits(_Model):
    """The limit on everything."""

    head_bytes: Bytes = 8192
    head_lines: Count = 64
    head_timeout_s: Seconds = 10.0
    source_idle_s: Seconds = 60.0
    takeover_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    write_timeout_s: Seconds = 30.0
    keepalive_s: Seconds = 60.0
    backlog_bytes: Bytes = 32 << 10
    socket_buffer_bytes: Bytes = 112 << 10
    connections: Count = 18_000
    connections_per_address: Count = 500
    handshakes: Count = 2000
    mounts: Count = 10_000
    refusal_delay_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    refusal_delay_max_s: Annotated[float, Field(ge=0, le=600)] = 15.0
    delayed: Count = 1000
    header_gap_s: Annotated[float, Field(ge=0, le=5)] = 0.05
    epoch_join_s: Annotated[float, Field(ge=0, le=1)] = 0.02


class AgentRule(_Model):
    """How to send to the clients whose `User-Agent` matches a pattern (`*` and `?`)."""

    agent: str
    output: Literal["chunked", "identity"]


class AccountsConfig(_Model):
    """Where the accounts are, and how long what is known of them is believed without a look."""

    url: str = ""
    refresh_s: Seconds = 2.0
    verified_s: Seconds = 3600.0
    verified_count: Count = 100_000
    source_candidates: Count = 32
    push_creates_mounts: bool = True


class BansConfig(_Model):
    """When an address is kept out, and for how long; a limit of 0 counts nothing."""

    wrong_passwords: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    bad_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    floods: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    window_s: Seconds = 600.0
    ban_s: Annotated[float, Field(gt=0, le=31_536_000)] = 900.0
    ban_max_s: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400.0
    refresh_s: Seconds = 2.0
    origins: Count = 100_000


class UsageConfig(_Model):
    """What is kept of the sessions."""

    enabled: bool = True
    period_s: Seconds = 300.0
    keep_days: Annotated[float, Field(gt=0, le=36_525)] = 90.0
    keep_totals_days: Annotated[int, Field(ge=32, le=36_525)] = 800


class PositionsConfig(_Model):
    """The log of rovers' positions; off by default, since it tells where people are."""

    enabled: bool = False
    interval_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    flush_s: Seconds = 10.0
    queue: Count = 100_000
    keep_days: Annotated[float, Field(gt=0, le=36_525)] = 30.0


class AdminConfig(_Model):
    """The listener of the administration interface; without a port there is none."""

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _has_both_files(self) -> "AdminConfig":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: give both, for TLS, or none")
        return self


class HealthConfig(_Model):
    """When a station is not well; `caster.health` says what each value is."""

    period_s: Seconds = 10.0
    hold_s: Annotated[float, Field(ge=0, le=86400)] = 15.0
    silent_s: Seconds = 15.0
    stuck_s: Seconds = 30.0
    completeness_min: Annotated[float, Field(ge=0, le=1)] = 0.9
    satellites_min: Annotated[int, Field(ge=0, le=200)] = 5
    cn0_min_dbhz: Annotated[float, Field(ge=0, le=60)] = 30.0
    latency_s: Seconds = 5.0
    position_age_s: Seconds = 120.0
    moved_m: Annotated[float, Field(gt=0, le=1e7)] = 0.05
    moved_keep_s: Annotated[float, Field(gt=0, le=31_536_000)] = 3600.0


class MetricsConfig(_Model):
    """The listener for `/metrics` and `/healthz`; without a port there is none."""

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    lag_max_s: Seconds = 1.0


class ArchiveConfig(_Model):
    """What is kept of the stations' frames; off by default, since it fills a disk."""

    enabled: bool = False
    folder: Path | None = None
    mounts: tuple[MountPattern, ...] = ("*",)
    period: Literal["hour", "day"] = "hour"
    flush_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    queue_bytes: Annotated[int, Field(ge=65_536, le=1 << 34)] = 64 << 20
    keep_days: Annotated[float, Field(gt=0, le=36_525)] = 30.0
    keep_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 20 << 30
    free_bytes_min: Annotated[int, Field(ge=0, le=1 << 50)] = 1 << 30


class MqttConfig(_Model):
    """The MQTT broker; without a host there is none."""

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    user: str = ""
    password: SecretStr = SecretStr("")
    tls: bool = False
    ca_file: Path | None = None
    prefix: Annotated[str, StringConstraints(pattern=r"^[^+#$/][^+#]{0,99}$")] = "dipper"
    caster: Annotated[str, StringConstraints(pattern=r"^[^+#/]{0,100}$")] = ""
    publish: tuple[MountPattern, ...] = ()
    subscribe: tuple[MountPattern, ...] = ()
    rovers: MountName | Literal[""] = ""
    rovers_max: Count = 10_000
    rover_idle_s: Seconds = 60.0
    queue_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = 8 << 20
    retry_min_s: Seconds = 1.0
    retry_max_s: Seconds = 60.0

    @property
    def caster_name(self) -> str:
        """This caster's name in topics: as configured, or the machine's."""
        return self.caster or socket.gethostname()


def _is_web_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("not an address such as https://HOST/PATH")
    return url


WebAddress = Annotated[str, AfterValidator(_is_web_address)]


def _is_mail_address(text: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;:\"]{1,64}@[A-Za-z0-9.-]{1,253}", text):
        raise ValueError("not a mail address such as operators@example.org")
    return text


MailAddress = Annotated[str, AfterValidator(_is_mail_address)]


class AlertsConfig(_Model):
    """Who is told of alarms, and how often; without an address nobody."""

    webhooks: tuple[WebAddress, ...] = ()
    webhook_token: SecretStr = SecretStr("")
    smtp_host: str = ""
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    ca_file: Path | None = None
    sender: MailAddress = "dipper@localhost"
    recipients: tuple[MailAddress, ...] = ()
    owners: bool = True
    alarms: tuple[str, ...] = ("*",)
    gather_s: Annotated[float, Field(ge=0, le=3600)] = 20.0
    repeat_s: Annotated[float, Field(ge=0, le=86400)] = 900.0
    hourly_max: Count = 30
    queue_max: Count = 10_000
    timeout_s: Seconds = 20.0
    retry_min_s: Seconds = 5.0
    retry_max_s: Seconds = 300.0
    attempts_max: Count = 12

    @model_validator(mode="after")
    def _mail_has_server(self) -> "AlertsConfig":
        if self.recipients and not self.smtp_host:
            raise ValueError("smtp_host: mail to recipients needs a server")
        return self


class MountConfig(_Model):
    """A mountpoint, or with a pattern for a name, a rule for the mountpoints that stations create by pushing."""

    name: MountPattern
    kind: str = "station"
    open: bool = False
    raw: bool = False
    output: Literal["auto", "chunked", "identity"] = "auto"
    target: MountName | Literal[""] = ""
    source: MountName | Literal[""] = ""
    keep: tuple[TypeRange, ...] = ()
    drop: tuple[TypeRange, ...] = ()
    convert: Conversion = ""
    interval_s: Annotated[float, Field(ge=0, le=86400), AfterValidator(_divides_a_day)] = 0.0
    identifier: str = ""
    network: str = ""
    country: Country = ""
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    fee: bool = False
    misc: str = ""
    send_ephemerides: bool = False
    owner: Annotated[str, AfterValidator(lambda text: text and _is_mail_address(text))] = ""
    sources: tuple[UpstreamUrl, ...] = ()
    on_demand: bool = False
    linger_s: Annotated[float, Field(ge=0, le=86400)] = 60.0
    failback_s: Seconds = 300.0
    gga: tuple[Latitude, Longitude, float] | None = None
    rovers_max: Count = 100
    ca_file: Path | None = None
    accuracy: Literal["centimetres", "sub-metre"] = "centimetres"

    @property
    def is_pattern(self) -> bool:
        """The name stands for many mountpoints."""
        return any(character in self.name for character in "*?[")

    @model_validator(mode="after")
    def _alias_has_target(self) -> "MountConfig":
        if (self.kind == "alias") != bool(self.target):
            raise ValueError("target: an alias needs the name of the mountpoint that it stands for, others have none")
        return self

    @model_validator(mode="after")
    def _relay_has_sources(self) -> "MountConfig":
        if (self.kind in ("relay", "rover-relay")) != bool(self.sources):
            raise ValueError("sources: a relay needs addresses to pull from, others have none")
        return self

    @model_validator(mode="after")
    def _derived_has_source(self) -> "MountConfig":
        if (self.kind == "derived") != bool(self.source):
            raise ValueError("source: a derived mountpoint needs the name of the one it is made of, others have none")
        if self.source == self.name:
            raise ValueError("source: a mountpoint cannot be made of itself")
        return self


class UpstreamConfig(_Model):
    """Another caster whose streams are offered here, on demand, as its sourcetable lists them."""

    address: Annotated[str, AfterValidator(_is_caster)]
    mounts: tuple[MountPattern, ...] = ("*",)
    filter: Annotated[str, AfterValidator(_is_filter)] = ""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,50}$")] = ""
    open: bool = False
    refresh_s: Seconds = 600.0
    linger_s: Annotated[float, Field(ge=0, le=86400)] = 60.0
    mounts_max: Count = 1000
    rovers_max: Count = 100
    ca_file: Path | None = None


def _unique_names(mounts: tuple[MountConfig, ...]) -> tuple[MountConfig, ...]:
    seen: set[str] = set()
    for mount in mounts:
        if mount.name in seen:
            raise ValueError(f"the name {mount.name!r} is given twice")
        seen.add(mount.name)
    return mounts


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("bigdipper"))


_DEFAULT_MOUNTS = (
    MountConfig(name="DGNSS", kind="dgnss", open=True, identifier="Corrections of the nearest station"),
    MountConfig(name="FIX", kind="fix", open=True, identifier="Positions from your observations"),
)


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="DIPPER_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(default_factory=_default_data_dir)
    listen: Listen = Listen()
    tls: tuple[TlsListen, ...] = ()
    caster: CasterInfo = CasterInfo()
    networks: tuple[NetworkInfo, ...] = ()
    limits: Limits = Limits()
    accounts: AccountsConfig = AccountsConfig()
    bans: BansConfig = BansConfig()
    usage: UsageConfig = UsageConfig()
    positions: PositionsConfig = PositionsConfig()
    admin: AdminConfig = AdminConfig()
    agents: tuple[AgentRule, ...] = ()
    health: HealthConfig = HealthConfig()
    metrics: MetricsConfig = MetricsConfig()
    archive: ArchiveConfig = ArchiveConfig()
    mqtt: MqttConfig = MqttConfig()
    alerts: AlertsConfig = AlertsConfig()
    upstreams: tuple[UpstreamConfig, ...] = ()
    mounts: Annotated[tuple[MountConfig, ...], AfterValidator(_unique_names)] = _DEFAULT_MOUNTS

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given alone counts: `load_config` has laid file, environment and options over one another."""
        return (init_settings,)

    @property
    def server_name(self) -> str:
        """What the `Server` header says: BKG's ntripserver and others look for a leading NTRIP."""
        return SERVER_NAME

    @property
    def archive_folder(self) -> Path:
        """Where the archive is: as configured, or in the data directory."""
        return self.archive.folder or self.data_dir / "archive"

    @property
    def database_url(self) -> str:
        """The database: as configured, or SQLite in the data directory."""
        return self.accounts.url or f"sqlite:///{self.data_dir / 'dipper.sqlite3'}"

    def mount_rule(self, name: str) -> MountConfig:
        """The settings of a mountpoint that a station creates: of the first pattern that its name matches."""
        for rule in self.mounts:
            if rule.is_pattern and fnmatchcase(name, rule.name):
                return rule.model_copy(update={"name": name})
        return MountConfig(name=name)

    def output_for(self, agent: str) -> str:
        """The form of stream that a client's name of itself asks for: `chunked`, `identity`, or empty."""
        for rule in self.agents:
            if fnmatchcase(agent.lower(), rule.agent.lower()):
                return rule.output
        return ""


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """Read a configuration file; without one, the defaults. The environment goes before the file.

    Args:
        path: The TOML file.
        overrides: Values by dotted key, such as `**{"listen.port": 2101}`, that go before both; None leaves a key as
            it is.

    Raises:
        ConfigError: The file cannot be read, or a key is wrong; the text names the file and such keys.
    """
    values = _merge(_read_toml(path) if path else {}, _read_environment())
    for key, value in overrides.items():
        if value is not None:
            _set(values, key.split("."), value)
    try:
        return Config(**values)
    except ValidationError as error:
        lines = _lines(error)
        more = [f"  and {len(lines) - _SHOWN_MAX:,} more"] if len(lines) > _SHOWN_MAX else []
        raise ConfigError("\n".join([f"{path or 'the configuration'}:", *lines[:_SHOWN_MAX], *more])) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: no TOML: line {line} is not text in UTF-8") from None


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Config)()
    except SettingsError as error:  # a list or a table that is not JSON
        key = f"{error}".partition('"')[2].partition('"')[0]
        raise ConfigError(f"the environment: DIPPER_{key.upper()}...: lists and tables are written as JSON") from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two layers of settings, tables within one another."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    values[keys[-1]] = value


_SHOWN_MAX = 20
"""Wrong keys that are named: the same mistake in a thousand mountpoints is one."""

# What the library says of Python's types, in TOML's words.
_MESSAGES = {
    "extra_forbidden": "unknown key",
    "tuple_type": "Input should be an array, in brackets",
    "model_type": "Input should be a table",
    "model_attributes_type": "Input should be a table",
}


def _lines(error: ValidationError) -> list[str]:
    """One line per wrong key: `limits.head_bytes: Input should be ... (got 3)`."""
    lines = []
    for item in error.errors(include_url=False):
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        message = _MESSAGES.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(item["input"], dict | list | tuple | BaseModel) else f" (got {_shown(item['input'])})"
        lines.append(f"  {key}: {message}{shown}")
    return lines


def _shown(value: Any) -> str:
    """A value as it was given, without the login of an address."""
    return re.sub(r"//[^@/]*@", "//...@", repr(value))
