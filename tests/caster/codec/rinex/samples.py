"""Small RINEX files made up for the tests, and the real ones that packages and recordings hold."""

import bz2
import gzip
import importlib.util
import lzma
from pathlib import Path

import pytest

OPENERS = {".xz": lzma.decompress, ".gz": gzip.decompress, ".bz2": bz2.decompress}


def package_file(package: str, name: str) -> Path:
    """A file that a data package ships; skips where the package is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent / name


def content(path: Path) -> bytes:
    """A file's bytes, decompressed."""
    return OPENERS.get(path.suffix, bytes)(path.read_bytes())


def labelled(*lines: tuple[str, str]) -> str:
    """Header lines of a text and its label."""
    return "".join(f"{text:<60}{label:<20}\n" for text, label in lines)


HEADER_3 = labelled(
    ("     3.04           OBSERVATION DATA    M", "RINEX VERSION / TYPE"),
    ("TEST", "MARKER NAME"),
    ("12345               SEPT POLARX5        5.4.0", "REC # / TYPE / VERS"),
    ("678                 TRM59800.00     SCIS", "ANT # / TYPE"),
    (" -2862000.0000  4683000.0000  3240000.0000", "APPROX POSITION XYZ"),
    ("        1.5000        0.0100       -0.0200", "ANTENNA: DELTA H/E/N"),
    ("G    4 C1C L1C D1C S1C", "SYS / # / OBS TYPES"),
    ("R    2 C1C L1C", "SYS / # / OBS TYPES"),
    ("C    6 C2I L2I C1P L1P C9Z L9Z", "SYS / # / OBS TYPES"),
    ("     1.000", "INTERVAL"),
    ("  2023     5    19     1    30    0.0000000     GPS", "TIME OF FIRST OBS"),
    ("  2 R01  1 R24 -4", "GLONASS SLOT / FRQ #"),
    ("    18", "LEAP SECONDS"),
    ("", "END OF HEADER"),
)
BODY_3 = """\
> 2023 05 19 01 30  0.0000000  0  3
G05  20000000.123 7 105000000.125 7      1234.567          45.250
C21  21000000.500   109000000.250    21000001.500   110000000.500     1         2.000
R24  19000000.000   102000000.00016
> 2023 05 19 01 30  1.0000000  0  2
G05  20000001.123 7 105000001.12517      1233.567          45.500
R24  19000001.000   102000001.00026
"""
