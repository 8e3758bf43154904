import numpy as np
import pytest

from solver.kernels import kalman
from solver.kernels.differencing import LINK


def links_of(rng, n, groups=2):
    """Links with everything that the filter reads."""
    links = np.zeros(n, LINK)
    unit = rng.normal(size=(n, 3))
    links["unit"] = unit / np.linalg.norm(unit, axis=1)[:, None]
    links["sat"] = np.arange(n)
    links["key"] = np.arange(n) + 1
    links["group"] = np.arange(n) % groups
    links["wavelength_m"] = 0.19 + 0.05 * links["group"]
    links["ionosphere"] = 1.0 + 0.6 * links["group"]
    links["wet_rover"] = rng.uniform(1, 5, n)
    links["wet_base"] = links["wet_rover"] + 0.01
    links["tilt"] = rng.normal(size=(n, 2))
    links["code_m"] = rng.normal(size=n)
    links["phase_m"] = rng.normal(size=n) * 0.1
    return links


def filter_of(rng, states):
    """A random state and a random covariance."""
    root = rng.normal(size=(states, states))
    return rng.normal(size=states), root @ root.T / states + np.eye(states)


def batch(links, group, is_phase, ambiguity, ionosphere, stray, variance, x, p):
    """The same update with an unknown offset of the group, in one dense step."""
    chosen = np.flatnonzero(links["group"] == group)
    h = np.zeros((len(chosen), len(x) + 1))
    for row, k in enumerate(chosen):
        h[row, :3] = -links["unit"][k]
        h[row, 6], h[row, 7] = links["wet_rover"][k], -links["wet_base"][k]
        h[row, kalman.GRADIENT : kalman.GRADIENT + 2] = links["tilt"][k]
        h[row, ionosphere[k]] = (-1 if is_phase else 1) * links["ionosphere"][k]
        h[row, stray[k]] = 1.0
        if is_phase:
            h[row, ambiguity[k]] = links["wavelength_m"][k]
        h[row, -1] = 1.0
    y = links["phase_m" if is_phase else "code_m"][chosen]
    prior = np.zeros((len(x) + 1, len(x) + 1))
    prior[:-1, :-1] = np.linalg.inv(p)
    information = prior + h.T @ np.diag(1 / variance[chosen]) @ h
    after = np.linalg.inv(information)
    mean = after @ (prior @ np.append(x, 0.0) + h.T @ (y / variance[chosen]))
    return mean[:-1], after[:-1, :-1]


@pytest.mark.parametrize("is_phase", [False, True])
def test_contrasts_are_the_same_as_an_unknown_offset_of_the_group(is_phase):
    rng = np.random.default_rng(4)
    n, states = 12, kalman.BASE_STATES + 36
    links = links_of(rng, n)
    x, p = filter_of(rng, states)
    ambiguity = (kalman.BASE_STATES + np.arange(n)).astype(np.int32)
    ionosphere = (kalman.BASE_STATES + n + np.arange(n)).astype(np.int32)
    stray = (kalman.BASE_STATES + 2 * n + np.arange(n)).astype(np.int32)
    variance = rng.uniform(0.1, 1.0, n)
    expected = batch(links, 1, is_phase, ambiguity, ionosphere, stray, variance, x, p)
    order = rng.permutation(n)
    taken = kalman.update_group(
        states, n, 1, is_phase, order, links, ambiguity, ionosphere, stray, variance, 0.0, 1e9, x, p, np.zeros(n),
        kalman.scratch(states),
    )  # fmt: skip
    kalman.mirror(states, p)
    assert taken == 6
    assert x == pytest.approx(expected[0], abs=1e-9)
    assert p == pytest.approx(expected[1], abs=1e-9)


