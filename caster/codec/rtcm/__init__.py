"""RTCM 3 (RTCM 10403.3): bytes to values and back. Pure: no I/O, no clock.

Where to look:

* `framing`: frames in a stream of bytes, CRC-24Q: `FrameReader`, `message_type`, `make_frame`
* `messages`: any frame to a message and back: `decode`, `encode`
* `msm`: observations MSM1 to MSM7 of all systems as columns of numbers: `decode_msm`, `encode_msm`, `decode_msm_batch`
* `encoder`: epochs to MSM: `MsmEncoder`, `epoch_to_msm`
* `convert`: MSM to lower kinds and to legacy messages: `lower_msm`, `LegacyEncoder`
* `layouts`, `fields`: all other known messages as tables, and the one packer and unpacker of such tables
* `legacy`: observations 1001 to 1004 and 1009 to 1012 as columns
* `ephemeris`: ephemeris messages to the solver's records and back: `to_record`, `from_record`
* `timing`: which week it is, from the stream itself
* `msm_kernels`, `bits`: the compiled loops below them

Epochs are assembled of messages in `caster.epochs`.
"""

from caster.codec.rtcm.encoder import MsmEncoder, epoch_to_msm
from caster.codec.rtcm.ephemeris import from_record, to_record
from caster.codec.rtcm.framing import FrameCounters, FrameReader, ScanSpace, feed_all, make_frame, message_type
from caster.codec.rtcm.messages import Message, decode, encode
from caster.codec.rtcm.msm import Msm, MsmBatch, decode_msm, decode_msm_batch, encode_msm, is_msm

__all__ = [
    "FrameCounters",
    "FrameReader",
    "Message",
    "Msm",
    "MsmBatch",
    "MsmEncoder",
    "ScanSpace",
    "decode",
    "decode_msm",
    "decode_msm_batch",
    "encode",
    "encode_msm",
    "epoch_to_msm",
    "feed_all",
    "from_record",
    "is_msm",
    "make_frame",
    "message_type",
    "to_record",
]
