"""RTKLIB (PyPI pyrtklib5) as the outside authority: its readers and models beside ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pyrtklib5 as rk

from solver.model import GLONASS_STATE, KEPLER, Ephemerides, NavMessage
from solver.signals import satellite_of_name
from solver.timescale import NS

UNIX_GPS_S = 315_964_800


def gtime(time_ns: int, offset_s: float = 0.0) -> Any:
    time = rk.gtime_t()
    time.time = time_ns // NS + UNIX_GPS_S
    time.sec = (time_ns % NS) * 1e-9
    return rk.timeadd(time, offset_s)


def time_ns(time: Any) -> int:
    return (time.time - UNIX_GPS_S) * NS + round(time.sec * NS)


def array(values: Any) -> Any:
    out = rk.Arr1Ddouble(len(values))
    for k, value in enumerate(values):
        out[k] = float(value)
    return out


def read_navigation(*paths: Path) -> Any:
    """RTKLIB's nav_t of RINEX navigation or SP3 files."""
    nav = rk.nav_t()
    for path in paths:
        if path.suffix == ".sp3":
            rk.readsp3(str(path), nav, 0)
        else:
            rk.readrnx(str(path), 1, "", rk.obs_t(), nav, rk.sta_t())
    return nav


def sat_name(number: int) -> str:
    name = rk.Arr1Dchar(8)
    rk.satno2id(number, name)
    return str(name[0])


def _message(system: str, code: int) -> NavMessage:
    if system == "E":
        return NavMessage.FNAV if code & 0x2 else NavMessage.INAV
    return NavMessage.D1 if system == "C" else NavMessage.LNAV


_SAME = {
    "e": "e", "i0": "i0", "omega0": "OMG0", "omega": "omg", "m0": "M0", "delta_n": "deln", "i_dot": "idot",
    "omega_dot": "OMGd", "cuc": "cuc", "cus": "cus", "crc": "crc", "crs": "crs", "cic": "cic", "cis": "cis",
    "af0": "f0", "af1": "f1", "af2": "f2", "toe_s": "toes", "iode": "iode", "iodc": "iodc", "health": "svh",
}  # fmt: skip


def kepler_record(eph: Any) -> np.ndarray:
    """RTKLIB's eph_t as a record of `KEPLER`."""
    record = np.zeros(1, KEPLER)
    name = sat_name(eph.sat)
    record["sat"], record["message"] = satellite_of_name(name), _message(name[0], eph.code)
    for ours, theirs in _SAME.items():
        record[ours] = getattr(eph, theirs)
    record["sqrt_a"], record["toe_ns"], record["toc_ns"] = np.sqrt(eph.A), time_ns(eph.toe), time_ns(eph.toc)
    record["tgd1"], record["tgd2"], record["accuracy_m"] = eph.tgd[0], eph.tgd[1], 2.0
    for field in record.dtype.names or ():
        if field.startswith("isc_"):
            record[field] = np.nan
    return record


def glonass_record(eph: Any) -> np.ndarray:
    """RTKLIB's geph_t as a record of `GLONASS_STATE`."""
    record = np.zeros(1, GLONASS_STATE)
    record["sat"], record["channel"], record["health"] = satellite_of_name(sat_name(eph.sat)), eph.frq, eph.svh
    record["toe_ns"], record["delta_tau_s"] = time_ns(eph.toe), eph.dtaun
    record["clock_bias_s"], record["clock_drift"] = -eph.taun if eph.taun else 0.0, eph.gamn
    for field, theirs in (("position_m", eph.pos), ("velocity_mps", eph.vel), ("acceleration_mps2", eph.acc)):
        record[field] = [theirs[k] for k in range(3)]
    return record


def ephemerides(nav: Any) -> Ephemerides:
    """All Keplerian and GLONASS records of RTKLIB's nav_t, in our order."""
    kepler = [kepler_record(nav.eph[k]) for k in range(nav.n)]
    glonass = [glonass_record(nav.geph[k]) for k in range(nav.ng)]
    return Ephemerides(
        kepler=np.sort(np.concatenate(kepler), order=("sat", "toe_ns")) if kepler else np.empty(0, KEPLER),
        glonass=np.sort(np.concatenate(glonass), order=("sat", "toe_ns")) if glonass else np.empty(0, GLONASS_STATE),
        klobuchar_gps=_parameters(nav.ion_gps),
        klobuchar_beidou=_parameters(nav.ion_cmp),
    )


def _parameters(values: Any) -> np.ndarray:
    """Eight parameters; RTKLIB's zeros are our NaN."""
    parameters = np.array([values[k] for k in range(8)])
    return parameters if parameters.any() else np.full(8, np.nan)
