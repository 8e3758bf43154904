"""Memory of the start is given back, and what was there still works."""

import re
from pathlib import Path

from caster.accounts import hash_password, verify_password
from caster.memory import bound_heap, let_go
from solver.kernels.geodesy import geodetic_from_ecef


def resident_kb(library: str) -> int:
    """Of a library's code, by /proc/self/smaps."""
    texts = re.findall(rf" r-xp .*{library}.*\n(?:.*\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text())
    assert texts
    return sum(map(int, texts))


def test_the_compilers_code_is_let_go_and_kernels_run_on():
    before = geodetic_from_ecef(6378137.0, 1.0, 2.0)
    resident = resident_kb("libllvmlite")
    let_go()
    assert resident_kb("libllvmlite") < resident / 4
    assert geodetic_from_ecef(6378137.0, 1.0, 2.0) == before


def test_a_password_hash_leaves_no_memory_behind():
    bound_heap()
    hashed = hash_password("secret")
    heap = heap_kb()
    for _ in range(3):
        assert verify_password(hashed, "secret")
    assert heap_kb() < heap + 10_000  # a hash takes 19,456 kB


def heap_kb() -> int:
    """The heap's resident size."""
    return int(re.findall(r"\[heap\]\n(?:.*\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text())[0])
