"""What was reached when Ctrl-C came says that it is not the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.pipeline.session import Session
from edgeopt.progress import Silent
from edgeopt.store import Store


def test_a_report_that_was_stopped_halfway_says_so(tmp_path: Path) -> None:
    session = Session(Job(model=demo_dir() / "fashion.tflite"), Store(tmp_path), Silent())

    def stopped(_: Session) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        session.walk(stopped)
    error = caught.value.reached.to_json()["error"]  # type: ignore[attr-defined]
    assert (error["kind"], error["exit_code"]) == ("interrupted", 130)
