"""Measure accuracy, and hold it against the budget."""

from __future__ import annotations

from edgeopt.errors import InputError, ModelError
from edgeopt.pipeline.session import Session

__all__ = ["accuracy", "hold_budget"]


def accuracy(session: Session) -> None:
    """Add the measured accuracy of the optimized model, and of the float one it came from."""
    from edgeopt.verify.accuracy import measure_accuracy

    assert session.job.eval_data is not None
    found = measure_accuracy(
        session.artifact.path,
        session.baseline,
        session.job.eval_data,
        session.job.preprocess,
        session.progress,
        input_names=() if session.plan.scheme is None else [t.name for t in session.facts.inputs],
    )
    session.add(accuracy=found.to_json())


def hold_budget(session: Session) -> None:
    """Raises ModelError when accuracy fell by more than --max-accuracy-drop."""
    budget, found = session.job.max_accuracy_drop, session.report.accuracy
    if budget is None or found is None:
        return
    if found["drop"] is None:
        raise InputError(
            "--max-accuracy-drop needs the float model to compare with; this model is already "
            "quantized.",
            "Deploy the float model, or leave the flag out.",
        )
    if found["drop"] > budget:
        raise ModelError(
            f"Accuracy fell by {found['drop']:.4f} ({found['metric']} {found['baseline']:.4f} to "
            f"{found['optimized']:.4f} on {found['samples']} samples); the budget is {budget:g}.",
            f"Give more calibration data, or another --scheme. Kept: {session.artifact.path}",
        )
