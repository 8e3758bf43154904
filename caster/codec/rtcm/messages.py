"""Any frame to a message and back: MSM by `msm`, the types of `layouts` by their tables, all others untouched."""

from dataclasses import dataclass, field
from typing import Any

from caster.codec.rtcm.fields import pack, unpack
from caster.codec.rtcm.framing import make_frame, message_type, payload_of
from caster.codec.rtcm.layouts import LAYOUTS
from caster.codec.rtcm.msm import Msm, decode_msm, encode_msm, is_msm
from caster.errors import FormatError

__all__ = ["Message", "decode", "encode"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message other than MSM.

    Attributes:
        type: Message number; 0 where the payload is too short for one.
        fields: Values by the names of `layouts`; empty for a type that has no layout here.
        rest: Payload bytes behind the last field; the whole payload of a type that has no layout here.
    """

    type: int
    fields: dict[str, Any] = field(default_factory=dict)
    rest: bytes = b""


def decode(frame: bytes) -> Msm | Message:
    """Decode one whole frame.

    Raises:
        FormatError: the message's fields or masks and its length do not fit together; names the type.
    """
    number = message_type(frame)
    if is_msm(number):
        return decode_msm(frame)
    payload = payload_of(frame)
    layout = LAYOUTS.get(number)
    if layout is None:
        return Message(number, {}, payload)
    try:
        values, rest = unpack(layout, payload)
    except FormatError as error:
        raise FormatError(f"RTCM 3 message {number} of {len(payload)} bytes: {error}") from None
    return Message(number, values, rest)


def encode(message: Msm | Message) -> bytes:
    """Encode one message into a frame.

    Raises:
        LocalProtocolError: a field is missing or does not fit into its bits.
    """
    if isinstance(message, Msm):
        return encode_msm(message)
    layout = LAYOUTS.get(message.type)
    if layout is None:
        return make_frame(message.rest)
    return make_frame(pack(layout, message.type, message.fields) + message.rest)
