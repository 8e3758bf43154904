"""The normal equations of a session against a dense solution that has every epoch's own unknowns."""

import numpy as np
import pytest

from solver.kernels.static import DELAYS, ROW, accumulate, arcs_of_phases, bootstrap, cut_slides, residuals

KNOTS, GROUPS = 2, 2


def session(epochs: int, satellites: int, seed: int = 1):
    """Rows of two groups (bands) with random geometry; the unknowns that they were made of."""
    rng = np.random.default_rng(seed)
    delays = rng.normal(size=DELAYS * KNOTS) * 0.05
    truth = np.concatenate([rng.normal(size=3), delays, rng.normal(size=2 * satellites) * 3])
    place = np.linspace(0.0, KNOTS - 1.0, epochs)
    parts = []
    for epoch in range(epochs):
        rows = np.zeros(2 * satellites, ROW)
        rows["epoch"] = epoch
        rows["sat"] = np.repeat(np.arange(satellites), 2)
        rows["group"] = np.tile([0, 1], satellites)
        rows["key"] = rows["arc"] = np.arange(2 * satellites)
        rows["wavelength_m"] = np.tile([0.19, 0.24], satellites)
        unit = rng.normal(size=(satellites, 3))
        rows["unit"] = np.repeat(unit / np.linalg.norm(unit, axis=1)[:, None], 2, axis=0)
        rows["wet_rover"] = np.repeat(rng.uniform(1, 4, satellites), 2)
        rows["wet_base"] = rows["wet_rover"] + 0.01
        rows["ionosphere"] = np.tile([1.0, 1.65], satellites) * np.repeat(rng.uniform(1, 3, satellites), 2)
        rows["common_ionosphere"] = rows["ionosphere"] * np.repeat(rng.normal(size=satellites), 2) * 0.01
        rows["code_w"], rows["phase_w"] = rng.uniform(1, 4, 2 * satellites), rng.uniform(1e4, 4e4, 2 * satellites)
        delay = rows["ionosphere"] * np.repeat(rng.normal(size=satellites) * 0.1, 2)
        offsets = rng.normal(size=4) * 10
        model = design_of(rows, place[epoch], satellites)
        half = len(rows)
        rows["code_m"] = model[:half] @ truth + offsets[rows["group"]] + delay + rng.normal(size=half) * 0.3
        rows["phase_m"] = model[half:] @ truth + offsets[2 + rows["group"]] - delay + rng.normal(size=half) * 0.005
        parts.append(rows)
    return np.concatenate(parts), place, np.arange(epochs + 1) * 2 * satellites, truth


def design_of(rows, place, satellites):
    """Partial derivatives of codes, then phases, by the unknowns that last."""
    n = len(rows)
    design = np.zeros((2 * n, 3 + DELAYS * KNOTS + 2 * satellites))
    for half in (0, n):
        block = slice(half, half + n)
        design[block, :3] = -rows["unit"]
        design[block, 3], design[block, 4] = rows["wet_rover"] * (1 - place), rows["wet_rover"] * place
        design[block, 5], design[block, 6] = -rows["wet_base"] * (1 - place), -rows["wet_base"] * place
    common = np.concatenate([rows["common_ionosphere"], -rows["common_ionosphere"]])
    design[:, 7], design[:, 8] = common * (1 - place), common * place
    design[n + np.arange(n), 3 + DELAYS * KNOTS + rows["arc"]] = rows["wavelength_m"]
    return design


def dense(rows, place, first, satellites, ionosphere_m2):
    """Normal equations with all unknowns, those of each epoch eliminated by the Schur complement at the end."""
    size = 3 + DELAYS * KNOTS + 2 * satellites
    normal, rhs = np.zeros((size, size)), np.zeros(size)
    for epoch in range(len(place)):
        mine = rows[first[epoch] : first[epoch + 1]]
        n = len(mine)
        a = design_of(mine, place[epoch], satellites)
        local = np.zeros((2 * n, 2 * GROUPS + satellites))
        local[np.arange(n), mine["group"]] = local[n + np.arange(n), GROUPS + mine["group"]] = 1.0
        local[np.arange(n), 2 * GROUPS + mine["sat"]] = mine["ionosphere"]
        local[n + np.arange(n), 2 * GROUPS + mine["sat"]] = -mine["ionosphere"]
        w = np.diag(np.concatenate([mine["code_w"], mine["phase_w"]]))
        y = np.concatenate([mine["code_m"], mine["phase_m"]])
        prior = np.diag([0.0] * (2 * GROUPS) + [1.0 / ionosphere_m2] * satellites)
        inner, cross = local.T @ w @ local + prior, a.T @ w @ local
        normal += a.T @ w @ a - cross @ np.linalg.solve(inner, cross.T)
        rhs += a.T @ w @ y - cross @ np.linalg.solve(inner, local.T @ w @ y)
    return normal, rhs


