"""Converted streams as RTKLIB and pyrtcm read them: the observations of the original, within the fields' resolution."""

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pyrtcm import RTCMReader

from caster.codec.rinex.observation import ObservationFile
from caster.codec.rtcm import message_type
from caster.config import MountConfig
from caster.derived import Derivation
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.model import Epoch
from solver.signals import GLONASS, PRN_PER_SYSTEM, signal
from tests.captures import LONG, frames_of
from tests.interop.peers import frames_of as frames_in
from tests.interop.peers import need, running
from tests.oracle.test_rtcm_msm_pyrtcm import columns

MS_M = SPEED_OF_LIGHT_MPS / 1000
RANGE_M = {"msm4": MS_M * 2.0**-25, "msm5": MS_M * 2.0**-25, "legacy": 0.02}
PHASE_M = {"msm4": MS_M * 2.0**-30, "msm5": MS_M * 2.0**-30, "legacy": 0.0005}
EPOCHS = 40
LEAP_S = 18


def recording(shared_data: Path) -> list[bytes]:
    """Ephemerides of a whole recording (channels of GLONASS), then its first epochs."""
    frames = frames_of(shared_data / LONG[0])
    head = [frame for frame in frames if message_type(frame) in (1019, 1020, 1042, 1045, 1046)]
    stop = [place for place, frame in enumerate(frames) if message_type(frame) == 1077][EPOCHS]
    return head + list(frames[:stop])


def derived(frames: list[bytes], convert: str) -> list[bytes]:
    config = MountConfig(name="D", kind="derived", source="S", convert=convert)  # type: ignore[arg-type]
    derivation = Derivation(config)
    made = derivation.take(frames, LEAP_S)
    assert derivation.faulty == 0
    return made


def run(*command: str) -> None:
    """Run a program that needs a moment, and much longer where everything else runs, too."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]


def convbin(folder: Path, name: str, frames: list[bytes]) -> dict[int, Epoch]:
    """A stream's observations as RTKLIB reads them, by time."""
    (folder / f"{name}.rtcm3").write_bytes(b"".join(frames))
    where = ("-o", f"{name}.obs", "-n", f"{name}.nav", "-d", str(folder))
    run("convbin", "-r", "rtcm3", "-tr", "2018/07/14", "23:00:00", "-od", "-os", *where,
              str(folder / f"{name}.rtcm3"))  # fmt: skip
    return {epoch.time_ns: epoch for epoch in ObservationFile((folder / f"{name}.obs").read_bytes()).epochs()}


def rows_of(epoch: Epoch) -> dict[tuple[int, int], int]:
    return {key: row for row, key in enumerate(zip(epoch.sat.tolist(), epoch.signal.tolist(), strict=True))}


def _is_known(sat: int) -> bool:
    """DF038 has slots 1 to 24; RTKLIB sends R26, a satellite beyond them, all the same."""
    return sat // PRN_PER_SYSTEM != GLONASS or sat % PRN_PER_SYSTEM < 24


LEGACY_SIGNALS = {signal(name) for name in ("G1C", "G2W", "R1C")}


@pytest.mark.parametrize("convert", ["msm5", "msm4", "legacy"])
def test_convbin_reads_the_same_observations(shared_data, tmp_path, convert):
    need("convbin")
    original = recording(shared_data)
    theirs = convbin(tmp_path, "original", original)
    ours = convbin(tmp_path, convert, derived(original, convert))
    assert len(theirs) == len(ours) == EPOCHS
    compared = 0
    for time_ns, epoch in theirs.items():
        here, there = rows_of(ours[time_ns]), rows_of(epoch)
        if convert != "legacy":
            assert set(here) == set(there)
        else:
            assert {key for key in there if key[1] in LEGACY_SIGNALS and _is_known(key[0])} <= set(here)
        keys = [key for key in here if key in there]
        mine, other = [here[key] for key in keys], [there[key] for key in keys]
        metres = SPEED_OF_LIGHT_MPS / epoch.frequency_hz[other]
        range_m = np.abs(ours[time_ns].pseudorange_m[mine] - epoch.pseudorange_m[other])
        cycles = ours[time_ns].phase_cycles[mine] - epoch.phase_cycles[other]
        if convert == "legacy":  # which steps of 1500 cycles lie between two zero points is nobody's to know
            cycles -= np.rint(cycles / 1500) * 1500
        assert np.nanmax(range_m) <= RANGE_M[convert] + 1e-3
        assert np.nanmax(np.abs(cycles * metres)) <= PHASE_M[convert] + 3e-4  # RINEX has 0.001 cycles
        compared += len(keys)
    assert compared > 20 * EPOCHS


