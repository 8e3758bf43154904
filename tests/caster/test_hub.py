"""The fan-out: shared bytes, whole frames, bounded, and nobody waits for anybody."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from caster.codec.ntrip import encode_chunk
from caster.codec.rtcm import FrameReader, ScanSpace
from caster.fanout import Coding
from caster.hub import TOGETHER_MAX, Mount, Subscriber, Turn
from tests.caster.conftest import frame

NOW_NS = 1_700_000_000 * 10**9


class Socket:
    """A transport whose peer reads only when the test says so: what `Subscriber` needs of asyncio's transport."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.pending = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.pending

    def get_extra_info(self, name: str) -> None:
        """It has no socket of its own, so that everything comes through `write`; see test_fanout for real ones."""


def rover(backlog_max: int = 1000, coding: Coding = "plain") -> tuple[Socket, Subscriber]:
    transport = Socket()
    return transport, Subscriber(transport, backlog_max, coding)  # type: ignore[arg-type]


def test_frames_that_came_together_are_joined_once_and_shared() -> None:
    mount = Mount("M")
    rovers = [rover() for _ in range(3)]
    for _, subscriber in rovers:
        mount.attach(subscriber)
    mount.publish([frame(1077), frame(1087)], NOW_NS)
    sent = [transport.written for transport, _ in rovers]
    assert sent[0] == [frame(1077) + frame(1087)]
    assert all(each[0] is sent[0][0] for each in sent)


def test_chunked_rovers_share_one_wrapped_copy() -> None:
    mount = Mount("M")
    (first, a), (second, b) = rover(coding="chunked"), rover(coding="chunked")
    mount.attach(a)
    mount.attach(b)
    mount.publish([frame(1077)], NOW_NS)
    assert first.written == [encode_chunk(frame(1077))]
    assert first.written[0] is second.written[0]


def test_a_rover_behind_loses_whole_publishes_and_the_others_none() -> None:
    mount = Mount("M")
    (slow_socket, slow), (fast_socket, fast) = rover(100), rover(100)
    mount.attach(slow)
    mount.attach(fast)
    slow.stall(1.0)
    slow_socket.pending = 90
    mount.publish([frame(1077)], NOW_NS)
    slow_socket.pending = 0
    slow.resume()
    mount.publish([frame(1087)], NOW_NS)
    assert slow_socket.written == [frame(1087)] and slow.dropped == 1
    assert fast_socket.written == [frame(1077), frame(1087)] and fast.dropped == 0


def test_the_last_station_messages_greet_a_new_rover_in_order() -> None:
    mount = Mount("M")
    mount.publish([frame(1033), frame(1006, b"\1" * 20), frame(1077)], NOW_NS)
    mount.publish([frame(1006), frame(1019)], NOW_NS)
    transport, subscriber = rover()
    mount.attach(subscriber)
    assert transport.written == [frame(1006) + frame(1033)]
    mount.forget()
    assert mount.greeting() == b""


def test_the_last_ephemeris_of_each_satellite_greets_where_configured() -> None:
    mount = Mount("M", send_ephemerides=True)
    old, new, other = frame(1042, b"\x01\x00"), frame(1042, b"\x01\xff"), frame(1042, b"\x80\x00")
    mount.publish([old, other, new], NOW_NS)
    assert mount.greeting() in (new + other, other + new)


def test_a_subscriber_that_fails_costs_nobody_a_frame() -> None:
    mount = Mount("M")
    seen: list[bytes] = []

    def broken(_mount: Mount, _frames: Sequence[bytes], _received: int) -> None:
        raise ValueError("a bug")

    def good(_mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        assert received_unix_ns == NOW_NS
        seen.extend(frames)

    mount.tap(broken)
    mount.tap(good)
    mount.publish([frame(1077)], NOW_NS)
    mount.untap(good)
    mount.publish([frame(1077)], NOW_NS)
    assert seen == [frame(1077)]


def test_a_raw_mount_passes_any_bytes() -> None:
    mount = Mount("M", raw=True)
    transport, subscriber = rover()
    mount.attach(subscriber)
    mount.publish([b"\xb5b\x01"], NOW_NS)
    assert transport.written == [b"\xb5b\x01"] and mount.traffic.byte_count == 3


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.booleans()), max_size=40))
def test_what_a_rover_gets_is_always_a_run_of_whole_publishes(steps: list[tuple[bytes, bool]]) -> None:
    mount = Mount("M", raw=True)
    transport, subscriber = rover(100)
    mount.attach(subscriber)
    sent = []
    for data, reads in steps:
        if reads:
            transport.pending = 0
            subscriber.resume()
        mount.publish([data], NOW_NS)
        sent.append(data)
        transport.pending = 80
        subscriber.stall(0.0)
    assert len(transport.written) + subscriber.dropped == len(sent)
    assert all(each in sent for each in transport.written)
    assert subscriber.sent_bytes == sum(map(len, transport.written))


