import numpy as np
import pytest

from solver.kernels import fixing
from solver.kernels.differencing import GROUPS_MAX, LINK
from solver.kernels.rtk import NOTE


def joint(seed: int, m: int, scale: float = 0.5):
    """Ambiguities near integers and three coordinates, correlated as by geometry."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(m, 3))
    qb = np.eye(3) * scale**2
    q = design @ qb @ design.T + np.eye(m) * 0.03**2
    qba = -qb @ design.T
    truth = rng.integers(-50, 50, m).astype(float)
    error = rng.normal(size=3) * scale
    a = truth + design @ error + rng.normal(size=m) * 0.03
    return truth, a, q, -error, np.ascontiguousarray(qba), qb


def test_conditioning_on_an_integer_is_bayes_rule():
    truth, a, q, b, qba, qb = joint(1, 6)
    i = 2
    expected_a = a + q[:, i] / q[i, i] * (truth[i] - a[i])
    expected_b = b + qba[:, i] / q[i, i] * (truth[i] - a[i])
    expected_qb = qb - np.outer(qba[:, i], qba[:, i]) / q[i, i]
    fixing.condition_on(i, truth[i], 6, a, q, b, qba, qb, np.empty(6))
    assert a == pytest.approx(expected_a)
    assert b == pytest.approx(expected_b)
    assert qb == pytest.approx(expected_qb)
    assert (q[i, : i + 1] == 0).all()
    assert (q[i:, i] == 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_all_integers_of_a_strong_model_are_found(seed):
    truth, a, q, b, qba, qb = joint(seed, 16)
    fixed, report = np.empty(16), np.empty(5)
    inverse = np.linalg.inv(q)
    expected_b = b + qba @ inverse @ (truth - a)
    expected_qb = qb - qba @ inverse @ qba.T
    assert fixing.resolve(16, a, q, b, qba, qb, 1e-3, 0.3, 1.5, 4, fixed, report)
    assert fixed.tolist() == truth.tolist()
    assert b == pytest.approx(expected_b, abs=1e-6)
    assert qb == pytest.approx(expected_qb, abs=1e-6)
    assert report[fixing.COUNT] == 16


def test_ambiguities_that_took_up_lasting_errors_are_no_integers_by_as_much():
    """A group of three: each difference by half of its own carrier's and of the reference's variance, in cycles."""
    links = np.zeros(3, LINK)
    links["wavelength_m"], links["phase_m2"] = 0.2, (1e-4, 2e-4, 3e-4)
    place, reference = np.arange(3, dtype=np.int32) + 3, np.zeros(GROUPS_MAX, np.int32)
    q = []
    for lasting in (0.0, 0.5):
        member, a, b, qb, qba = np.empty(3, np.int32), np.empty(3), np.empty(3), np.empty((3, 3)), np.empty((3, 3))
        q.append(np.empty((3, 3)))
        m = fixing.double_differences(
            3, links, place, reference, lasting, np.zeros(6), np.eye(6), member, a, q[-1], b, qba, qb
        )
    assert m == 2
    assert (q[1] - q[0])[:2, :2] * 0.04 == pytest.approx(0.5e-4 * np.array([[3.0, 1.0], [1.0, 4.0]]))


def test_a_part_is_fixed_where_the_whole_cannot_be():
    truth, a, q, b, qba, qb = joint(2, 12)
    q[0, 0] += 4.0
    a[0] += 1.7
    fixed, report = np.empty(12), np.empty(5)
    assert fixing.resolve(12, a, q, b, qba, qb, 1e-3, 0.3, 1.5, 4, fixed, report)
    assert report[fixing.COUNT] == 11
    assert np.isnan(fixed[0])
    assert fixed[1:].tolist() == truth[1:].tolist()


def test_what_is_not_reliable_is_left_alone():
    _, a, q, b, qba, qb = joint(3, 8)
    q += np.eye(8) * 4.0
    before = a.copy(), q.copy(), b.copy()
    fixed, report = np.empty(8), np.empty(5)
    assert not fixing.resolve(8, a, q, b, qba, qb, 1e-3, 0.3, 1.5, 4, fixed, report)
    assert np.isnan(fixed).all()
    for array, old in zip((a, q, b), before, strict=True):
        assert np.array_equal(array, old)


def test_integers_that_the_covariance_does_not_explain_raise_the_risk():
    """An overconfident float solution between two integers is not accepted for its ratio alone."""
    _, a, q, b, qba, qb = joint(4, 8)
    a += np.random.default_rng(1).choice([-0.4, 0.4], 8)
    fixed, report = np.empty(8), np.empty(5)
    accepted = fixing.resolve(8, a, q, b, qba, qb, 1e-3, 0.3, 1.0, 4, fixed, report)
    assert report[fixing.NORM] > 8
    assert not accepted or report[fixing.FAILURE] > 1e-6


def test_double_differences_are_formed_within_groups():
    rng = np.random.default_rng(6)
    links = np.zeros(6, LINK)
    links["group"], links["wavelength_m"] = [0, 0, 0, 1, 1, 1], 0.2
    states = 16
    x, root = rng.normal(size=states), rng.normal(size=(states, states))
    p = root @ root.T
    place = np.array([10, 11, 12, 13, -1, 15], np.int32)
    reference = np.full(GROUPS_MAX, -1, np.int32)
    reference[0], reference[1] = 1, 3
    member = np.empty(6, np.int32)
    a, q, b, qba, qb = np.empty(6), np.empty((6, 6)), np.empty(3), np.empty((3, 6)), np.empty((3, 3))
    m = fixing.double_differences(6, links, place, reference, 0.0, x, p, member, a, q, b, qba, qb)
    assert member[:m].tolist() == [0, 2, 5]
    t = np.zeros((3, states))
    t[[0, 1, 2], [10, 12, 15]] = 1
    t[[0, 1, 2], [11, 11, 13]] = -1
    assert a[:m] == pytest.approx(t @ x)
    assert q[:m, :m] == pytest.approx(t @ p @ t.T)
    assert qba[:, :m] == pytest.approx(p[:3] @ t.T)


def test_integers_that_are_let_go_have_to_be_accepted_anew():
    notes = np.zeros(3, NOTE)
    notes["agreed"], notes["integer"] = 12, 7.0
    fixing.let_go(2, np.array([2, -1], np.int32), notes)
    assert notes["agreed"].tolist() == [12, 12, 0]
    assert notes["integer"].tolist() == [7.0, 7.0, 7.0]
