"""Coverage-guided fuzzing of one target, with atheris (`pip install --group fuzz`).

    python -m tests.fuzz.run TARGET [FOLDER...] [-max_total_time=300 ...]

What follows the target goes to libFuzzer: folders of inputs (the first gets the new ones; the kept corpus is in
`tests/fuzz/corpus/TARGET`) and its options. Compiled kernels cannot be followed, so modules that hold any are left out;
with `NUMBA_DISABLE_JIT=1` they are followed as Python, which all targets bear but those that decode MSM, whose kernels
need integers of 64 bits.
"""

import os
import sys
from pathlib import Path

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
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
