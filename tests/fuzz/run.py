"""Coverage-guided fuzzing of one target, with atheris (`pip install --group fuzz`).

    NUMBA_DISABLE_JIT=1 python -m tests.fuzz.run TARGET [FOLDER...] [-max_total_time=300 ...]

Kernels are followed only where they are not compiled. What follows the target goes to libFuzzer: folders of inputs (the
first gets the new ones; the kept corpus is in `tests/fuzz/corpus/TARGET`) and its options.
"""

import sys

import atheris

with atheris.instrument_imports(include=["caster", "solver"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
