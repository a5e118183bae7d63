"""What holding activations twice costs: plain int8 of the same model, measured in alternation."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

from edgeopt.artifact import Artifact
from edgeopt.errors import EdgeoptError
from edgeopt.measurement import compare
from edgeopt.pipeline import compiling, running
from edgeopt.pipeline.session import Session
from edgeopt.store import scratch

__all__ = ["run"]

_NAMES = ("held twice", "plain int8")


def run(session: Session) -> None:
    """Measure the final file, and beside it plain int8 where activations are held twice.

    What `running.run` raises for the final file; whatever speaks against the other is only noted.
    """
    single = session.single
    if single is None:
        running.run(session)
        return
    with scratch(session.store.root) as folder:
        try:
            other = _plain(session, single, folder)
        except EdgeoptError as error:
            _unmeasured(session, error)
            running.run(session)
            return
        own, beside = running.run_together([session, other], session.job.effort, names=_NAMES)
    if beside is not None:
        _unmeasured(session, beside)
    _add(session, other, single)
    if own is not None:
        raise own


def _plain(session: Session, single: Artifact, folder: Path) -> Session:
    """A session of its own for plain int8, compiled as the final file was."""
    other = copy(session)
    other.progress = _Quiet(session)
    other.job = replace(session.job, output=folder)
    artifacts = tuple(
        a for a in session.report.artifacts if a.stage not in ("optimized", "compiled")
    )
    other.report = replace(session.report, artifacts=(*artifacts, single), compilation=None)
    if session.artifact.stage == "compiled":
        compiling.compile_artifact(other)
    return other


class _Quiet:
    """Shows what is done; notes are those of the final file."""

    def __init__(self, session: Session) -> None:
        self.stage, self.advance = session.progress.stage, session.progress.advance

    def note(self, text: str) -> None:
        """Nothing: both models have the same."""


def _unmeasured(session: Session, error: EdgeoptError) -> None:
    session.note(f"Plain int8, to compare with: {error.message}")


def _add(session: Session, other: Session, single: Artifact) -> None:
    """Both times and their ratio, above 1 where holding activations twice is slower."""
    ours, plain = session.report.measurement, other.report.measurement
    if ours is None or plain is None:
        return
    session.add(
        beside={
            "sha256": single.sha256,
            "size_bytes": single.size_bytes,
            "gzip_bytes": single.gzip_bytes,
            "measurement": plain.to_json(),
            "comparison": compare(plain, ours).to_json(),
        }
    )
