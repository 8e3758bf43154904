"""Variances of fixed carriers and of the ionosphere, against dense matrices and against what made them."""

import numpy as np
import pytest

from solver.kernels.atmosphere import ionosphere_mapping
from solver.kernels.components import variance_components
from solver.kernels.differencing import LINK

WAVELENGTHS_M = np.array([0.1903, 0.2442])
INTEGER = 3.0


def carriers(rng, ionosphere_m, noise, satellites=20):
    """Two bands of two systems with this zenith ionosphere (1 sigma) and noise (in units of what is expected)."""
    links = np.zeros(2 * satellites, LINK)
    for k, link in enumerate(links):
        band = k % 2
        link["sat"] = k // 2 + 64 * (k // satellites)
        link["group"] = band + 2 * (k // satellites)
        link["wavelength_m"] = WAVELENGTHS_M[band]
        link["ionosphere"] = (WAVELENGTHS_M[band] / WAVELENGTHS_M[0]) ** 2
        if band == 0:
            azimuth, elevation = rng.uniform(0, 2 * np.pi), np.arcsin(rng.uniform(0.2, 1.0))
            delay_m = ionosphere_m * rng.normal() * ionosphere_mapping(elevation)
        horizontal = np.cos(elevation)
        link["unit"] = horizontal * np.sin(azimuth), horizontal * np.cos(azimuth), np.sin(elevation)
        link["slant"] = ionosphere_mapping(elevation)
        link["slant_base"] = ionosphere_mapping(elevation - 0.003 * np.cos(azimuth))
        link["wet_rover"] = 1.0 / np.sin(elevation)
        link["phase_m2"] = 0.003**2 / np.sin(elevation)
        error = noise * rng.normal() * np.sqrt(link["phase_m2"])
        bend_m = 2.0 * link["ionosphere"] * (link["slant"] - link["slant_base"])
        link["phase_m"] = INTEGER * link["wavelength_m"] + 0.1 * link["group"] + link["unit"] @ [0.5, -0.3, 0.2]
        link["phase_m"] += error - link["ionosphere"] * delay_m + bend_m + 0.05 * link["wet_rover"]
    return links


def judged(links, ionosphere_m, known=None):
    """Squares found and expected of noise and ionosphere."""
    squares = np.empty((2, 2))
    known = np.full(len(links), INTEGER) if known is None else known
    variance_components(len(links), links, known, ionosphere_m, squares)
    return squares


@pytest.mark.parametrize("ionosphere_m", [0.0, 0.02])
def test_squares_are_those_of_dense_matrices(ionosphere_m):
    links = carriers(np.random.default_rng(1), 0.01, 1.0)
    columns = [links["unit"], links["group"][:, None] == np.unique(links["group"])]
    if ionosphere_m:
        bend = links["ionosphere"] * (links["slant"] - links["slant_base"])
        columns += [links["wet_rover"][:, None], bend[:, None]]
    design = np.concatenate(columns, axis=1).astype(float)
    delay = ionosphere_m * links["slant"] * links["ionosphere"]
    parts = [np.diag(links["phase_m2"]), np.outer(delay, delay) * (links["sat"][:, None] == links["sat"])]
    weight = np.linalg.inv(sum(parts))
    normal = design.T @ weight @ design
    project = weight - weight @ design @ np.linalg.inv(normal) @ design.T @ weight
    y = links["phase_m"] - INTEGER * links["wavelength_m"]
    expected = [[y @ project @ part @ project @ y, np.trace(project @ part)] for part in parts]
    assert judged(links, ionosphere_m) == pytest.approx(np.array(expected), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("ionosphere_m", "noise"), [(0.03, 1.0), (0.01, 2.0), (0.03, 2.0)])
def test_noise_and_ionosphere_are_told_apart(ionosphere_m, noise):
    """A lively ionosphere and noisy carriers both make integers fit badly; bands tell which it is."""
    rng = np.random.default_rng(2)
    found = np.array([1.0, 0.01**2])
    for _ in range(400):
        links = carriers(rng, ionosphere_m, noise)
        links["phase_m2"] *= found[0]
        squares = judged(links, np.sqrt(found[1]))
        found *= np.exp(0.05 * np.clip(squares[:, 0] / squares[:, 1] - 1.0, -1.0, 1.0))
    assert found == pytest.approx([noise**2, ionosphere_m**2], rel=0.3)


def test_carriers_without_integers_and_those_of_glonass_tell_nothing():
    links = carriers(np.random.default_rng(3), 0.01, 1.0)
    known = np.full(len(links), INTEGER)
    all_of_them = judged(links, 0.01)
    links["channel"][:10], known[10:20] = 1.0, np.nan
    fewer = judged(links, 0.01, known)
    assert 0.0 < fewer[:, 1].sum() < all_of_them[:, 1].sum()
    assert all_of_them[:, 1].sum() == pytest.approx(40 - 9)
    assert not judged(links, 0.01, np.full(len(links), np.nan)).any()