def test_an_outlier_is_weighed_down():
    rng = np.random.default_rng(5)
    n, states = 8, kalman.BASE_STATES + 8
    links = links_of(rng, n, groups=1)
    x, p = np.zeros(states), np.eye(states) * 1e-4
    links["code_m"] = 0.0
    links["code_m"][3] = 50.0
    nowhere = np.full(n, -1, np.int32)
    innovations = np.zeros(n)
    order = np.array([0, 1, 2, 4, 5, 6, 7, 3])
    kalman.update_group(
        states, n, 0, False, order, links, nowhere, nowhere, nowhere, np.full(n, 0.01), 0.0, 3.0, x, p, innovations,
        kalman.scratch(states),
    )  # fmt: skip
    assert innovations[3] > 100
    assert np.abs(x[:3]).max() < 0.01


def test_errors_that_last_widen_the_covariance_but_do_not_hide_outliers():
    """Nine tenths of the variance stand for what was in the last epochs too: an innovation is judged by the rest."""
    rng = np.random.default_rng(5)
    n, states = 8, kalman.BASE_STATES + 8
    links = links_of(rng, n, groups=1)
    links["code_m"] = 0.0
    links["code_m"][3] = 1.0
    nowhere, order = np.full(n, -1, np.int32), np.array([0, 1, 2, 4, 5, 6, 7, 3])
    seen, spread = [], []
    for variance, lasting in ((0.01, 0.0), (0.1, 0.9), (0.1, 0.0)):
        x, p, innovations = np.zeros(states), np.eye(states) * 1e-6, np.zeros(n)
        kalman.update_group(
            states, n, 0, False, order, links, nowhere, nowhere, nowhere, np.full(n, variance), lasting, 1e9, x, p,
            innovations, kalman.scratch(states),
        )  # fmt: skip
        seen.append(innovations[3])
        spread.append(np.trace(p[:3, :3]))
    assert seen[1] == pytest.approx(seen[0], rel=1e-3)
    assert seen[2] < 0.4 * seen[0]
    assert spread[1] == pytest.approx(spread[2])
    assert spread[1] > spread[0]


def test_states_come_and_go():
    first = n = kalman.BASE_STATES
    full = first + 3
    x, p, keys = np.zeros(full), np.zeros((full, full)), np.zeros(full, np.int32)
    for key in (5, 6, 7):
        n = kalman.add_state(n, x, p, keys, key, float(key), 2.0)
    assert n == full
    assert kalman.add_state(n, x, p, keys, 8, 0.0, 1.0) == full
    assert kalman.find_state(n, keys, 6) == first + 1
    assert kalman.find_state(n, keys, 99) == -1
    p[first, first + 2] = p[first + 2, first] = 0.5
    moved = np.zeros(full, np.int64)
    moved[first + 1] = -1
    left = kalman.remove_states(n, x, p, keys, moved)
    assert left == first + 2
    assert keys[first:left].tolist() == [5, 7]
    assert x[first:left].tolist() == [5.0, 7.0]
    assert p[first, first + 1] == p[first + 1, first] == 0.5
    kalman.reset_state(left, x, p, first + 1, 1.0, 9.0)
    assert (x[first + 1], p[first + 1, first + 1], p[first, first + 1]) == (1.0, 9.0, 0.0)


def test_motion_carries_the_position_and_widens_it():
    x, p = np.zeros(10), np.zeros((10, 10))
    x[3:6] = 1.0, 2.0, 3.0
    p[3, 3] = p[4, 4] = p[5, 5] = 0.04
    kalman.move(10, 2.0, 1.0, x, p)
    assert x[:3].tolist() == [2.0, 4.0, 6.0]
    assert p[0, 0] == pytest.approx(4 * 0.04 + 0.25 * 16)
    assert p[0, 3] == p[3, 0] == pytest.approx(2 * 0.04 + 0.5 * 8)


def test_a_decaying_state_tends_to_its_normal_variance():
    x, p = np.ones(10), np.eye(10)
    for _ in range(200):
        kalman.decay_states(10, 6, 8, 0.9, 0.25, x, p)
    assert p[6, 6] == pytest.approx(0.25)
    assert abs(x[6]) < 1e-8
    assert x[0] == 1.0