def test_what_lives_for_an_epoch_is_removed_exactly():
    satellites, ionosphere_m2 = 7, 0.04
    rows, place, first, _ = session(6, satellites)
    expected_normal, expected_rhs = dense(rows, place, first, satellites, ionosphere_m2)
    normal, rhs = np.zeros_like(expected_normal), np.zeros_like(expected_rhs)
    accumulate(first, place, rows, GROUPS, KNOTS, ionosphere_m2, normal, rhs)
    assert normal == pytest.approx(expected_normal, rel=1e-7, abs=1e-6 * np.abs(expected_normal).max())
    assert rhs == pytest.approx(expected_rhs, rel=1e-6, abs=1e-7 * np.abs(expected_rhs).max())
    assert ((rows["phase_r"] > 0) & (rows["phase_r"] < 1)).all()


def test_residuals_are_those_of_the_observations_less_all_estimates():
    satellites = 7
    rows, place, first, truth = session(40, satellites)
    residuals(first, place, rows, GROUPS, KNOTS, 0.04, truth)
    assert np.std(rows["phase_v"]) < 0.005
    assert 0.2 < np.std(rows["code_v"]) < 0.4
    rows["arc"][5] = -1
    residuals(first, place, rows, GROUPS, KNOTS, 0.04, truth)
    assert np.isnan(rows["phase_v"][5])
    assert np.isfinite(rows["code_v"][5])


def phases(count: int, jumps: dict[int, float]):
    """Five carriers of one group that share a clock; the last steps by so many metres from some epochs on."""
    rng = np.random.default_rng(3)
    clock = np.cumsum(rng.normal(size=count) * 1e3)
    rows = np.zeros(5 * count, ROW)
    rows["epoch"], rows["key"] = np.repeat(np.arange(count), 5), np.tile(np.arange(5), count)
    rows["phase_w"], rows["wavelength_m"] = 1e5, 0.19
    rows["phase_m"] = np.repeat(clock, 5) + rng.normal(size=5 * count) * 0.003
    for epoch, step in jumps.items():
        rows["phase_m"][(rows["key"] == 4) & (rows["epoch"] >= epoch)] += step
    return rows, np.arange(count + 1) * 5


def test_an_arc_ends_where_its_carrier_jumps_or_says_so_and_nowhere_else():
    rows, first = phases(60, {20: 0.095, 40: -0.19})
    rows["flags"][30 * 5] = 1
    assert arcs_of_phases(first, np.arange(60.0), rows, 5, 300.0) == 5 + 2 + 1
    assert len(np.unique(rows["arc"][rows["key"] == 4])) == 3
    assert len(np.unique(rows["arc"][rows["key"] == 0])) == 2
    assert {len(np.unique(rows["arc"][rows["key"] == key])) for key in (1, 2, 3)} == {1}


def test_a_carrier_that_slides_by_a_cycle_over_minutes_is_cut():
    rows = np.zeros(200, ROW)
    rows["wavelength_m"] = 0.2
    rows["epoch"] = np.tile(np.arange(100), 2)
    rows["arc"] = np.repeat([0, 1], 100)
    noise = np.random.default_rng(1).normal(size=200) * 0.01
    rows["phase_v"] = noise + np.where(rows["arc"] == 1, np.clip((rows["epoch"] - 47) / 6, 0, 1) * 0.2, 0.0)
    assert cut_slides(np.arange(200), rows, 8, 6, 0.45, 2) == 3
    assert (rows["arc"][:100] == 0).all()
    assert set(rows["arc"][100:145]) == {1}
    assert set(rows["arc"][156:]) == {2}
    assert (rows["arc"][148:152] == -1).all()


def test_bootstrapping_rounds_what_is_left_given_what_was_fixed():
    u = np.array([[1.0, 0.8], [0.0, 1.0]])
    z, w = np.zeros(2), np.zeros(2)
    bootstrap(2, 0, u, np.array([4.3, 7.4]), z, w)
    assert z.tolist() == [4.0, 7.0]
    assert w == pytest.approx([4.3 - 0.8 * 0.4 - 4.0, 0.4])


def test_systems_that_a_lossy_link_delivers_in_turn_keep_their_arcs():
    """No two neighbouring epochs have a carrier in common: a base's messages of GPS and of GLONASS lost by turns."""
    rng = np.random.default_rng(3)
    epochs, keys = 40, 4
    clock = np.cumsum(rng.normal(size=epochs)) * 30
    rows = np.zeros(epochs * keys, ROW)
    rows["epoch"] = np.repeat(np.arange(epochs), keys)
    rows["key"] = np.tile(np.arange(keys), epochs)
    rows["phase_w"] = 1 / 0.003**2
    rows["phase_m"] = clock[rows["epoch"]] + rows["key"] * 7 + rng.normal(size=len(rows)) * 0.002
    kept = rows[(rows["epoch"] == 0) | (rows["key"] // 2 == rows["epoch"] % 2)]
    first = np.searchsorted(kept["epoch"], np.arange(epochs + 1))
    assert arcs_of_phases(first, np.arange(float(epochs)), kept, keys, 300.0) == keys
    assert len(np.unique(kept["arc"])) == keys
