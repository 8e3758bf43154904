"""The position log as files: CSV, and GeoJSON (RFC 7946), written as rows come, however many there are."""

import csv
import json
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self, TextIO

__all__ = ["WRITERS", "CsvWriter", "GeoJsonWriter", "Writer"]

_COLUMNS: Final = (
    "time", "kind", "account", "mount", "session", "latitude_deg", "longitude_deg", "height_m", "quality", "satellites",
    "hdop",
)  # fmt: skip
_PLACE: Final = ("latitude_deg", "longitude_deg", "height_m")


class Writer:
    """Writes positions to an open file; as a context manager, it completes the file.

    Args:
        file: Open for text, without translation of line ends.

    Attributes:
        count: Positions written.
    """

    head = ""
    end = ""

    def __init__(self, file: TextIO) -> None:
        self.count = 0
        self._file = file

    def __enter__(self) -> Self:
        """Write the head."""
        self._file.write(self.head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end."""
        self._file.write(self.end)

    def write(self, rows: Iterable[Any]) -> None:
        """Write positions."""
        for row in rows:
            self.write_one(_values(row))
            self.count += 1

    def write_one(self, values: dict[str, Any]) -> None:
        """Write a position."""
        raise NotImplementedError


class CsvWriter(Writer):
    """A table with a head."""

    head = ",".join(_COLUMNS) + "\n"

    def write_one(self, values: dict[str, Any]) -> None:
        """A row."""
        csv.writer(self._file, lineterminator="\n").writerow(values.values())


class GeoJsonWriter(Writer):
    """A collection of points: longitude, latitude, ellipsoidal height."""

    head = '{"type": "FeatureCollection", "features": ['
    end = "\n]}\n"

    def write_one(self, values: dict[str, Any]) -> None:
        """A feature."""
        latitude, longitude, height = (values.pop(name) for name in _PLACE)
        point = {"type": "Point", "coordinates": [longitude, latitude, height]}
        feature = {"type": "Feature", "geometry": point, "properties": values}
        self._file.write((",\n" if self.count else "\n") + json.dumps(feature, ensure_ascii=False))


WRITERS: Final[dict[str, type[Writer]]] = {"csv": CsvWriter, "geojson": GeoJsonWriter}
"""By the name of the format."""


def _values(row: Any) -> dict[str, Any]:
    """A row as it is written: latitude and longitude to some millimetres."""
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["time"] = f"{row.time:%Y-%m-%dT%H:%M:%S}.{row.time.microsecond // 1000:03d}Z"
    return values | {"latitude_deg": round(row.latitude_deg, 8), "longitude_deg": round(row.longitude_deg, 8)}
