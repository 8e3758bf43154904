"""Variances of signals by their fixed carriers, against dense least squares and noise that is known."""

import numpy as np
import pytest

from solver.kernels.differencing import GROUPS_MAX, LINK, rover_signal
from solver.kernels.rover import NOW, workspace
from solver.kernels.signal_noise import fixed_squares, learn_signals
from solver.rtk import RtkState
from solver.signals import satellite_of_name, signal

WAVELENGTH_M = 0.2
SIGNALS = ("C2I", "C6I", "C7I")


def carriers(rng, sizes, sigma_m):
    """Carriers of one group for each signal, which has so many satellites and so much noise, and their integers."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    links = np.zeros(len(group), LINK)
    links["sat"] = [satellite_of_name("C21") + k for size in sizes for k in range(size)]
    slots = np.array([signal(name) % 32 for name in SIGNALS])[group]
    links["key"] = (links["sat"].astype(np.int32) * 32 + slots) * 32 + slots
    links["group"], links["wavelength_m"] = group, WAVELENGTH_M
    up = np.abs(rng.normal(size=(len(group), 3)))
    links["unit"] = up / np.linalg.norm(up, axis=1, keepdims=True)
    links["phase_m2"] = 9e-6 * rng.uniform(0.5, 2.0, len(group))
    known = rng.integers(-50, 50, len(group)).astype(float)
    noise = rng.normal(size=len(group)) * np.sqrt(links["phase_m2"] / 9e-6) * np.array(sigma_m)[group]
    links["phase_m"] = known * WAVELENGTH_M + 0.3 * group + noise
    return links, known


def position(links, known):
    """Least squares: position, residuals and their redundancy numbers."""
    design = np.column_stack([-links["unit"], links["group"][:, None] == np.unique(links["group"])])
    weight = 1.0 / links["phase_m2"]
    measured = links["phase_m"] - known * WAVELENGTH_M
    inverse = np.linalg.inv(design.T @ (design * weight[:, None]))
    solution = inverse @ (design.T @ (weight * measured))
    redundancy = 1.0 - np.einsum("ij,jk,ik->i", design, inverse, design) * weight
    return solution[:3].copy(), measured - design @ solution, redundancy


def learnt(sizes, sigma_m, epochs=200, ionosphere_m=0.0):
    """Factors of the signals after so many epochs."""
    rng, work = np.random.default_rng(4), workspace()
    known, now = RtkState().record[0], np.zeros(1, NOW)[0]
    now["phase_scale"], now["ionosphere_m"] = 1.0, ionosphere_m
    for _ in range(epochs):
        links, integers = carriers(rng, sizes, sigma_m)
        for link in links:
            link["phase_m2"] *= known["signal_factor"][rover_signal(link)]
        now["count"] = len(links)
        work.links[: len(links)], work.known[: len(links)] = links, integers
        work.b[:] = position(links, integers)[0]
        learn_signals(known, now, work)
    return known["signal_factor"][[signal(name) for name in SIGNALS]]


def test_squares_and_redundancies_of_groups_are_those_of_dense_least_squares():
    links, known = carriers(np.random.default_rng(3), (7, 5, 1), (0.003, 0.006, 0.003))
    offset, residual, told = position(links, known)
    square, redundancy = np.empty(GROUPS_MAX), np.empty(GROUPS_MAX)
    fixed_squares(len(links), links, known, offset, square, redundancy)
    assert square[:3] == pytest.approx(np.bincount(links["group"], residual**2 / links["phase_m2"]), abs=1e-9)
    assert redundancy[:3] == pytest.approx(np.bincount(links["group"], told), abs=1e-9)
    assert (redundancy[3:] == 0.0).all()


def test_carriers_that_are_not_known_and_those_of_glonass_tell_nothing():
    links, known = carriers(np.random.default_rng(3), (7, 5), (0.003, 0.006))
    links["channel"][7:] = 1.0
    known[:2] = np.nan
    offset, _, told = position(links[2:7], known[2:7])
    square, redundancy = np.empty(GROUPS_MAX), np.empty(GROUPS_MAX)
    fixed_squares(len(links), links, known, offset, square, redundancy)
    assert redundancy[0] == pytest.approx(told.sum()) and redundancy[1] == 0.0


def test_a_signal_is_weighed_by_the_noise_that_it_shows_as_far_as_its_satellites_are_many():
    """Twice and half the first one's noise: variances of 4 and 1 / 4, of which six satellites tell a third or half."""
    many = learnt((30, 30, 30), (0.003, 0.006, 0.0015))
    few = learnt((6, 6, 6), (0.003, 0.006, 0.0015))
    assert np.log(many[1] / many[0]) == pytest.approx(np.log(4.0) * 28 / 34, rel=0.15)
    assert 0.3 < np.log(few[1] / few[0]) / np.log(4.0) < 0.6
    assert 0.2 < np.log(few[0] / few[2]) / np.log(4.0) < 0.6
    assert np.log(many).mean() == pytest.approx(0.0, abs=0.1), "the factor of all is another"


def test_one_signal_is_as_noisy_as_all_and_the_ionosphere_is_not_taken_for_noise():
    assert learnt((9,), (0.006,), epochs=3)[0] == pytest.approx(1.0)
    assert (learnt((9, 9, 9), (0.003, 0.006, 0.003), epochs=3, ionosphere_m=0.01) == 1.0).all()