async def test_str2str_makes_the_same_1004_and_1012(shared_data, tmp_path):
    """RTKLIB's own conversion of the same stream; its phases may be rolled by other steps of 1500 cycles."""
    original, out = recording(shared_data), tmp_path / "str2str.rtcm3"
    (tmp_path / "in.rtcm3").write_bytes(b"".join(original))
    where = ("-in", f"{tmp_path / 'in.rtcm3'}#rtcm3", "-out", f"{out}#rtcm3")
    async with running("str2str", *where, "-msg", "1004,1012"), asyncio.timeout(60):
        while not out.exists() or len(frames_in(out.read_bytes())) < 2 * (EPOCHS - 1):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    theirs = _by_satellite(frames_in(out.read_bytes()))
    ours = _by_satellite(derived(original, "legacy"))
    common = set(theirs) & set(ours)
    missing = {key for key in set(theirs) - set(ours) if key[0] == 1004 or key[2] <= 24}
    assert len(common) > 10 * EPOCHS and not missing
    for key in common:
        for name, limit in (("range_m", 0.0201), ("phase_m", 0.0211), ("cn0", 0.51)):
            assert abs(theirs[key][name] - ours[key][name]) <= limit, (key, name)


def _by_satellite(frames: list[bytes]) -> dict[tuple[int, int, int], dict[str, float]]:
    """What pyrtcm reads of L1 in 1004 and 1012, by type, epoch and satellite."""
    found = {}
    for frame in frames:
        kind = message_type(frame)
        if kind not in (1004, 1012):
            continue
        message = RTCMReader.parse(frame)
        names = ("DF009", "DF011", "DF014", "DF012", "DF015") if kind == 1004 else (
            "DF038", "DF041", "DF044", "DF042", "DF045")  # fmt: skip
        table = columns(message)
        unit_m = MS_M if kind == 1004 else 2 * MS_M
        for sat, rest, whole, phase, cn0 in zip(*(table[name] for name in names), strict=True):
            values = {"range_m": rest + whole * (unit_m if whole < 300 else 1), "cn0": cn0, "phase_m": rest + phase}
            found[kind, message.DF004 if kind == 1004 else message.DF034, sat] = values
    return found


@pytest.mark.parametrize("convert", ["msm4", "msm5", "msm6"])
def test_pyrtcm_reads_the_lower_kind(shared_data, convert):
    """Each signal field of the wire, rounded as the interface document says."""
    frames = [frame for frame in recording(shared_data) if message_type(frame) % 10 == 7][:60]
    short = convert != "msm6"
    for frame, lower in zip(frames, derived(frames, convert), strict=True):
        before, after = columns(RTCMReader.parse(frame)), columns(RTCMReader.parse(lower))
        assert after["DF397"] == before["DF397"] and after["DF398"] == before["DF398"]
        for long, name, step in (("DF405", "DF400", 2.0**-24), ("DF406", "DF401", 2.0**-29)):
            wanted, got = np.array(before[long]), np.array(after[name if short else long])
            assert np.abs(wanted - got).max() <= (step / 2 if short else 0) + 1e-12
        assert after["DF420"] == before["DF420"]
        assert ("DF404" in after) == (convert == "msm5")
