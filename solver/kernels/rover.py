"""What the kernels of `epoch` work on: records of a rover's options and state, arrays that grow, arrays to write on."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver.kernels import Bools, Float64Array, Int16Array, Int32Array, Records
from solver.kernels.differencing import GROUPS_MAX, LINK, LINKS_MAX, SATELLITES_MAX
from solver.signals import SIGNAL_COUNT

__all__ = ["KNOWN", "NOW", "OPTIONS", "RESULT", "Filter", "Record", "Work", "workspace"]

Int64Array = NDArray[np.int64]
Record = Any
"""A row of a structured array."""

OPTIONS: Final = np.dtype(
    [
        ("static", np.bool_),
        ("instantaneous", np.bool_),
        ("moving_base", np.bool_),
        ("bands_max", np.int64),
        ("elevation_mask_rad", np.float64),
        ("cn0_min_dbhz", np.float64),
        ("age_max_s", np.float64),
        ("acceleration_mps2", np.float64),
        ("failure_rate", np.float64),
        ("ratio_floor", np.float64),
        ("channel_bias_m", np.float64),
        ("phase_noise_m", np.float64),
        ("code_noise_m", np.float64),
        ("doppler_noise_mps", np.float64),
        ("phase_memory_s", np.float64),
        ("code_memory_s", np.float64),
        ("ionosphere_ppm", np.float64),
        ("zenith_ppm", np.float64),
    ]
)
"""Those fields of `solver.rtk.RtkOptions` that kernels read."""

KNOWN: Final = np.dtype(
    [
        ("time_ns", np.int64),  # last epoch processed; -1: none
        ("paired", np.int64),  # epochs whose signals were paired
        ("count", np.int64),  # states of the filter
        ("origin_m", np.float64, (3,)),  # approximate position that the filter's position is an offset from
        ("base_m", np.float64, (3,)),  # the base at the last epoch, where it moves; NaN at first
        ("code_factor", np.float64),  # variance factors as seen so far
        ("code_redundancy", np.float64),  # how many observations the code's stands for; limited, so that it follows
        ("phase_factor", np.float64),
        ("white_epochs", np.float64),  # how many epochs the next is of; limited, so that it follows
        ("white_factor", np.float64),  # the carriers' by innovations, which slow errors do not show in
        ("fixed_factor", np.float64),  # the carriers' by the residuals of fixed positions
        ("signal_factor", np.float64, (SIGNAL_COUNT,)),  # the carriers' by signal of the rover, beside the others
        ("signal_square", np.float64, (SIGNAL_COUNT,)),  # mean square of an epoch's fixed residuals
        ("signal_redundancy", np.float64, (SIGNAL_COUNT,)),  # and their redundancy; 0: none seen so far
        ("ionosphere_m", np.float64),  # zenith, 1 sigma, as the last epoch expected it
        ("ionosphere_factor", np.float64),  # a quiet one is assumed first
        ("wander", np.float64),  # variance that ambiguities gain in `phase_memory_s`, in units of their carriers'
        ("astray", np.float64),  # mean square of how far the filter lies from the codes' positions, in their sigmas
        ("checked", np.int64),  # epochs running whose integers were checked (`checked.check`)
        ("integers_off", np.float64),  # mean square of how far best integers lay off lately, in their sigmas
        ("strayed_m2", np.float64, (3, 3)),  # how far the filter may have strayed unseen (`straying`)
        ("belied", np.float64),  # sum of what that is too much (`doubt.starts_anew`)
        ("channel_m", np.float64, (2,)),  # phase bias for each GLONASS channel number in two bands, as found so far
        ("channel_m2", np.float64, (2,)),  # their variances
    ]
)
"""What is known of one rover beside its filter."""

NOW: Final = np.dtype(
    [
        ("dt_s", np.float64),  # since the last epoch
        ("count", np.int64),  # links that are used
        ("bands", np.float64),  # of a satellite, mean
        ("origin_m", np.float64, (3,)),  # approximate position
        ("baseline_m", np.float64),
        ("delay_m", np.float64),  # zenith ionosphere, 1 sigma
        ("ionosphere_m", np.float64),  # the same; 0: too little to be a state
        ("thickness_m", np.float64),  # zenith ionosphere at L1 that both ends share, as expected
        ("thickness_sigma_m", np.float64),  # how far that may be off
        ("uneven_m", np.float64),  # what a ray aside of the zenith has of it by itself, mapped to the zenith, 1 sigma
        ("gradient_m", np.float64),  # how far gradients of the wet delay differ between both ends, 1 sigma
        ("orbit_m", np.float64),  # what an error of a GPS orbit does to the baseline, 1 sigma
        ("zenith_m", np.float64),  # either end's wet zenith delay beyond the model, 1 sigma
        ("code_scale", np.float64),  # variance factor of this epoch's codes
        ("phase_scale", np.float64),  # variance factor that this epoch's carriers were given
        ("misfit", np.float64),  # mean square of how far the best integers lie off, as far as it tells
        ("quiet", np.float64),  # an epoch by itself: share of `ionosphere_m` that is assumed
        ("shown", np.float64),  # and variance factor that its integers have shown so far, in units of `ionosphere_m`
    ]
)
"""What the steps of one epoch tell each other."""

RESULT: Final = np.dtype(
    [
        ("quality", np.int64),
        ("links", np.int64),  # in use
        ("satellites", np.int64),  # of them
        ("states", np.int64),  # that the filter has at most
        ("ratio", np.float64),
        ("position_m", np.float64, (3,)),
        ("position_m2", np.float64, (3, 3)),
        ("velocity_mps", np.float64, (3,)),
        ("velocity_m2s2", np.float64, (3, 3)),
        ("dop", np.float64, (4,)),  # GDOP, PDOP, HDOP, VDOP; NaN: too few satellites
    ]
)


class Filter(NamedTuple):
    """State (n,), covariance (n, n), keys (n,) and notes (n,) of `kalman` and `rtk.NOTE`; longer than what is used."""

    x: Float64Array
    p: Float64Array
    keys: Int32Array
    notes: Records


class Work(NamedTuple):
    """Arrays that every epoch writes anew: by link, by satellite, by group, and the distribution of `fixing`."""

    now: Records
    links: Records
    order: Int64Array
    weight: Float64Array
    innovations: Float64Array
    slipped: Bools
    usable: Bools
    held: Bools
    ambiguity: Int32Array
    ionosphere: Int32Array
    stray: Int32Array
    stray_m: Float64Array
    place: Int32Array
    member: Int32Array
    free: Int32Array
    known: Float64Array
    sats: Int16Array
    code_rows: Int32Array
    ephemeris: Int32Array
    rover_states: Float64Array
    base_states: Float64Array
    reference: Int32Array
    position: Float64Array
    position_m2: Float64Array
    a: Float64Array
    q: Float64Array
    b: Float64Array
    qba: Float64Array
    qb: Float64Array
    fixed: Float64Array
    report: Float64Array


def workspace() -> Work:
    """Arrays for the most links there can be."""
    links, sats = LINKS_MAX, SATELLITES_MAX
    return Work(
        now=np.zeros(1, NOW),
        links=np.zeros(links, LINK),
        order=np.zeros(links, np.int64),
        weight=np.zeros(links),
        innovations=np.zeros(links),
        slipped=np.zeros(links, np.bool_),
        usable=np.zeros(links, np.bool_),
        held=np.zeros(links, np.bool_),
        ambiguity=np.zeros(links, np.int32),
        ionosphere=np.zeros(links, np.int32),
        stray=np.zeros(links, np.int32),
        stray_m=np.zeros(links),
        place=np.zeros(links, np.int32),
        member=np.zeros(links, np.int32),
        free=np.zeros(links, np.int32),
        known=np.zeros(links),
        sats=np.zeros(sats, np.int16),
        code_rows=np.zeros((sats, 2), np.int32),
        ephemeris=np.zeros(sats, np.int32),
        rover_states=np.zeros((sats, 8)),
        base_states=np.zeros((sats, 8)),
        reference=np.zeros(GROUPS_MAX, np.int32),
        position=np.zeros(3),
        position_m2=np.zeros((3, 3)),
        a=np.zeros(links),
        q=np.zeros((links, links)),
        b=np.zeros(3),
        qba=np.zeros((3, links)),
        qb=np.zeros((3, 3)),
        fixed=np.zeros(links),
        report=np.zeros(5),
    )
