import numpy as np
import pytest

from solver.adjustment import SHARED, Baseline, Known, adjust

RNG = np.random.default_rng(7)
BASES = np.array([[3.9e6, 3.0e5, 5.0e6], [3.8e6, 4.0e5, 5.04e6], [4.0e6, 4.0e5, 4.9e6], [3.85e6, 3.5e5, 5.01e6]])
SITE = np.array([3.91e6, 3.3e5, 5.01e6])


def covariance(sigma_m):
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    return turn @ np.diag(np.square(sigma_m)) @ turn.T


def network(base_sigma_m=0.01, astray_m=0.0):
    """Station 0 is the site; the known ones follow. The second base's coordinates may be off."""
    off = np.zeros((4, 3))
    off[1, 0] = astray_m
    known = [Known(k + 1, BASES[k] + off[k], np.eye(3) * base_sigma_m**2) for k in range(4)]
    lines = [Baseline(k + 1, 0, SITE - BASES[k], covariance([0.002, 0.003, 0.006])) for k in range(4)]
    return known, lines


def test_one_base_alone_is_its_baseline():
    known, lines = network()
    found = adjust(2, known[:1], lines[:1])
    assert found.position_ecef_m[0] == pytest.approx(SITE, abs=1e-8)
    assert found.covariance_m2[:3, :3] == pytest.approx(known[0].covariance_m2 + lines[0].covariance_m2)
    assert found.redundancy == 0
    assert np.isnan(found.test[0])


def test_it_is_the_weighted_mean_that_the_textbook_has():
    """With exact bases the site is the generalised mean of the baselines, which are correlated by half."""
    known, lines = network(base_sigma_m=1e-6)
    for line in lines:
        line.vector_m[:] += RNG.normal(size=3) * 0.004
    found = adjust(5, known, lines)
    roots = [np.linalg.cholesky(line.covariance_m2) for line in lines]
    q = np.block([[a @ b.T * (1.0 if a is b else SHARED) for b in roots] for a in roots])
    design = np.tile(np.eye(3), (4, 1))
    y = np.concatenate([line.vector_m + BASES[k] - SITE for k, line in enumerate(lines)])
    normal = design.T @ np.linalg.solve(q, design)
    expected = np.linalg.solve(normal, design.T @ np.linalg.solve(q, y))
    assert found.position_ecef_m[0] - SITE == pytest.approx(expected, abs=1e-7)
    scale = max(1.0, found.variance_factor)
    assert found.covariance_m2[:3, :3] == pytest.approx(np.linalg.inv(normal) * scale, rel=1e-3)
    assert found.used.all()


def test_a_base_whose_coordinates_are_wrong_is_left_out_by_name():
    known, lines = network(astray_m=0.15)
    found = adjust(5, known, lines)
    assert found.used.tolist() == [True, False, True, True]
    assert np.linalg.norm(found.position_ecef_m[0] - SITE) < 0.001
    assert np.linalg.norm(found.residual_m[1]) == pytest.approx(0.15, abs=0.01)
    assert found.test[1] > 16.3


def test_the_test_rejects_one_good_network_in_hundreds():
    rejected = 0
    for _ in range(200):
        known, lines = network()
        shared = RNG.normal(size=3)
        for place, line in zip(known, lines, strict=True):
            place.position_ecef_m[:] += RNG.normal(size=3) * 0.01
            noise = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * RNG.normal(size=3)
            line.vector_m[:] += np.linalg.cholesky(line.covariance_m2) @ noise
        rejected += not adjust(5, known, lines).used.all()
    assert rejected <= 4


def test_a_station_that_hangs_on_nothing_is_an_error():
    known, lines = network()
    with pytest.raises(ValueError, match="hangs on nothing"):
        adjust(6, known, lines)
