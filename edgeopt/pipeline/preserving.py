"""What training put into the weights must be in the file that ships, or nothing ships."""

from __future__ import annotations

from edgeopt.errors import ModelError
from edgeopt.pipeline.session import Session

__all__ = ["preserved"]


def preserved(session: Session) -> None:
    """Add `preservation`. Raises ModelError naming each layer that lost its zeros or clusters."""
    from edgeopt.model import read
    from edgeopt.verify.preservation import check_preserved

    request = session.job.training
    assert session.float_model is not None
    found = check_preserved(
        read(session.artifact.path),
        read(session.float_model),
        request.kept,
        clusters=request.clusters,
        final_sparsity=request.final_sparsity,
        trained=(session.report.training or {}).get("layers", ()),
    )
    session.add(preservation=found.to_json())
    if found.passed:
        return
    session.add(artifacts=session.report.artifacts[:-1])  # what lost it is not offered either
    count, what = len(found.losses), " and ".join(request.kept)
    raise ModelError(
        f"The {session.plan.scheme} model lost the {what} that were asked for, in {count} "
        f"place{'s' * (count > 1)}; nothing was written.",
        "Use another --scheme, leave those layers out with --layers '!NAME', or train longer "
        "(--epochs).",
        details={"lines": list(found.losses)},
    )
