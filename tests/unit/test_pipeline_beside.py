"""Plain int8 beside what holds activations twice, on an Edge TPU that is played by doubles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compiled_models import compiled_double

from edgeopt import pipeline, registry
from edgeopt.artifact import hash_path
from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.dataset import Preprocess
from edgeopt.device import Device
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.effort import Effort
from edgeopt.errors import ModelError
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.progress import Progress, Silent
from edgeopt.quality import QualityRequest
from edgeopt.report import Report
from edgeopt.store import Store

RUN: list[RunRequest] = []
COMPILED: list[Path] = []


def edgetpu_double(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """A double of the Edge TPU runtime: it runs nothing, and larger models take it longer."""
    RUN.append(request)
    each = request.model.stat().st_size
    return RunResult(
        runtime="double of an Edge TPU runtime", runtime_version=None,
        accelerator=request.accelerator, model_sha256=request.sha256,
        warmup_ns=(each,) * request.warmup, samples_ns=(each,) * request.runs, first_ns=each,
        init_ns=each, peak_rss_bytes=None, outputs=None,
    )  # fmt: skip


def compiler_double(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """A double of the Edge TPU compiler: it maps the first operation."""
    COMPILED.append(source)
    path = out_dir / "double_edgetpu.tflite"
    path.write_bytes(compiled_double(source.read_bytes(), [{0}]))
    return CompileResult(path=path, is_double=True)


def compiler_of_one(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """The same double, which refuses every model but the first."""
    if COMPILED:
        raise ModelError("The double compiles one model only.")
    return compiler_double(source, out_dir, options, progress)


def job(output: Path) -> Job:
    return Job(
        model=demo_dir() / "fashion.tflite",
        target="edgetpu",
        calibration=f"{demo_dir() / 'samples.npz'}:x_calib",
        preprocess=Preprocess.parse("scale=1/255"),
        quality=QualityRequest(
            ranges="minmax", equalization="off", bias_correction="off", splitting="8"
        ),
        effort=Effort(runs=8, warmup=0, processes=1),
        conditions="report",
        output=output,
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the conversion, which takes a while."""
    folder = tmp_path_factory.mktemp("converted")
    pipeline.convert(job(folder / "out"), Store(folder / "cache"), Silent())
    return folder / "cache"


def deployed(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> Report:
    builtins = registry.BUILTINS
    monkeypatch.setitem(builtins["runtimes"], "edgetpu", f"{__name__}:edgetpu_double")
    monkeypatch.setitem(builtins["compilers"], "edgetpu", f"{__name__}:{compiler}")
    monkeypatch.delitem(builtins["compiler_identities"], "edgetpu")
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    RUN.clear()
    COMPILED.clear()
    shutil.copytree(converted, tmp_path / "cache")
    return pipeline.deploy(job(tmp_path / "out"), Store(tmp_path / "cache"), Silent())


def test_both_are_compiled_and_measured_and_only_what_was_asked_for_is_left(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = deployed(converted, tmp_path, monkeypatch, "compiler_double")
    assert report.beside is not None and report.device is not None and report.final is not None
    assert {each.sha256 for each in RUN} > {report.final.sha256}
    assert len(COMPILED) == len({each.sha256 for each in RUN}) == 2
    assert report.device["model_sha256"] == report.final.sha256
    said = (report.conversion or {})["quality"]["splitting"]
    assert report.beside["sha256"] == said["plain_int8"]["sha256"]
    assert report.beside["comparison"]["ratio"] > 1
    left = sorted(path.name for path in (tmp_path / "out").glob("*.tflite"))
    assert left == ["fashion_int8.tflite", "fashion_int8_edgetpu.tflite"]
    assert report.final.path == tmp_path / "out" / left[1]
    assert hash_path(report.final.path) == report.final.sha256


def test_where_plain_int8_cannot_be_had_the_measurement_stays_and_it_is_said(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = deployed(converted, tmp_path, monkeypatch, "compiler_of_one")
    assert report.beside is None and report.measurement is not None
    assert [each.sha256 for each in RUN] == [report.final.sha256 if report.final else ""]
    assert any("Plain int8, to compare with: The double compiles" in n for n in report.notes)
