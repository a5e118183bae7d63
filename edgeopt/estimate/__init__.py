"""Estimates of memory and latency before compiling, which say that they are estimates."""

from edgeopt.estimate.contract import Advice, Choice, Estimate, EstimateOptions, Latency, Memory

__all__ = ["Advice", "Choice", "Estimate", "EstimateOptions", "Latency", "Memory"]
