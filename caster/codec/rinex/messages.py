"""The layouts of navigation messages in RINEX: names of the numbers in the order of a record's lines.

The first three stand on the line of the satellite and date, then four a line. Names are those of `solver.model.KEPLER`
where it has the value. RINEX 3.05 tables A6 (GPS), A8 (Galileo), A12 (QZSS), A14 (BeiDou), A10 (GLONASS), A16 (SBAS);
4.01 adds CNAV, CNAV-2, CNV1 to CNV3.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from solver.model import NavMessage

__all__ = ["LAYOUT", "STATE"]

_ORBIT: Final = "crs delta_n m0 cuc e cus sqrt_a toe_s cic omega0 cis i0 crc omega omega_dot i_dot"
_HEAD: Final = "af0 af1 af2 "
_LNAV: Final = _HEAD + "iode " + _ORBIT + " l2_codes week l2p accuracy_m health tgd1 iodc transmitted_s fit"
_GALILEO: Final = _HEAD + "iode " + _ORBIT + " sources week spare accuracy_m health tgd1 tgd2 transmitted_s"
_D1D2: Final = _HEAD + "iode " + _ORBIT + " spare week spare accuracy_m health tgd1 tgd2 transmitted_s iodc"
_CNAV_ORBIT: Final = (
    _HEAD + "a_dot crs delta_n m0 cuc e cus sqrt_a {} cic omega0 cis i0 crc omega omega_dot i_dot delta_n_dot"
)
_CNAV: Final = (
    _CNAV_ORBIT.format("top_s") + " urai_ned0 urai_ned1 urai_ed health tgd1 urai_ned2 isc_l1ca isc_l2c isc_l5i isc_l5q"
)
_BEIDOU_3: Final = _CNAV_ORBIT.format("toe_s") + " sat_type top_s sisai_oe sisai_ocb sisai_oc1 sisai_oc2"
_CNV_TAIL: Final = " tgd_b1cp tgd_b2ap sismai health flags iodc transmitted_s spare spare iode"

LAYOUT: Final[Mapping[NavMessage, Sequence[str]]] = {
    NavMessage.LNAV: _LNAV.split(),
    NavMessage.CNAV: (_CNAV + " transmitted_s").split(),
    NavMessage.CNAV2: (_CNAV + " isc_l1cd isc_l1cp spare spare transmitted_s").split(),
    NavMessage.INAV: _GALILEO.split(),
    NavMessage.FNAV: _GALILEO.split(),
    NavMessage.D1: _D1D2.split(),
    NavMessage.D2: _D1D2.split(),
    NavMessage.CNV1: (_BEIDOU_3 + " isc_l1cd spare" + _CNV_TAIL).split(),
    NavMessage.CNV2: (_BEIDOU_3 + " spare isc_b2ad" + _CNV_TAIL).split(),
    NavMessage.CNV3: (_BEIDOU_3 + " sismai health flags tgd_b2bi transmitted_s").split(),
}
"""Of Keplerian messages; `transmitted_s` is in seconds of the week, "fit" in hours (GPS) or a flag."""
STATE: Final = "bias drift frame_s x vx ax health y vy ay channel z vz az age status delta_tau urai flags".split()
"""Of GLONASS and SBAS state vectors; SBAS sends its accuracy in place of the channel, its issue in place of the age."""
