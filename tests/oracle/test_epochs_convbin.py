"""Our epochs against the RINEX files that RTKLIB's convbin made of the same recordings."""

import numpy as np
import pytest

from caster.codec.rinex.observation import ObservationFile
from caster.codec.rtcm import message_type
from caster.codec.rtcm.messages import decode
from caster.epochs import EpochAssembler
from solver.model import HALF_CYCLE, Epoch
from solver.signals import signal_name
from solver.timescale import from_week
from tests.captures import frames_of, read

ROLLOVER_NS = from_week(2010, 0)
SETS = [
    ("str-stromlo-70m/week-rollover-STR17.rtcm3.gz", "str-stromlo-70m/convbin-STR17.obs.xz", 400),
    ("str-stromlo-70m/week-rollover-STR24.rtcm3.gz", "str-stromlo-70m/convbin-STR24.obs.xz", 400),
    (
        "bds-monitor-418m/540423494727.2026-05-15.rtcm3.xz",
        "bds-monitor-418m/convbin-540423494727.2026-05-15.obs.xz",
        400,
    ),
]
UNKNOWN_TO_CONVBIN = {"C1P", "C5P"}


def ours(path, count) -> dict[int, Epoch]:
    learner = EpochAssembler()
    for frame in frames_of(path):  # convbin, too, reads the GLONASS channels of the whole file first
        learner.push_message(decode(frame)) if message_type(frame) == 1020 else None
    assembler = EpochAssembler(channels=learner.channels)
    found: dict[int, Epoch] = {}
    for frame in frames_of(path):
        found |= {epoch.time_ns: epoch for epoch in assembler.push(frame)}
        if len(found) >= count:
            break
    return found


def rows_of(epoch: Epoch) -> dict[tuple[int, int], int]:
    return {key: row for row, key in enumerate(zip(epoch.sat.tolist(), epoch.signal.tolist(), strict=True))}


@pytest.mark.parametrize(("stream", "rinex", "count"), SETS)
def test_every_observation_that_convbin_writes_is_ours(shared_data, stream, rinex, count):
    epochs = ours(shared_data / stream, count)
    compared = 0
    for theirs in ObservationFile(read(shared_data / rinex)).epochs():
        epoch = epochs.get(theirs.time_ns)
        if epoch is None or theirs.time_ns >= ROLLOVER_NS > min(epochs):
            break
        places = rows_of(epoch)
        pairs = [(places[key], row) for key, row in rows_of(theirs).items() if key in places]
        missing = [key for key in rows_of(theirs) if key not in places]
        assert not missing
        extra = {signal_name(key[1]) for key in places if key not in rows_of(theirs)}
        assert extra <= UNKNOWN_TO_CONVBIN
        mine, other = (np.array(column) for column in zip(*pairs, strict=True))
        # RTKLIB keeps Doppler in single precision.
        for name, half_digit in (
            ("pseudorange_m", 6e-4),
            ("phase_cycles", 6e-4),
            ("doppler_hz", 2e-3),
            ("cn0_dbhz", 6e-4),
        ):
            got, wanted = getattr(epoch, name)[mine], getattr(theirs, name)[other]
            present = np.isfinite(wanted)
            np.testing.assert_allclose(got[present], wanted[present], rtol=0, atol=half_digit, err_msg=name)
            compared += int(present.sum())
        phase = np.isfinite(theirs.phase_cycles[other])
        assert np.array_equal(epoch.flags[mine][phase] & HALF_CYCLE, theirs.flags[other][phase] & HALF_CYCLE)
    assert compared > 10_000
