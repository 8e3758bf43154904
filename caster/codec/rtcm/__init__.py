"""RTCM 3 (RTCM 10403.3): bytes to values and back. Pure: no I/O, no clock.

Where to look:

* `framing`: frames in a stream of bytes, CRC-24Q: `FrameReader`, `message_type`, `make_frame`
* `msm`: observations MSM1 to MSM7 of all systems as columns of numbers: `decode_msm`, `encode_msm`, `decode_msm_batch`
* `msm_kernels`, `bits`: the compiled loops below them
"""

from caster.codec.rtcm.framing import FrameCounters, FrameReader, make_frame, message_type
from caster.codec.rtcm.msm import Msm, MsmBatch, decode_msm, decode_msm_batch, encode_msm, is_msm

__all__ = [
    "FrameCounters",
    "FrameReader",
    "Msm",
    "MsmBatch",
    "decode_msm",
    "decode_msm_batch",
    "encode_msm",
    "is_msm",
    "make_frame",
    "message_type",
]
