"""Layouts of the messages that are not MSM, as tables: RTCM 10403.3 sections 3.5.1 to 3.5.15.

Each is what follows the message number (DF002). Values come in SI units and radians (semicircles times `ICD_PI`);
names are those of the systems' interface documents. Sign and scale are those of the data fields (table 3.4-1).
"""

from typing import Final

from caster.codec.rtcm.fields import Field, Layout
from solver.constants import ICD_PI, SPEED_OF_LIGHT_MPS

__all__ = ["EPHEMERIS_TYPES", "GLONASS_LEGACY", "GPS_LEGACY", "LAYOUTS", "LEGACY_TYPES"]

GPS_LEGACY: Final = (1001, 1002, 1003, 1004)
GLONASS_LEGACY: Final = (1009, 1010, 1011, 1012)
LEGACY_TYPES: Final = frozenset(GPS_LEGACY + GLONASS_LEGACY)
EPHEMERIS_TYPES: Final = frozenset((1019, 1020, 1041, 1042, 1044, 1045, 1046))


def _u(name: str, bits: int, scale: float = 1) -> Field:
    return Field(name, "u", bits, scale)


def _s(name: str, bits: int, scale: float = 1) -> Field:
    return Field(name, "s", bits, scale)


def _g(name: str, bits: int, scale: float = 1) -> Field:
    return Field(name, "g", bits, scale)


def _angle(name: str, bits: int, exponent: int) -> Field:
    """A signed angle or rate in semicircles times 2^exponent."""
    return Field(name, "s", bits, ICD_PI * 2.0**exponent)


def _p2(name: str, kind: str, bits: int, exponent: int) -> Field:
    return Field(name, kind, bits, 2.0**exponent)


_STATION: Final = (_u("station", 12),)
_POSITION: Final = (
    *_STATION, _u("itrf_year", 6), _u("gps", 1), _u("glonass", 1), _u("galileo", 1), _u("virtual", 1),
    _s("x_m", 38, 1e-4), _u("single_oscillator", 1), _u("reserved", 1),
    _s("y_m", 38, 1e-4), _u("quarter_cycle", 2), _s("z_m", 38, 1e-4),
)  # fmt: skip
_ANTENNA: Final = (*_STATION, Field("antenna", "text"), _u("antenna_setup", 8))
_SERIAL: Final = (*_ANTENNA, Field("antenna_serial", "text"))

_SYSTEM_PARAMETERS: Final = (
    *_STATION, _u("mjd", 16), _u("utc_s", 17), _u("message_count", 5), _u("leap_seconds", 8),
    Field("messages", "group", count="message_count", layout=(
        _u("type", 12), _u("synchronous", 1), _u("interval_s", 16, 0.1),
    )),
)  # fmt: skip
_TEXT: Final = (
    *_STATION,
    _u("mjd", 16),
    _u("utc_s", 17),
    _u("characters", 7),
    _u("bytes", 8),
    Field("text", "utf8", count="bytes"),
)
_PHYSICAL: Final = (
    *_STATION, _u("physical_station", 12), _u("itrf_year", 6),
    _s("x_m", 38, 1e-4), _s("y_m", 38, 1e-4), _s("z_m", 38, 1e-4),
)  # fmt: skip
_DESCRIPTORS: Final = (*_SERIAL, Field("receiver", "text"), Field("firmware", "text"), Field("receiver_serial", "text"))
_GLONASS_BIAS: Final = (
    *_STATION, _u("aligned", 1), _u("reserved", 3),
    Field("bias_m", "mask", 16, 0.02, names=("1C", "1P", "2C", "2P")),
)  # fmt: skip

# Orbits. The widths of the harmonic terms and their scales differ between the systems; the angles do not.
_E: Final = _p2("e", "u", 32, -33)
_SQRT_A: Final = _p2("sqrt_a", "u", 32, -19)
_M0: Final = _angle("m0", 32, -31)
_OMEGA0: Final = _angle("omega0", 32, -31)
_OMEGA: Final = _angle("omega", 32, -31)
_I0: Final = _angle("i0", 32, -31)
_IDOT: Final = _angle("idot", 14, -43)
_DELTA_N: Final = _angle("delta_n", 16, -43)
_OMEGA_DOT: Final = _angle("omega_dot", 24, -43)


