"""RTKLIB-EX (PyPI `pyrtklib5`) as a peer process: post-processing of plain RINEX with options like rnx2rtkp's.

`available` tells whether it is installed, `command` what to run. Its defaults refuse ambiguities until a position's
variance is below 0.1 m^2, so that it never fixes a single epoch, and weigh codes otherwise than RTKLIB 2.4.3: both are
set as in 2.4.3 (no such limit, a code that is 100 times as noisy as the carrier). All else is its own.
"""

import importlib.util
import math
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = ["available", "command"]

_POSITION_VARIANCE_M2: Final = 100.0
_CODE_NOISE_RATIO: Final = 100.0
_INSTANTANEOUS, _CONTINUOUS = 2, 1
_BASE_BY_ECEF: Final = 0


def available() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("pyrtklib5") is not None


def command(
    mode: str, output: Path, files: list[Path], systems: int, elevation_mask_deg: float,
    base_ecef_m: tuple[float, float, float] | None, instantaneous: bool = False, bands: int = 2,
) -> list[str]:  # fmt: skip
    """What to run.

    Args:
        mode: single, dgnss or kinematic.
        output: The solution file to write.
        files: Rover, base, navigation.
        systems: RTKLIB's number for a choice of systems.
        elevation_mask_deg: Degrees.
        base_ecef_m: The base's antenna.
        instantaneous: Ambiguities of each epoch by itself.
        bands: RTKLIB's number of frequencies; of BeiDou B1, B2I, B2a, B3I in this order.
    """
    options = ["--bands", str(bands), "--systems", str(systems), "--mask", str(elevation_mask_deg)]
    if base_ecef_m:
        options += ["--base", *(f"{value:.4f}" for value in base_ecef_m)]
    options += ["--instantaneous"] if instantaneous else []
    return [sys.executable, "-m", "bench.rtklib_ex", mode, str(output), *map(str, files), *options]


def main(
    mode: str,
    output: Path,
    files: list[Path],
    systems: Annotated[int, typer.Option()],
    mask: Annotated[float, typer.Option()],
    base: Annotated[tuple[float, float, float] | None, typer.Option()] = None,
    instantaneous: Annotated[bool, typer.Option("--instantaneous")] = False,
    bands: Annotated[int, typer.Option()] = 2,
) -> None:
    """Solve; this runs in the peer process."""
    import pyrtklib5 as rtklib  # type: ignore[import-untyped]

    modes = {"single": rtklib.PMODE_SINGLE, "dgnss": rtklib.PMODE_DGPS, "kinematic": rtklib.PMODE_KINEMA}
    options = rtklib.prcopt_default
    options.mode, options.navsys, options.nf, options.elmin = modes[mode], systems, bands, math.radians(mask)
    options.ionoopt, options.tropopt = rtklib.IONOOPT_BRDC, rtklib.TROPOPT_SAAS
    options.sateph, options.soltype = rtklib.EPHOPT_BRDC, 0
    options.modear, options.glomodear = _INSTANTANEOUS if instantaneous else _CONTINUOUS, 0
    options.gpsmodear = options.bdsmodear = 1  # the default leaves BeiDou float
    options.thresar[1] = _POSITION_VARIANCE_M2
    options.eratio[0] = options.eratio[1] = _CODE_NOISE_RATIO
    options.refpos = _BASE_BY_ECEF
    for axis, value in enumerate(base or ()):
        options.rb[axis] = value
    whole = rtklib.gtime_t()
    names, written = [str(file) for file in files], rtklib.solopt_default
    rtklib.postpos(
        whole, whole, 0.0, 0.0, options, written, rtklib.filopt_t(), names, len(names), str(output), "", ""
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
