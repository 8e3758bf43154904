"""Steps of an epoch: carriers that fade, turn by half a cycle, and tell how noisy they are."""

import numpy as np
import pytest

from solver.kernels import kalman, rtk
from solver.kernels.differencing import LINK
from solver.model import HALF_CYCLE
from solver.rtk import RtkState
from solver.signals import SIGNAL_COUNT

WAVELENGTH_M = 0.2363


def carriers(cn0_dbhz, elevation=None):
    """One group of carriers with the rover's C/N0; the base's is steady."""
    links = np.zeros(len(cn0_dbhz), LINK)
    links["key"] = np.arange(len(links)) + 1
    links["wavelength_m"] = WAVELENGTH_M
    links["elevation"] = 1.0 if elevation is None else elevation
    links["cn0_dbhz"][:, 0] = cn0_dbhz
    links["cn0_dbhz"][:, 1] = 45.0
    links["phase_m2"] = 1e-5
    return links


def weighed(links, strongest_dbhz, dt_s=1.0, misfits=0):
    """Links and slips after their C/N0 was compared with what it was lately."""
    places, notes = np.arange(len(links), dtype=np.int32), np.zeros(len(links), rtk.NOTE)
    notes["cn0_dbhz"] = np.stack([np.asarray(strongest_dbhz), np.full(len(links), 45.0)], axis=1)
    notes["misfits"] = misfits
    slipped = np.zeros(len(links), np.bool_)
    rtk.weigh_fades(len(links), links, dt_s, places, notes, slipped)
    return links, slipped, notes


def test_the_variance_is_that_of_a_reflection_which_explains_the_fade():
    """Six decibels beyond the free ones are a reflection of half the amplitude, which turns the phase by 30 degrees."""
    six = -20 * np.log10(0.5)
    links, slipped, _ = weighed(carriers([45.0, 45.0 - rtk.FADE_FREE_DB - six]), [45.0, 45.0])
    assert links["phase_m2"][0] == 1e-5
    assert links["phase_m2"][1] == pytest.approx(1e-5 + (WAVELENGTH_M / 12) ** 2, rel=0.01)
    assert not slipped.any()


def test_a_carrier_that_nearly_vanishes_has_slipped():
    """As C24 of 2026-05-15 in Tibet: 17 dB down at 65 degrees, and one cycle more when it is back; no flag."""
    _, slipped, _ = weighed(carriers([47.0, 30.0]), [47.0, 47.0])
    assert slipped.tolist() == [False, True]


def test_a_carrier_that_contradicts_the_others_for_three_epochs_has_slipped():
    assert not weighed(carriers([45.0]), [45.0], misfits=rtk.MISFITS_MAX - 1)[1].any()
    assert weighed(carriers([45.0]), [45.0], misfits=rtk.MISFITS_MAX)[1].all()


def test_a_satellite_that_is_weak_from_the_start_is_measured_by_lower_ones():
    """A GEO whose reflection stands still never was stronger; satellites no higher in the sky are."""
    links = carriers([46.0, 45.0, 44.0, 34.0], np.radians([20.0, 25.0, 30.0, 50.0]))
    links, _, _ = weighed(links, links["cn0_dbhz"][:, 0].copy())
    assert (links["phase_m2"][:3] == 1e-5).all()
    assert links["phase_m2"][3] > 3e-4


def test_a_hand_over_the_antenna_is_no_reflection():
    """Second 1010 of jd-walk-20181009: all carriers lose 12 to 18 dB for 100 s, and all of them stay whole."""
    links, slipped, _ = weighed(carriers([30.0, 29.0, 31.0, 33.0, 28.0]), [45.0, 46.0, 45.0, 46.0, 46.0])
    assert not slipped.any()
    assert (links["phase_m2"] == 1e-5).all()


