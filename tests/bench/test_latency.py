"""Percentiles from the histogram are those of the values themselves, to within a bucket."""

import math

import numpy as np
import pytest

from bench.latency import Latencies


def test_percentiles_are_those_of_numpy_within_a_bucket() -> None:
    values_us = np.random.default_rng(1).lognormal(8.0, 1.0, 250_000).astype(np.int64)
    first, second = Latencies(), Latencies()
    for place, value in enumerate(values_us.tolist()):
        (first if place % 3 else second).add_ns(value * 1000)
    first.merge(second)
    assert first.count == len(values_us)
    assert first.max_ms == values_us.max() / 1000.0
    for percent in (50.0, 99.0, 99.9):
        assert first.percentile_ms(percent) == pytest.approx(np.percentile(values_us, percent) / 1000.0, rel=0.021)


def test_without_values_there_is_no_percentile() -> None:
    assert math.isnan(Latencies().percentile_ms(99.0))
