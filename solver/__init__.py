"""Numbers to numbers: positions, corrections and their uncertainties from observations and orbits.

Nothing in here knows of bytes, files, sockets, loggers or the clock: time is always an argument.
Angles are radians, lengths metres, times int64 nanoseconds of GPST (`solver.timescale`); NaN means "no observation".
"""