def test_a_reflection_is_seen_behind_a_hand_over_the_antenna():
    links, slipped, _ = weighed(carriers([35.0, 35.0, 35.0, 35.0, 20.0]), [45.0, 45.0, 45.0, 45.0, 45.0])
    assert slipped.tolist() == [False, False, False, False, True]
    assert (links["phase_m2"][:4] == 1e-5).all()


def test_what_several_reflections_take_is_not_taken_for_a_hand():
    links, _, _ = weighed(carriers([39.0, 39.0, 39.0, 45.0, 45.0]), [45.0, 45.0, 45.0, 45.0, 45.0])
    assert (links["phase_m2"][:3] > 5e-5).all()


def test_what_was_strongest_is_forgotten_slowly():
    _, _, notes = weighed(carriers([40.0, 47.0]), [45.0, 45.0], dt_s=100.0)
    assert notes["cn0_dbhz"][:, 0] == pytest.approx([45.0 - 100.0 * rtk.FADE_FORGET_DB_S, 47.0])


def in_all_directions(count):
    """Carriers of one group from all over the sky."""
    links = carriers([45.0] * count)
    up = np.abs(np.random.default_rng(1).normal(size=(count, 3)))
    links["unit"] = up / np.linalg.norm(up, axis=1, keepdims=True)
    return links


def differenced(links, half):
    """Slips by time differences against an epoch with phases of zero, where some carriers' polarity was not known."""
    places, notes = np.arange(len(links), dtype=np.int32), np.zeros(len(links), rtk.NOTE)
    notes["half"] = half
    notes["integer"] = 7.0
    slipped, x = np.zeros(len(links), np.bool_), np.full(len(links), 7.1)
    rtk.time_differences(len(links), links, 10**9, 0, places, notes, 0.02, x, slipped, np.empty(3), np.empty((3, 3)))
    assert x - 7.1 == pytest.approx(notes["integer"] - 7.0)
    return slipped, x - 7.1


def test_carriers_tell_how_noisy_the_step_between_two_epochs_is():
    links = in_all_directions(12)
    places, slipped, arrays = np.arange(12, dtype=np.int32), np.zeros(12, np.bool_), (np.empty(3), np.empty((3, 3)))

    def factor(count):
        notes = np.zeros(12, rtk.NOTE)
        return rtk.time_differences(count, links, 10**9, 0, places, notes, 0.02, np.zeros(count), slipped, *arrays)

    assert 0.4 < factor(12) < 0.5  # all the same: 6 of 6 + 8
    links["phase_m"] = 10.0 * np.sqrt(2.0 * links["phase_m2"]) * np.random.default_rng(2).normal(size=12)
    assert 15.0 < factor(12) < 100.0
    assert factor(6) == 1.0  # too few to tell


def test_a_polarity_that_becomes_known_is_a_slip_where_the_other_carriers_cannot_tell():
    """As a NEO-M8P's in Galway: 286 carriers turned by half a cycle when it was known, with unbroken lock times."""
    few, many = in_all_directions(4), in_all_directions(9)
    assert differenced(few, half=HALF_CYCLE)[0].all()
    assert not differenced(few, half=0)[0].any()
    assert not differenced(many, half=HALF_CYCLE)[0].any()
    still = in_all_directions(4)
    still["flags"] = HALF_CYCLE
    assert not differenced(still, half=HALF_CYCLE)[0].any()


@pytest.mark.parametrize("turn", [-0.5, 0.5])
def test_an_ambiguity_turns_with_its_carrier_when_the_polarity_becomes_known(turn):
    """Of 242 such carriers of a walk 103 turned by half a cycle and went on as if nothing had happened, as 128 did."""
    links = in_all_directions(18)
    links["phase_m"][3] = turn * WAVELENGTH_M
    slipped, turned = differenced(links, half=HALF_CYCLE)
    assert not slipped.any()
    assert turned == pytest.approx([turn if k == 3 else 0.0 for k in range(18)])
    assert differenced(links, half=0)[0].tolist() == [k == 3 for k in range(18)]


