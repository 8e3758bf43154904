"""Which signal and quantity each column of a RINEX observation file holds.

RINEX 3 and 4 name them ("L2W"): the letter is the quantity, the rest the signal. RINEX 2 has no tracking codes; what it
means is chosen here as RINEX 3.05 section 9 and common converters do:

* a code type is one signal: `_CODES_2` (GPS P1, P2 are 1W, 2W: with anti-spoofing on they are tracked semi-codeless);
* the phase, Doppler and strength of a band belong to its code: on band 1 to C1 rather than P1, on band 2 to P2 rather
  than C2, whichever of them the header declares and the satellite has;
* the letters A, B, C, D of RINEX 2.12 name L1 C/A, L1C, L2C and the GLONASS C/A code of band 2.

BeiDou B1I was named 1I in RINEX 3.02 and 2I in 3.01 and from 3.03; band 1 is B1C from 3.04 on.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex.header import Header
from solver import signals

__all__ = ["DOPPLER", "PHASE", "RANGE", "STRENGTH", "Layout", "layout_of"]

RANGE, PHASE, DOPPLER, STRENGTH = range(4)
_QUANTITY: Final = {"C": RANGE, "L": PHASE, "D": DOPPLER, "S": STRENGTH}
_NO_SIGNAL: Final = ("I", "X")
"""RINEX 3's pseudo-observables: ionosphere delays and receiver channels."""
COLUMNS_MAX: Final = 256
SLOTS: Final = signals.SIGNALS_PER_SYSTEM

_CODES_2: Final[dict[str, dict[str, str]]] = {
    "G": {"C1": "1C", "P1": "1W", "C2": "2X", "P2": "2W", "C5": "5X", "CA": "1C", "CB": "1X", "CC": "2X"},
    "R": {"C1": "1C", "P1": "1P", "C2": "2C", "P2": "2P", "CA": "1C", "CD": "2C"},
    "E": {"C1": "1X", "C5": "5X", "C6": "6X", "C7": "7X", "C8": "8X"},
    "S": {"C1": "1C", "C5": "5X", "CA": "1C"},
    "J": {"C1": "1C", "C2": "2X", "C5": "5X", "C6": "6X", "CA": "1C", "CB": "1X", "CC": "2X"},
    "C": {"C1": "2I", "C2": "2I", "C6": "6I", "C7": "7I"},
    "I": {"C5": "5A"},
}
_PREFERRED_2: Final = {"1": ("C1", "CA", "P1"), "2": ("P2", "C2", "CC", "CD"), "A": ("CA",), "B": ("CB",),
                       "C": ("CC",), "D": ("CD",)}  # fmt: skip


class Layout(NamedTuple):
    """Columns of an observation file, by system number (7 rows).

    Attributes:
        columns: (7,) int32, how many values a satellite of the system has.
        slot: (7, COLUMNS_MAX) int16, place of a column's signal among the system's; -1: no signal that we know.
        quantity: (7, COLUMNS_MAX) int16, `RANGE`, `PHASE`, `DOPPLER` or `STRENGTH`.
        divisor: (7, COLUMNS_MAX) float64, by which the file's values are to be divided.
        slots: (7,) int32, how many signals the system has.
        signal: (7, 32) int16, signals in rising order.
        base_hz: (7, 32) float64, carrier frequency; of GLONASS FDMA at channel 0.
        step_hz: (7, 32) float64, FDMA step per channel, else 0.
    """

    columns: NDArray[np.int32]
    slot: NDArray[np.int16]
    quantity: NDArray[np.int16]
    divisor: NDArray[np.float64]
    slots: NDArray[np.int32]
    signal: NDArray[np.int16]
    base_hz: NDArray[np.float64]
    step_hz: NDArray[np.float64]


def layout_of(header: Header) -> tuple[Layout, list[str]]:
    """The layout that a header declares, and the types that name no known signal ("G C1Y")."""
    systems = len(signals.SYSTEMS)
    layout = Layout(
        columns=np.zeros(systems, np.int32),
        slot=np.full((systems, COLUMNS_MAX), -1, np.int16),
        quantity=np.zeros((systems, COLUMNS_MAX), np.int16),
        divisor=np.ones((systems, COLUMNS_MAX)),
        slots=np.zeros(systems, np.int32),
        signal=np.full((systems, SLOTS), -1, np.int16),
        base_hz=np.full((systems, SLOTS), np.nan),
        step_hz=np.zeros((systems, SLOTS)),
    )
    unknown: list[str] = []
    for system, letter in enumerate(signals.SYSTEMS):
        types = header.observation_types.get(letter if header.version >= 3 else "", [])[:COLUMNS_MAX]
        found = [_signal_of(header.version, letter, name, types) for name in types]
        _fill(layout, system, types, found, header)
        named = zip(types, found, strict=True)
        unknown += [f"{letter} {name}" for name, number in named if number < 0 and name[:1] not in _NO_SIGNAL]
    return layout, unknown if header.version >= 3 else []


def _fill(layout: Layout, system: int, types: list[str], found: list[int], header: Header) -> None:
    order = sorted({number for number in found if number >= 0})
    letter = signals.SYSTEMS[system]
    layout.columns[system], layout.slots[system] = len(types), len(order)
    for slot, number in enumerate(order):
        layout.signal[system, slot] = number
        layout.base_hz[system, slot] = signals.FREQUENCY_HZ[number]
        if system == signals.GLONASS:
            step = signals.GLONASS_CHANNEL_STEP_HZ.get(str(signals.BAND[number]), 0.0)
            layout.step_hz[system, slot] = step
    for column, (name, number) in enumerate(zip(types, found, strict=True)):
        layout.slot[system, column] = order.index(number) if number >= 0 else -1
        layout.quantity[system, column] = _QUANTITY.get(name[0].replace("P", "C"), 0)
        layout.divisor[system, column] = header.scale.get((letter, name), header.scale.get((letter, ""), 1))


def _signal_of(version: float, letter: str, name: str, types: list[str]) -> int:
    """Signal of an observation type, -1 where there is none."""
    if version < 3:
        return signals.signal(letter + _code_2(letter, name, types))
    code = name[1:3]
    if letter == "C" and version < 3.035 and code in ("1I", "1Q", "1X"):
        code = "2" + code[1]
    return signals.signal(letter + code) if name[:1] in _QUANTITY else -1


def _code_2(letter: str, name: str, types: list[str]) -> str:
    """RINEX 3 code of a RINEX 2 type; empty where the system has none."""
    codes = _CODES_2[letter]
    if name[:1] in "CP":
        return codes.get(name, "")
    band = name[1:2]
    candidates = [code for code in _PREFERRED_2.get(band, ("C" + band,)) if code in codes]
    declared = [code for code in candidates if code in types]
    return codes[(declared or candidates)[0]] if name[:1] in "LDS" and candidates else ""
