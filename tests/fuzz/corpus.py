"""The kept inputs of the fuzz targets: a text file for each, an input a line in hexadecimal, shortest first.

    python -m tests.fuzz.corpus TARGET FOLDER

puts the inputs of a folder in place of a target's, such as libFuzzer's `-merge=1 FOLDER ...` has chosen.
"""

import sys
from pathlib import Path

__all__ = ["keep", "kept", "unpack"]

FOLDER = Path(__file__).parent / "corpus"


def kept(target: str) -> list[bytes]:
    """The inputs of a target."""
    return [bytes.fromhex(line) for line in (FOLDER / f"{target}.txt").read_text().splitlines()]


def keep(target: str, inputs: list[bytes]) -> None:
    """Keep these inputs, and no others."""
    lines = sorted({data.hex() for data in inputs}, key=lambda line: (len(line), line))
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))


def unpack(target: str, folder: Path) -> None:
    """Write a target's inputs as files, as libFuzzer reads them."""
    for number, data in enumerate(kept(target)):
        (folder / f"kept-{number}").write_bytes(data)


if __name__ == "__main__":
    keep(sys.argv[1], [path.read_bytes() for path in Path(sys.argv[2]).iterdir()])