def weighed_fresh(locked):
    """Variances of carriers a second apart that have been followed for so many epochs, in square cycles."""
    links, notes = carriers([45.0] * len(locked)), np.zeros(len(locked), rtk.NOTE)
    notes["locked"] = locked
    before = links["phase_m2"].copy()
    rtk.weigh_fresh(len(locked), links, 1.0, np.arange(len(locked), dtype=np.int32), notes)
    return (links["phase_m2"] - before) / WAVELENGTH_M**2


def test_a_carrier_that_was_just_found_again_is_noisy_while_its_loop_settles():
    """In the first epoch after a slip, 32 % of a walk's carriers were within 0.06 cycles of integers, 80 % later on."""
    noisy = weighed_fresh([9, 9, 9, 9, 1, 2])
    assert noisy[:4] == pytest.approx(0.0)
    assert np.sqrt(noisy[4:]) == pytest.approx(rtk.FRESH_CYCLES * np.exp([0.0, -1.0]))


def test_carriers_that_all_start_at_once_are_what_there_is():
    assert weighed_fresh([1, 1, 1, 1, 1, 9]) == pytest.approx(0.0)
    assert weighed_fresh([2, 2, 2, 2, 2, 2]) == pytest.approx(0.0)


def test_ambiguities_of_satellites_out_of_view_carry_no_position():
    """In a walk under trees all carriers slipped; old ones of hidden satellites kept the codes from telling in full."""
    notes = np.zeros(12, rtk.NOTE)
    notes["locked"][:9] = 50
    notes["locked"][9:] = 1
    assert rtk.count_carried(3, np.array([9, 10, 11], np.int32), notes) == 0
    assert rtk.count_carried(4, np.array([0, 9, 10, -1], np.int32), notes) == 1


def test_single_epochs_share_what_the_filter_has_states_for():
    """Wet delays of both ends and the ionosphere over both are in the ambiguities' covariance, in cycles."""
    rng, links = np.random.default_rng(3), in_all_directions(6)
    links["ionosphere"] = 1.5
    for name in ("wet_rover", "wet_base", "slant", "slant_base"):
        links[name] = rng.uniform(1.0, 3.0, 6)
    reference, usable = np.zeros(48, np.int32), np.ones(6, np.bool_)
    q = []
    for atmosphere in ((0.0, 0.0, 0.0), (0.0, 0.02, 2.0)):
        a, b, qba, qb, member = np.empty(6), np.empty(3), np.empty((3, 6)), np.empty((3, 3)), np.empty(6, np.int32)
        q.append(np.empty((6, 6)))
        m = rtk.instantaneous_differences(
            6, links, reference, usable, np.array(atmosphere), np.zeros(3), np.eye(3), member, a, q[-1], b, qba, qb
        )
    rover = links["wet_rover"][1:] - links["wet_rover"][0]
    base = links["wet_base"][1:] - links["wet_base"][0]
    bend = links["slant"] - links["slant_base"]
    bend = 1.5 * (bend[1:] - bend[0])
    expected = 0.02**2 * (np.outer(rover, rover) + np.outer(base, base)) + 2.0**2 * np.outer(bend, bend)
    assert m == 5
    assert (q[1] - q[0])[:5, :5] == pytest.approx(expected / WAVELENGTH_M**2)


def test_innovations_tell_the_noise_in_units_of_what_was_assumed():
    """Three times the variance that was assumed, which was twice the noise law's."""
    rng, notes = np.random.default_rng(4), np.zeros(30, rtk.NOTE)
    notes["locked"], known = 10, RtkState().record[0]
    for _ in range(300):
        innovations = rng.normal(0.0, np.sqrt(3.0), 30)
        rtk.noise_factor(30, innovations, np.arange(30, dtype=np.int32), notes, 2.0, known)
    assert known["white_factor"] == pytest.approx(6.0, rel=0.15)


