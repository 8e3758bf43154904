"""Which rovers are shed where the machine is too slow, and when they come back."""

from caster.shedding import CALM_S, LATE_LOOKS, LATE_S, Shedding


def crowd(count):
    shedding = Shedding()
    for rover in range(count):
        shedding.join(rover)
    return shedding


def late(shedding, looks=LATE_LOOKS):
    for _ in range(looks):
        shedding.note(2 * LATE_S)
        shedding.look()


def test_the_rovers_that_came_last_are_shed_where_epochs_wait_again_and_again():
    shedding = crowd(100)
    late(shedding)
    assert shedding.shed == set(range(75, 100))
    late(shedding)
    assert shedding.shed == set(range(56, 100))


def test_a_hiccup_sheds_nobody():
    shedding = crowd(100)
    for _ in range(5):
        late(shedding, LATE_LOOKS - 1)
        shedding.look()
    assert not shedding.shed


def test_rovers_come_back_some_at_a_time_while_nothing_waits():
    shedding = crowd(100)
    late(shedding)
    counts = []
    while shedding.shed:
        shedding.note(CALM_S / 2)
        shedding.look()
        counts.append(len(shedding.shed))
    assert counts == [22, 19, 16, 13, 10, 7, 4, 1, 0]


def test_while_some_wait_neither_more_are_shed_nor_fewer():
    shedding = crowd(100)
    late(shedding)
    shedding.note((CALM_S + LATE_S) / 2)
    shedding.look()
    assert len(shedding.shed) == 25


def test_a_rover_that_comes_to_a_crowd_waits_for_its_turn():
    shedding = crowd(4)
    shedding.join("early")
    assert not shedding.shed
    late(shedding)
    shedding.join("late")
    assert shedding.shed == {3, "early", "late"}
    shedding.leave("late")
    shedding.leave(3)
    shedding.look()
    assert not shedding.shed


def test_all_may_be_shed_and_even_then_they_come_back():
    shedding = crowd(2)
    late(shedding, 10)
    assert len(shedding.shed) == 2
    shedding.look()
    assert len(shedding.shed) == 1
