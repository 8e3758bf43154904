"""Bit fields in byte arrays, most significant bit first, as RTCM 3 lays them out (RTCM 10403.3 section 4.1).

The kernels do not check bounds: a caller checks the size of a message first, and hands over an array with
`PADDING` more bytes than the last field needs, since a field is read with the five bytes that it may touch.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.jit import kernel

__all__ = ["PADDING", "padded", "read_unsigned", "write_bits"]

PADDING: Final = 8
"""Bytes that must follow the last field in an array given to these kernels."""


def padded(data: bytes) -> NDArray[np.uint8]:
    """Bytes as an array that the kernels may read up to the last bit of.

    It is writable, because numba finds the compiled kernel several microseconds later for an array that is not.
    """
    return np.frombuffer(bytearray(data).ljust(len(data) + PADDING), np.uint8)


@kernel
def read_unsigned(data: Any, position: int, count: int) -> int:
    """The unsigned field of `count` (1 to 32) bits at bit `position`."""
    first = position >> 3
    word = np.int64(data[first])
    for offset in range(1, 5):
        word = (word << 8) | np.int64(data[first + offset])
    return int((word >> (40 - count - (position & 7))) & ((np.int64(1) << count) - 1))


@kernel
def write_bits(data: Any, position: int, count: int, value: int) -> None:
    """Put the low `count` (1 to 32) bits of `value` at bit `position` of an array that is zero there."""
    word = (value & ((np.int64(1) << count) - 1)) << (40 - count - (position & 7))
    first = position >> 3
    for offset in range(5):
        data[first + offset] |= np.uint8((word >> (32 - 8 * offset)) & 255)
