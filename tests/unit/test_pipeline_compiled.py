"""Which device a job means, and a file that comes compiled: it is carried through as it is.

No Edge TPU is here: `edgetpu_double` stands in for the runtime, and says so in what it returns.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled_models import compiled_double
from repair_models import Maker

from edgeopt import pipeline, registry
from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.device import Device
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.effort import Effort
from edgeopt.errors import InputError, ModelError
from edgeopt.job import Job
from edgeopt.progress import Progress, Silent
from edgeopt.store import Store

ASKED: list[RunRequest] = []


def edgetpu_double(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """A double of the Edge TPU runtime: it runs nothing."""
    ASKED.append(request)
    return RunResult(
        runtime="double of an Edge TPU runtime",
        runtime_version=None,
        accelerator=request.accelerator,
        model_sha256=request.sha256,
        warmup_ns=(1000,) * request.warmup,
        samples_ns=(1000,) * request.runs,
        first_ns=1000,
        init_ns=1000,
        peak_rss_bytes=None,
        outputs=tuple(request.inputs),
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(registry.BUILTINS["runtimes"], "edgetpu", f"{__name__}:edgetpu_double")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no compiler is there
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    ASKED.clear()
    return Store(tmp_path / "cache")


@pytest.fixture
def compiled(shared: Path) -> Path:
    return shared / "edgetpu/models/split_concat_edgetpu.tflite"


@pytest.mark.parametrize("verb", [pipeline.deploy, pipeline.benchmark])
def test_a_compiled_file_runs_as_it_is_without_a_compiler(
    verb: object, store: Store, compiled: Path
) -> None:
    job = Job(
        model=compiled,
        target="edgetpu",
        device="local",
        effort=Effort(runs=3, warmup=5, processes=1),
        keep=False,
    )
    report = verb(job, store, Silent())  # type: ignore[operator]
    assert [a.stage for a in report.artifacts] == ["source"]
    assert (ASKED[0].model, ASKED[0].accelerator) == (compiled, "edgetpu")
    assert report.parity is None and "came compiled" in report.parity_note


def test_the_plan_for_a_compiled_file_says_that_nothing_is_compiled(
    store: Store, compiled: Path
) -> None:
    report = pipeline.plan(Job(model=compiled, target="coral-usb"), store, Silent())
    assert report.plan is not None and report.plan.scheme is None
    assert "nothing to convert or to compile" in report.plan.reasons[0]


def test_compiling_twice_is_refused_before_a_compiler_is_looked_for(
    store: Store, compiled: Path
) -> None:
    with pytest.raises(ModelError, match="already compiled for edgetpu-v1"):
        pipeline.compile_model(Job(model=compiled, target="edgetpu"), store, Silent())


@pytest.mark.parametrize(
    ("target", "device"), [("cpu", "local"), ("android-arm64", "adb://NOT_THERE")]
)
def test_a_compiled_file_is_refused_where_no_edge_tpu_is(
    target: str, device: str, store: Store, compiled: Path
) -> None:
    job = Job(model=compiled, target=target, device=device)
    for verb in (pipeline.deploy, pipeline.benchmark):
        with pytest.raises(ModelError):
            verb(job, store, Silent())


@pytest.mark.parametrize("target", ["android-gpu", "android-arm64"])
def test_an_android_target_without_a_device_never_runs_on_the_host(
    target: str, store: Store, shared: Path
) -> None:
    job = Job(model=shared / "models/ic_resnet8/ref_int8.tflite", target=target)
    with pytest.raises(InputError, match="no device was named"):
        pipeline.deploy(job, store, Silent())


def test_a_target_that_needs_python_is_refused_on_android_with_those_that_do_not(
    store: Store, shared: Path
) -> None:
    job = Job(model=shared / "models/ic_resnet8/ref_int8.tflite", device="adb://PHONE")
    with pytest.raises(InputError, match="Android") as caught:
        pipeline.benchmark(job, store, Silent())
    assert "android-arm64" in caught.value.hint and "android-gpu" in caught.value.hint


def test_a_device_that_is_not_known_is_refused_before_any_work(store: Store, shared: Path) -> None:
    job = Job(
        model=shared / "models/ic_resnet8/ref_f32.tflite",
        device="nobody",
        calibration="there_is_no_such_file.npz",
    )
    with pytest.raises(InputError, match="nobody"):
        pipeline.deploy(job, store, Silent())


def test_a_board_that_is_not_named_is_never_taken_for_measured(store: Store, shared: Path) -> None:
    model = shared / "models/kws_dscnn/ref_int8.tflite"
    job = Job(
        model=model,
        target="raspberry-pi-5",
        effort=Effort(runs=2, warmup=0, processes=1),
        keep=False,
    )
    report = pipeline.deploy(job, store, Silent())
    assert any("this machine, not a raspberry-pi-5" in note for note in report.notes)


def test_compiler_flags_for_a_target_without_a_compiler_are_not_dropped_in_silence(
    store: Store, shared: Path
) -> None:
    model = shared / "models/kws_dscnn/ref_int8.tflite"
    report = pipeline.compile_model(Job(model=model, compiler="/bin/true"), store, Silent())
    assert any("no compiler" in note for note in report.notes)


def compiler_double(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """A double of the Edge TPU compiler: it maps the first operation, whatever was asked for."""
    path = out_dir / "double_edgetpu.tflite"
    path.write_bytes(compiled_double(source.read_bytes(), [{0}]))
    return CompileResult(path=path, is_double=True)


@pytest.mark.parametrize(("runtime", "surprises"), [("", 0), ("11", 1)])
def test_a_compiled_file_is_compared_with_the_prediction_for_the_runtime_asked_for(
    runtime: str, surprises: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILTINS["compilers"], "edgetpu", f"{__name__}:compiler_double")
    monkeypatch.delitem(registry.BUILTINS["compiler_identities"], "edgetpu")
    model = tmp_path / "int8.tflite"
    maker = Maker("int8")
    first = maker.tensor("x", [1, 4, 4, 4])
    last = maker.conv(first, "y")
    model.write_bytes(maker.done([first], [last]))
    flags = {"min_runtime_version": runtime} if runtime else {}
    job = Job(model=model, target="edgetpu", compiler_flags=flags)
    report = pipeline.compile_model(job, store, Silent())
    (proof,) = report.compilation["proofs"]
    assert report.placement is not None and report.placement.ops_mapped == 1 - surprises
    assert len(proof["prediction"]["disagreements"]) == surprises
