"""Messages between the caster and the processes that hold sockets."""

from hypothesis import given
from hypothesis import strategies as st

from caster.link import Kind, MessageReader, pack

MESSAGES = st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=20)


@given(MESSAGES, st.data())
def test_messages_come_out_as_they_went_in_whatever_the_pieces(messages, data):
    stream = b"".join(pack(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, found = MessageReader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.receive_data(stream[start:stop])
    assert found == messages