def _harmonics(bits: int, exponent: int, radius_exponent: int) -> dict[str, Field]:
    """The six corrections: angles in radians times 2^exponent, radii in metres times 2^radius_exponent."""
    return {name: _p2(name, "s", bits, exponent) for name in ("cuc", "cus", "cic", "cis")} | {
        name: _p2(name, "s", bits, radius_exponent) for name in ("crc", "crs")
    }


def _orbit(toe: Field, harmonics: dict[str, Field]) -> Layout:
    """The orbit in the order of GPS, QZSS, BeiDou and Galileo, from crs to the node's rate."""
    h = harmonics
    return (
        h["crs"], _DELTA_N, _M0, h["cuc"], _E, h["cus"], _SQRT_A, toe, h["cic"], _OMEGA0, h["cis"], _I0, h["crc"],
        _OMEGA, _OMEGA_DOT,
    )  # fmt: skip


_GPS_CLOCK: Final = (_u("toc_s", 16, 16), _p2("af2", "s", 8, -55), _p2("af1", "s", 16, -43), _p2("af0", "s", 22, -31))
_GPS_ORBIT: Final = _orbit(_u("toe_s", 16, 16), _harmonics(16, -29, -5))
_GPS: Final = (
    _u("satellite", 6), _u("week", 10), _u("ura", 4), _u("l2_code", 2), _IDOT, _u("iode", 8), *_GPS_CLOCK,
    _u("iodc", 10), *_GPS_ORBIT, _p2("tgd", "s", 8, -31), _u("health", 6), _u("l2p_off", 1), _u("fit_interval", 1),
)  # fmt: skip
_QZSS: Final = (
    _u("satellite", 4), *_GPS_CLOCK, _u("iode", 8), *_GPS_ORBIT, _IDOT, _u("l2_code", 2), _u("week", 10), _u("ura", 4),
    _u("health", 6), _p2("tgd", "s", 8, -31), _u("iodc", 10), _u("fit_interval", 1),
)  # fmt: skip
_BEIDOU: Final = (
    _u("satellite", 6), _u("week", 13), _u("ura", 4), _IDOT, _u("aode", 5), _u("toc_s", 17, 8),
    _p2("a2", "s", 11, -66), _p2("a1", "s", 22, -50), _p2("a0", "s", 24, -33), _u("aodc", 5),
    *_orbit(_u("toe_s", 17, 8), _harmonics(18, -31, -6)),
    _s("tgd1", 10, 1e-10), _s("tgd2", 10, 1e-10), _u("health", 1),
)  # fmt: skip
_GALILEO: Final = (
    _u("satellite", 6), _u("week", 12), _u("iodnav", 10), _u("sisa", 8), _IDOT, _u("toc_s", 14, 60),
    _p2("af2", "s", 6, -59), _p2("af1", "s", 21, -46), _p2("af0", "s", 31, -34),
    *_orbit(_u("toe_s", 14, 60), _harmonics(16, -29, -5)), _p2("bgd_e5a", "s", 10, -32),
)  # fmt: skip
_NAVIC_HARMONICS: Final = _harmonics(15, -28, -4)
_NAVIC: Final = (
    _u("satellite", 6), _u("week", 10), _p2("af0", "s", 22, -31), _p2("af1", "s", 16, -43), _p2("af2", "s", 8, -55),
    _u("ura", 4), _u("toc_s", 16, 16), _p2("tgd", "s", 8, -31), _angle("delta_n", 22, -41), _u("iodec", 8),
    _u("reserved", 10), _u("l5_flag", 1), _u("s_flag", 1),
    *(_NAVIC_HARMONICS[name] for name in ("cuc", "cus", "cic", "cis", "crc", "crs")),
    _IDOT, _M0, _u("toe_s", 16, 16), _E, _SQRT_A, _OMEGA0, _OMEGA, _angle("omega_dot", 22, -41), _I0,
)  # fmt: skip


