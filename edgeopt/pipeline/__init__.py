"""The only sequencing: what happens to a job, in which order."""

from edgeopt.pipeline.evaluating import evaluate
from edgeopt.pipeline.flow import benchmark, compile_model, convert, deploy, plan

__all__ = ["benchmark", "compile_model", "convert", "deploy", "evaluate", "plan"]
