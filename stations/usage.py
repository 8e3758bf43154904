"""What accounts have used, as tables for people."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.table import Table

from stations.commands.group import byte_text

__all__ = ["BY_DAYS", "session_table", "sum_table"]

BY_DAYS: Final[dict[str, Callable[[Any], tuple[str, str]]]] = {
    "day": lambda row: (str(row.day), row.account),
    "month": lambda row: (f"{row.day:%Y-%m}", row.account),
    "account": lambda row: ("", row.account),
}
"""What sums are told apart by: a time, and the account."""
_SUMS: Final = ("sessions", "seconds", "sent_bytes", "received_bytes")
_NO_ACCOUNT: Final = "(none)"


def sum_table(rows: Iterable[Any], by: str) -> Table:
    """Sums of sessions, time and bytes.

    Args:
        rows: Of `caster.usage.UsageStore.days`.
        by: A key of `BY_DAYS`.
    """
    sums: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        sums[BY_DAYS[by](row)].update({name: getattr(row, name) for name in _SUMS})
    table = Table(by if by != "account" else "", "account", "sessions", "time", "sent", "received", box=None)
    for (when, account), total in sorted(sums.items()):
        counts = (str(total["sessions"]), _time(total["seconds"]))
        table.add_row(
            when, account or _NO_ACCOUNT, *counts, byte_text(total["sent_bytes"]), byte_text(total["received_bytes"])
        )
    return table


def session_table(rows: Iterable[Any], since: datetime | None, until: datetime | None) -> Table:
    """Sessions, the latest first.

    Args:
        rows: Of `caster.usage.UsageStore.sessions`.
        since: First day (UTC).
        until: Last day (UTC).
    """
    names = ("started (UTC)", "account", "kind", "mount", "address", "time", "sent", "received", "dropped")
    table = Table(*names, "last position", "quality", "ended", box=None)
    first = since.replace(tzinfo=UTC) if since else datetime.min.replace(tzinfo=UTC)
    last = until.replace(tzinfo=UTC) + timedelta(days=1) if until else datetime.max.replace(tzinfo=UTC)
    for row in rows:
        if first <= row.started < last:
            table.add_row(*_session_cells(row))
    return table


def _session_cells(row: Any) -> list[str]:
    place = "" if row.latitude_deg is None else f"{row.latitude_deg:.5f} {row.longitude_deg:.5f}"
    return [
        f"{row.started:%Y-%m-%d %H:%M:%S}",
        row.account or _NO_ACCOUNT,
        row.kind,
        row.mount,
        row.address,
        _time(row.seconds),
        byte_text(row.sent_bytes),
        byte_text(row.received_bytes),
        str(row.dropped or ""),
        place,
        "" if row.quality is None else str(row.quality),
        row.reason or f"open at {row.updated:%H:%M:%S}",
    ]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
