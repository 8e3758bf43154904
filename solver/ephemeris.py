"""The broadcast ephemerides that are known: a bounded pool which several streams feed and every solver reads.

Records come in any order, from any stream, many times over. The pool keeps the newest of each satellite and message and
hands out frozen `Ephemerides`, sorted as the kernels search them; a snapshot is built only after something new came.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.model import GLONASS_STATE, KEPLER, Ephemerides

__all__ = ["RECORDS_PER_SATELLITE_MAX", "EphemerisStore"]

RECORDS_PER_SATELLITE_MAX: Final = 32
"""A live pool needs the current and the last of each message; more are kept for files and for streams that lag."""


class EphemerisStore:
    """A pool of broadcast ephemerides and ionosphere parameters.

    One thread may add while others use the snapshots they hold: a snapshot never changes.

    Attributes:
        revision: Grows whenever something new came in: a cheap way to see whether a snapshot is still the latest.
    """

    def __init__(self, records_per_satellite: int = RECORDS_PER_SATELLITE_MAX) -> None:
        self.revision = 0
        self._limit = records_per_satellite
        self._kepler: dict[int, dict[tuple[int, int], NDArray[Any]]] = {}
        self._glonass: dict[int, dict[tuple[int, int], NDArray[Any]]] = {}
        self._klobuchar = {name: np.full(8, np.nan) for name in ("gps", "beidou")}
        self._snapshot: Ephemerides | None = None

    def add(self, records: NDArray[Any]) -> int:
        """Take records of `KEPLER` or `GLONASS_STATE`; a record of the same satellite, message and toe is replaced.

        Args:
            records: (n,) or () structured array.

        Returns:
            How many of them were new or changed.

        Raises:
            ValueError: the records are of neither kind.
        """
        rows = np.atleast_1d(records)
        if rows.dtype not in (KEPLER, GLONASS_STATE):
            raise ValueError(f"not ephemerides: {rows.dtype}")
        table = self._kepler if rows.dtype == KEPLER else self._glonass
        changed = sum(self._add_one(table, rows[k : k + 1].copy()) for k in range(len(rows)))
        if changed:
            self._touch()
        return changed

    def add_klobuchar(self, system: str, parameters: Iterable[float]) -> None:
        """Take alpha 0-3 and beta 0-3 of "gps" or "beidou".

        Raises:
            ValueError: there are not eight, or the system has none.
        """
        values = np.array(list(parameters), np.float64)
        if system not in self._klobuchar or values.shape != (8,):
            raise ValueError(f"not Klobuchar parameters of GPS or BeiDou: {system!r}, {len(values)} values")
        if np.isfinite(values).all() and not np.array_equal(values, self._klobuchar[system]):
            self._klobuchar[system] = values
            self._touch()

    def update(self, ephemerides: Ephemerides) -> int:
        """Take all that a snapshot or a navigation file holds; returns how many records were new."""
        self.add_klobuchar("gps", ephemerides.klobuchar_gps)
        self.add_klobuchar("beidou", ephemerides.klobuchar_beidou)
        return self.add(ephemerides.kepler) + self.add(ephemerides.glonass)

    def snapshot(self, time_ns: int | None = None) -> Ephemerides:
        """All that is known, ordered by satellite, then toe.

        Args:
            time_ns: Forget first what has been out of use for a day at this instant; None: forget nothing.
        """
        if time_ns is not None:
            self._forget(time_ns)
        if self._snapshot is None:
            self._snapshot = Ephemerides(
                kepler=_sorted(self._kepler, KEPLER),
                glonass=_sorted(self._glonass, GLONASS_STATE),
                klobuchar_gps=self._klobuchar["gps"],
                klobuchar_beidou=self._klobuchar["beidou"],
            )
        return self._snapshot

    def newest(self, sat: int) -> NDArray[Any] | None:
        """The record (1,) of a satellite with the latest toe; None where there is none."""
        held = {**self._kepler.get(sat, {}), **self._glonass.get(sat, {})}
        return held[max(held)] if held else None

    def satellites(self) -> list[int]:
        """Satellites of which something is known, in order."""
        return sorted({*self._kepler, *self._glonass})

    def __len__(self) -> int:
        return sum(len(held) for table in (self._kepler, self._glonass) for held in table.values())

    def _touch(self) -> None:
        self.revision += 1
        self._snapshot = None

    def _add_one(self, table: dict[int, dict[tuple[int, int], NDArray[Any]]], record: NDArray[Any]) -> bool:
        """Insert one record; whether it told anything new."""
        held = table.setdefault(int(record["sat"][0]), {})
        message = int(record["message"][0]) if "message" in (record.dtype.names or ()) else 0
        key = (int(record["toe_ns"][0]), message)
        if key in held and held[key].tobytes() == record.tobytes():
            return False
        held[key] = record
        while len(held) > self._limit:
            oldest = min(held)
            del held[oldest]
            if oldest == key:
                return False
        return True

    def _forget(self, time_ns: int) -> None:
        """Drop what is a day from use."""
        day_ns = 86_400_000_000_000
        for table in (self._kepler, self._glonass):
            for sat in list(table):
                late = [key for key in table[sat] if abs(time_ns - key[0]) > day_ns]
                for key in late:
                    del table[sat][key]
                if late:
                    self._touch()
                if not table[sat]:
                    del table[sat]


def _sorted(table: dict[int, dict[tuple[int, int], NDArray[Any]]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """All records of a table as one array, ordered by satellite, then toe."""
    rows = b"".join(table[sat][key].tobytes() for sat in sorted(table) for key in sorted(table[sat]))
    return np.frombuffer(bytearray(rows), dtype)  # numpy's own joining compares the names of all fields anew each time
