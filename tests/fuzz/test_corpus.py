"""What fuzzing has found worth keeping goes through its target in every test run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import FOLDER, kept
from tests.fuzz.targets import TARGETS

CORPUS_BYTES_MAX = 400_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_inputs_raise_nothing(name):
    inputs = kept(name)
    assert len(inputs) >= 5
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=30)
@given(data=st.data())
def test_kept_inputs_that_are_cut_and_joined_raise_nothing(name, data):
    """Where atheris is not at hand: pieces of what it kept, in any order, with bytes of any kind between."""
    piece = st.sampled_from(kept(name)).flatmap(
        lambda found: st.slices(len(found)).map(lambda part: found[part]) if found else st.just(b"")
    )
    TARGETS[name](b"".join(data.draw(st.lists(st.one_of(piece, st.binary(max_size=8)), max_size=6))))


def test_the_corpus_is_small_and_of_known_targets():
    files = list(FOLDER.iterdir())
    assert {path.stem for path in files} == set(TARGETS)
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES_MAX
