"""What several devices share is found out once, whichever of them asks first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.artifact import Artifact
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.errors import DeviceError, EdgeoptError
from edgeopt.facts import ModelFacts
from edgeopt.feed import seeded_inputs
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.pipeline.references import References

MODEL = demo_dir() / "fashion.tflite"
_AT_ONCE = 8


def test_a_file_is_read_once_for_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    gate = threading.Barrier(_AT_ONCE)

    def counted(path: Path) -> ModelFacts:
        seen.append(path)
        return read(path)

    monkeypatch.setattr("edgeopt.model.read", counted)
    references, artifact = References(), Artifact.of(MODEL, "source")

    def ask(_: int) -> ModelFacts:
        gate.wait()
        return references.facts(artifact)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(ask, range(_AT_ONCE)))
    assert seen == [MODEL]
    assert all(facts == read(MODEL) for facts in found)


def test_another_file_is_read_for_itself(tmp_path: Path) -> None:
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(MODEL.read_bytes())
    references, one = References(), Artifact.of(MODEL, "source")
    assert references.facts(one).path == MODEL
    assert references.facts(replace(one, path=copy)).path == copy


def test_the_hosts_outputs_are_computed_once_for_the_same_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[RunRequest] = []

    def computed(request: RunRequest) -> RunResult:
        ran.append(request)
        return RunResult(
            runtime="counted",
            runtime_version="0",
            accelerator="cpu",
            model_sha256=request.sha256,
            warmup_ns=(),
            samples_ns=(),
            first_ns=None,
            init_ns=None,
            peak_rss_bytes=None,
            outputs=None,
        )

    monkeypatch.setattr("edgeopt.device.host_outputs", computed)
    request, references = _request(), References()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(references.outputs, [request] * _AT_ONCE))
    assert len(ran) == 1
    assert all(result is found[0] for result in found)
    others = replace(request, inputs=seeded_inputs(read(MODEL).inputs, 3))
    assert references.outputs(others) is not found[0]


def test_what_failed_for_one_device_is_tried_again_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []

    def failing(request: RunRequest) -> RunResult:
        tries.append(1)
        raise DeviceError("no space", "")

    monkeypatch.setattr("edgeopt.device.host_outputs", failing)
    references = References()
    for _ in range(2):
        with pytest.raises(EdgeoptError, match="no space"):
            references.outputs(_request())
    assert len(tries) == 2


def _request() -> RunRequest:
    facts = read(MODEL)
    return RunRequest(model=MODEL, sha256=facts.sha256, inputs=seeded_inputs(facts.inputs, 2))
