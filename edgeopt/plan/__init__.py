"""Plan: which technique and scheme, why, and what every other choice would have cost."""

from edgeopt.plan.candidate import NEEDS_CALIBRATION, Candidate, Spec, parse_spec
from edgeopt.plan.decide import Plan, make_plan

__all__ = ["NEEDS_CALIBRATION", "Candidate", "Plan", "Spec", "make_plan", "parse_spec"]
