"""Physical and system constants, in SI units, each with its source (short keys: `docs/bibliography.md`)."""

from typing import Final

SPEED_OF_LIGHT_MPS: Final = 299_792_458.0
"""Exact, by the definition of the metre."""

# Ellipsoids: WGS 84 (NGA.STND.0036) for positions; GRS 80 (as CGCS2000) differs from it by 0.1 mm in height.
WGS84_A_M: Final = 6_378_137.0
WGS84_F: Final = 1.0 / 298.257_223_563

# Earth rotation and gravitation as each system's orbit model is defined with.
GPS_GM_M3_S2: Final = 3.986_005e14
"""IS-GPS-200 table 20-IV; QZSS and NavIC use the same."""
GPS_OMEGA_E_RAD_S: Final = 7.292_115_146_7e-5
"""IS-GPS-200 table 20-IV; Galileo uses the same value."""
GALILEO_GM_M3_S2: Final = 3.986_004_418e14
"""Galileo OS SIS ICD, table 'Galileo user satellite position'."""
BEIDOU_GM_M3_S2: Final = 3.986_004_418e14
"""BDS-SIS-ICD-B1I-3.0 section 5.2.4 (CGCS2000)."""
BEIDOU_OMEGA_E_RAD_S: Final = 7.292_115e-5
"""BDS-SIS-ICD-B1I-3.0 section 5.2.4 (CGCS2000)."""
GLONASS_GM_M3_S2: Final = 3.986_004_418e14
"""GLONASS ICD L1, L2 edition 5.1 (PZ-90.02), table 3.2."""
GLONASS_OMEGA_E_RAD_S: Final = 7.292_115e-5
"""GLONASS ICD L1, L2 edition 5.1, table 3.2."""
GLONASS_A_M: Final = 6_378_136.0
"""Semi-major axis of PZ-90.02, GLONASS ICD edition 5.1, table 3.2."""
GLONASS_J2: Final = 1.082_625_75e-3
"""Second zonal harmonic with the sign of J2, GLONASS ICD edition 5.1, appendix A.3 (PZ-90.02)."""
ICD_PI: Final = 3.141_592_653_589_8
"""The value of pi by which broadcast semi-circles are to be scaled, IS-GPS-200 section 20.3.3.4.3.3."""

DAY_S: Final = 86_400
WEEK_S: Final = 604_800
