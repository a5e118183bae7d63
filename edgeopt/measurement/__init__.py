"""Measurement: raw run times in nanoseconds, and the statistics that so many of them can carry."""

from edgeopt.measurement.comparison import Comparison, compare
from edgeopt.measurement.interval import median_error
from edgeopt.measurement.measurement import Measurement, measure
from edgeopt.measurement.process import ProcessRun
from edgeopt.measurement.stats import Stats, median_interval, percentile

__all__ = [
    "Comparison",
    "Measurement",
    "ProcessRun",
    "Stats",
    "compare",
    "measure",
    "median_error",
    "median_interval",
    "percentile",
]
