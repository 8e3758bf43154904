"""Memory that a start needs and the service does not: given back once the service is ready.

* A password hash takes 19 MiB for some 20 ms. glibc gives a block of that size its own pages once, and from then on
  takes it from the heap, which stays as large (mallopt(3): the dynamic mmap threshold). A fixed threshold returns it.
* Compiled kernels are loaded through LLVM, whose library's 70 MB of code stay mapped though nobody calls it any more.
  Pages that a process only reads from a file can be dropped at any time (madvise(2), MADV_DONTNEED): whoever needs
  them again finds them in the file.
"""

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["bound_heap", "let_go"]

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_MADV_DONTNEED: Final = 4  # asm-generic/mman-common.h
_OWN_PAGES_BYTES: Final = 1 << 20
_RANGE: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +/")


def bound_heap() -> None:
    """Give each large block pages of its own, for good; does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_BYTES)


def let_go() -> None:
    """Give back what is not needed now.

    What is left stays for good: the collector looks at it no more, since a look through 300,000 objects stalls the
    event loop for up to half a second.
    """
    gc.collect()
    gc.freeze()
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    with suppress(OSError):  # a system without /proc
        for start, stop in list(_clean_ranges()):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_DONTNEED)


def _clean_ranges() -> Iterator[tuple[int, int]]:
    """Where files are mapped that cannot be written to, and of which no page has been changed by the loader."""
    found = None
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if line[0] in "0123456789abcdef":
                found = _RANGE.match(line)
            elif found is not None and line.split() == ["Anonymous:", "0", "kB"]:
                yield int(found[1], 16), int(found[2], 16)
