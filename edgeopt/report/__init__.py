"""Report: the evidence chain of a deploy, and how it is shown."""

from edgeopt.report.report import Report, model_json, ops_json

__all__ = ["Report", "model_json", "ops_json"]