def test_the_first_epochs_soon_tell_that_carriers_are_quiet():
    """At half a minute's interval, it took ten minutes until a geodetic receiver's carriers had their weight."""
    rng, notes = np.random.default_rng(4), np.zeros(30, rtk.NOTE)
    notes["locked"], known = 10, RtkState().record[0]
    for _ in range(5):
        innovations = rng.normal(0.0, np.sqrt(0.5 / known["white_factor"]), 30)
        rtk.noise_factor(30, innovations, np.arange(30, dtype=np.int32), notes, float(known["white_factor"]), known)
    assert known["white_factor"] < 0.75


def test_a_stray_delay_is_one_of_all_links_of_its_satellite_and_fades():
    """Two bands of one satellite share its state; an hour later it is forgotten but for what is expected."""
    links, state, sigma = carriers([45.0, 45.0]), RtkState(), np.full(2, 0.01)
    x, p, keys, notes = state.filter
    places = [np.full(2, -1, np.int32) for _ in range(3)]
    hour_ns, n = 3_600_000_000_000, kalman.BASE_STATES
    for time_ns, keep in ((hour_ns, 1.0), (2 * hour_ns, 0.1)):
        if n > kalman.BASE_STATES:
            x[places[2][0]] = 0.02
            rtk.find_ambiguities(2, links, n, keys, places[0])
        n = rtk.synchronise_states(
            2, links, time_ns, time_ns - hour_ns, np.zeros(2, np.bool_), 20.0, 0.0, sigma, keep, 0.0, 2 * hour_ns, n, x,
            p, keys, notes, *places,
        )  # fmt: skip
        assert places[2][0] == places[2][1] >= kalman.BASE_STATES
        assert n == kalman.BASE_STATES + 3
    assert x[places[2][0]] == pytest.approx(0.002)
    assert p[places[2][0], places[2][0]] == pytest.approx(1e-4)


def test_less_is_expected_of_the_ionosphere_as_if_it_had_been_seen_to_be_zero():
    """States that were made with twice the sigma are afterwards those that half of it would have made."""
    state, n = RtkState(), kalman.BASE_STATES + 1
    x, p, keys, _ = state.filter
    keys[n - 1], x[n - 1], p[n - 1, n - 1] = kalman.ionosphere_key(3), 0.04, 2 * 0.02**2
    rtk.decay_atmosphere(n, 1e-6, 0.01, 0.02, 1800.0, 0.0, 0.0, 7200.0, x, p, keys)
    assert p[n - 1, n - 1] == pytest.approx(2 * 0.01**2, rel=1e-3)
    assert x[n - 1] == pytest.approx(0.01, rel=1e-3)


def test_a_base_epoch_of_some_seconds_ago_makes_carriers_less_sure_by_what_satellite_clocks_do():
    links, signals = carriers([45.0, 45.0]), np.ones(SIGNAL_COUNT)
    links["key"][1] += 32
    signals[1] = 3.0
    kept = rtk.keep_links(2, 0.1, 25.0, 0.0, 0.015, np.array([1.0, 2.0]), signals, links)  # ten seconds
    assert kept == 2
    assert links["phase_m2"] == pytest.approx([2e-5 + 0.015**2, 6e-5 + 0.015**2])


def test_how_lively_the_ionosphere_is_is_followed_by_time_not_by_epochs():
    """Its states last for half an hour: thirty epochs a second apart tell no more than two half a minute apart."""
    n = kalman.BASE_STATES + 1
    x, p, keys = np.zeros(n), np.zeros((n, n)), np.zeros(n, np.int32)
    x[n - 1], keys[n - 1] = 1.0, kalman.ionosphere_key(1)
    close = 1.0
    for _ in range(30):
        close = rtk.ionosphere_factor(n, 1.0, x, p, keys, 0.01, close)
    assert close == pytest.approx(rtk.ionosphere_factor(n, 30.0, x, p, keys, 0.01, 1.0))
    assert close == pytest.approx(np.exp(0.1))