async def test_what_is_published_in_one_turn_goes_out_at_its_end_and_taps_come_after_all_rovers() -> None:
    turn, happened = Turn(), list[object]()
    first, second = Mount("A"), Mount("B")
    for mount in (first, second):
        transport, subscriber = rover()
        mount.attach(subscriber)
        transport.written = happened  # type: ignore[assignment]
        mount.tap(lambda mount, frames, _: happened.append((mount.name, len(frames))))
    turn.publish(first, [frame(1077)], NOW_NS)
    turn.publish(second, [frame(1077), frame(1087)], NOW_NS)
    assert happened == []
    await asyncio.sleep(0)
    assert happened == [frame(1077), frame(1077) + frame(1087), ("A", 1), ("B", 2)]


async def test_a_mount_that_publishes_twice_in_one_turn_keeps_the_order() -> None:
    turn, mount, (transport, subscriber) = Turn(), Mount("M"), rover()
    mount.attach(subscriber)
    turn.publish(mount, [frame(1077)], NOW_NS)
    turn.publish(mount, [frame(1087)], NOW_NS)
    turn.publish(mount, [], NOW_NS)
    turn.end()
    assert transport.written == [frame(1077), frame(1087)]
    assert mount.published == 2


async def test_what_waits_for_the_end_of_a_turn_is_bounded() -> None:
    turn, mount, (transport, subscriber) = Turn(), Mount("M"), rover()
    mount.attach(subscriber)
    for _ in range(TOGETHER_MAX + 1):
        turn.publish(mount, [frame(1077)], NOW_NS)
    assert len(transport.written) == TOGETHER_MAX
    await asyncio.sleep(0)
    assert len(transport.written) == TOGETHER_MAX + 1


async def test_a_stream_that_fails_costs_the_others_of_its_turn_nothing() -> None:
    turn, bad, good, (transport, subscriber) = Turn(), Mount("BAD"), Mount("GOOD"), rover()
    good.attach(subscriber)
    with capture_logs() as logs:
        turn.publish(bad, [None], NOW_NS)  # type: ignore[list-item]
        turn.publish(good, [frame(1077)], NOW_NS)
        turn.end()
    assert transport.written == [frame(1077)]
    assert [(entry["event"], entry["mount"]) for entry in logs] == [("publish failed", "BAD")]


class Mounts:
    """Mounts whose streams are read in one turn, and what was taken of each."""

    def __init__(self, *names: str) -> None:
        space = ScanSpace()
        self.turn = Turn()
        self.readers = {name: (Mount(name), FrameReader(space)) for name in names}
        self.taken: list[tuple[str, list[bytes], int]] = []

    def read(self, name: str, data: bytes, received_ns: int = NOW_NS) -> None:
        mount, reader = self.readers[name]
        self.turn.read(reader, data, mount, lambda frames, ns: self.taken.append((name, frames, ns)), received_ns)


async def test_streams_are_cut_into_frames_together_at_the_end_of_a_turn() -> None:
    mounts = Mounts("A", "B", "C")
    mounts.read("A", frame(1077) + frame(1087)[:5], 1)
    mounts.read("B", b"no frame", 2)
    mounts.read("C", frame(1005), 3)
    assert mounts.taken == []
    await asyncio.sleep(0)
    assert mounts.taken == [("A", [frame(1077)], 1), ("C", [frame(1005)], 3)]
    mounts.read("A", frame(1087)[5:], 4)
    await asyncio.sleep(0)
    assert mounts.taken[2:] == [("A", [frame(1087)], 4)]


async def test_a_stream_that_sends_twice_in_one_turn_stays_in_order() -> None:
    mounts = Mounts("A", "B")
    mounts.read("A", frame(1077)[:9], 1)
    mounts.read("B", frame(1005), 2)
    mounts.read("A", frame(1077)[9:], 3)
    mounts.turn.end()
    assert mounts.taken == [("B", [frame(1005)], 2), ("A", [frame(1077)], 3)]
    await asyncio.sleep(0)
    assert len(mounts.taken) == 2


async def test_streams_that_wait_to_be_read_are_bounded() -> None:
    mounts = Mounts(*map(str, range(TOGETHER_MAX + 1)))
    for number in range(TOGETHER_MAX + 1):
        mounts.read(str(number), frame(1005))
    assert len(mounts.taken) == TOGETHER_MAX
    await asyncio.sleep(0)
    assert len(mounts.taken) == TOGETHER_MAX + 1


async def test_frames_that_cannot_be_taken_cost_the_other_streams_nothing() -> None:
    mounts = Mounts("BAD", "GOOD")
    mount, reader = mounts.readers["BAD"]

    def fail(frames: Sequence[bytes], received_ns: int) -> None:
        raise ValueError(len(frames))

    with capture_logs() as logs:
        mounts.turn.read(reader, frame(1077), mount, fail, NOW_NS)
        mounts.read("GOOD", frame(1005))
        await asyncio.sleep(0)
    assert mounts.taken == [("GOOD", [frame(1005)], NOW_NS)]
    assert [(entry["event"], entry["mount"]) for entry in logs] == [("frames lost", "BAD")]