def _state(axis: str) -> Layout:
    """Velocity, position and acceleration along one axis; km on the wire."""
    return (
        _g(f"v{axis}_mps", 24, 1000 * 2.0**-20),
        _g(f"{axis}_m", 27, 1000 * 2.0**-11),
        _g(f"a{axis}_mps2", 5, 1000 * 2.0**-30),
    )


_GLONASS: Final = (
    _u("satellite", 6), _u("channel_code", 5), _u("almanac_health", 1), _u("almanac_health_known", 1), _u("p1", 2),
    _u("tk_h", 5), _u("tk_min", 6), _u("tk_s", 1, 30), _u("bn", 1), _u("p2", 1), _u("tb_s", 7, 900),
    *_state("x"), *_state("y"), *_state("z"),
    _u("p3", 1), _g("gamma_n", 11, 2.0**-40), _u("p", 2), _u("ln_third", 1), _g("tau_n_s", 22, 2.0**-30),
    _g("delta_tau_n_s", 5, 2.0**-30), _u("e_n", 5), _u("p4", 1), _u("f_t", 4), _u("n_t", 11), _u("m", 2),
    _u("additional", 1), _u("n_a", 11), _g("tau_c_s", 32, 2.0**-31), _u("n_4", 5), _g("tau_gps_s", 22, 2.0**-30),
    _u("ln_fifth", 1), _u("reserved", 7),
)  # fmt: skip


# Legacy observations: a header and, for each satellite, L1 and perhaps L2 as differences to the L1 pseudorange.
def _legacy(glonass: bool, dual: bool, extended: bool) -> Layout:
    ambiguity = _u("l1_ambiguity_m", 7, 2 * SPEED_OF_LIGHT_MPS / 1000)
    if not glonass:
        ambiguity = _u("l1_ambiguity_m", 8, SPEED_OF_LIGHT_MPS / 1000)
    satellite: list[Field] = [_u("satellite", 6), _u("l1_code", 1)]
    satellite += [_u("channel_code", 5)] if glonass else []
    satellite += [_u("l1_pseudorange_m", 25 if glonass else 24, 0.02), _s("l1_phase_less_code_m", 20, 0.0005)]
    satellite += [_u("l1_lock", 7)]
    satellite += [ambiguity, _u("l1_cn0_dbhz", 8, 0.25)] if extended else []
    if dual:
        satellite += [_u("l2_code", 2), _s("l2_less_l1_code_m", 14, 0.02), _s("l2_phase_less_l1_code_m", 20, 0.0005)]
        satellite += [_u("l2_lock", 7)]
        satellite += [_u("l2_cn0_dbhz", 8, 0.25)] if extended else []
    return (
        *_STATION, _u("epoch", 27 if glonass else 30), _u("multiple", 1), _u("satellite_count", 5),
        _u("smoothed", 1), _u("smoothing", 3),
        Field("satellites", "group", count="satellite_count", layout=tuple(satellite)),
    )  # fmt: skip


_KINDS: Final = ((False, False), (False, True), (True, False), (True, True))
LAYOUTS: Final[dict[int, Layout]] = {
    **{number: _legacy(False, *kind) for number, kind in zip(GPS_LEGACY, _KINDS, strict=True)},
    **{number: _legacy(True, *kind) for number, kind in zip(GLONASS_LEGACY, _KINDS, strict=True)},
    1005: _POSITION,
    1006: (*_POSITION, _u("antenna_height_m", 16, 1e-4)),
    1007: _ANTENNA,
    1008: _SERIAL,
    1013: _SYSTEM_PARAMETERS,
    1019: _GPS,
    1020: _GLONASS,
    1029: _TEXT,
    1032: _PHYSICAL,
    1033: _DESCRIPTORS,
    1041: _NAVIC,
    1042: _BEIDOU,
    1044: _QZSS,
    1045: (*_GALILEO, _u("e5a_health", 2), _u("e5a_invalid", 1), _u("reserved", 7)),
    1046: (
        *_GALILEO, _p2("bgd_e5b", "s", 10, -32), _u("e5b_health", 2), _u("e5b_invalid", 1), _u("e1b_health", 2),
        _u("e1b_invalid", 1), _u("reserved", 2),
    ),
    1230: _GLONASS_BIAS,
}  # fmt: skip
