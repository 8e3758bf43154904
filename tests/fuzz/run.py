"""Coverage-guided fuzzing of one target, with atheris (`pip install --group fuzz`).

    python -m tests.fuzz.run TARGET [FOLDER...] [-max_total_time=300 ...]

What follows the target goes to libFuzzer: folders of inputs (the first gets the new ones) and its options; the kept
inputs (`tests/fuzz/corpus.py`) are always among the first. Compiled kernels cannot be followed, so modules that hold
any are left out; with `NUMBA_DISABLE_JIT=1` they are followed as Python, which all targets bear but those that decode
MSM, whose kernels need integers of 64 bits.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

_ROOT = Path(__file__).resolve().parents[2]


def _with_kernels() -> list[str]:
    """The modules that hold kernels."""
    found = [path for package in ("caster", "solver") for path in (_ROOT / package).rglob("*.py")]
    return [
        ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        for path in found
        if "solver.jit import" in path.read_text()
    ]


_LEFT_OUT = [] if os.environ.get("NUMBA_DISABLE_JIT") == "1" else _with_kernels()
with atheris.instrument_imports(include=["caster", "solver"], exclude=_LEFT_OUT):
    from tests.fuzz.corpus import unpack
    from tests.fuzz.targets import TARGETS


def main() -> None:
    with TemporaryDirectory() as known, TemporaryDirectory() as new:
        unpack(sys.argv[1], Path(known))
        folders = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
        options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
        atheris.Setup([sys.argv[0], *(folders or [new]), known, *options], TARGETS[sys.argv[1]])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
