"""Several processes and several models on one device; what is finished is never lost.

Where a process must crash or be disturbed, a double stands in for the runtime; all else is real.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt import pipeline, registry
from edgeopt.artifact import hash_path
from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.series import Ran, Variant, run_series
from edgeopt.effort import Effort
from edgeopt.errors import DeviceError, EdgeoptError
from edgeopt.job import Job
from edgeopt.paths import demo_dir
from edgeopt.pipeline.variants import benchmark_variants, unique_names
from edgeopt.progress import Progress, Silent
from edgeopt.report import Report
from edgeopt.report.variants import VariantsReport
from edgeopt.store import Store

MODEL = demo_dir() / "fashion.tflite"
ASKED: list[RunRequest] = []
DISTURBED: set[int] = set()
FAILS: set[int] = set()
LOSES_ITS_LEASE: set[int] = set()
NOISY: set[str] = set()


def runtime_double(device: Device, request: RunRequest, progress: Progress) -> RunResult:
    """A double of a runtime: it runs nothing. Its calls of DISTURBED and FAILS go wrong, and its
    processes differ for the models in NOISY."""
    number = len(ASKED)
    time_ns = 1000 + 50 * (number % 7) * (request.model.stem in NOISY)
    ASKED.append(request)
    if number in LOSES_ITS_LEASE and device.held:
        device.held.board.drop(device.held.lease.name)  # as `devices release --force` does
    if number in FAILS:
        raise DeviceError("The board of the double is gone.", "Nothing is to be done.")
    return RunResult(
        runtime="double of a runtime",
        runtime_version="0",
        accelerator=request.accelerator,
        model_sha256=request.sha256,
        warmup_ns=(1000,) * (request.warmup or 0),
        samples_ns=(time_ns,) * request.runs,
        first_ns=1000,
        init_ns=1000,
        peak_rss_bytes=None,
        outputs=tuple(request.inputs) if request.want_outputs else None,
        invalid_reasons=("the double says so",) if number in DISTURBED else (),
        seconds=0.1,
    )


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setitem(registry.BUILTINS["runtimes"], "litert", f"{__name__}:runtime_double")
    monkeypatch.setattr("edgeopt.device.turns.can_take_turns", lambda *_: False)
    for kept in (ASKED, DISTURBED, FAILS, LOSES_ITS_LEASE, NOISY):
        kept.clear()
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "cache")


def job(model: Path = MODEL, **effort: Any) -> Job:
    return Job(model=model, device="local", effort=Effort(warmup=1, **effort), tolerance=1e9)


def benchmarked(store: Store, asked: Job) -> tuple[Report, EdgeoptError | None]:
    try:
        return pipeline.benchmark(asked, store, Silent()), None
    except EdgeoptError as error:
        assert isinstance(error.reached, Report)
        return error.reached, error


def test_only_the_first_process_computes_outputs(double: Store) -> None:
    report, error = benchmarked(double, job(runs=10))
    assert error is None and report.measurement is not None and report.parity is not None
    timed = [request for request in ASKED if request.runs]  # the last one is the host's reference
    assert [request.want_outputs for request in timed] == [True, False, False, False, False]
    assert [request.runs for request in timed] == [2] * 5


def test_a_disturbed_process_is_left_out_and_repeated_and_said(double: Store) -> None:
    DISTURBED.add(1)
    report, error = benchmarked(double, job(runs=10))
    measured = report.measurement
    assert error is None and measured is not None and measured.valid
    assert (len(measured.processes), len(measured.pooled), measured.runs) == (6, 5, 10)
    assert any("left out" in note and "the double says so" in note for note in measured.notes)


def test_a_board_that_is_always_disturbed_is_exit_6_with_all_that_was_measured(
    double: Store,
) -> None:
    DISTURBED.update(range(100))
    report, error = benchmarked(double, job(runs=10))
    assert error is not None and error.exit_code == 6 and "the double says so" in error.message
    assert report.measurement is not None and len(report.measurement.processes) == 11
    assert report.measurement.samples_ns


def test_where_conditions_are_only_reported_nothing_is_repeated(double: Store) -> None:
    DISTURBED.update(range(100))
    asked = Job(
        model=MODEL, device="local", effort=Effort(runs=10), tolerance=1e9, conditions="report"
    )
    report, error = benchmarked(double, asked)
    assert error is None and sum(request.runs > 0 for request in ASKED) == 5
    assert report.measurement is not None and report.measurement.valid


def test_what_was_finished_before_an_error_is_in_the_report(double: Store) -> None:
    FAILS.add(3)
    report, error = benchmarked(double, job(runs=10))
    assert error is not None and error.exit_code == 5
    assert report.measurement is not None and report.measurement.runs == 6
    assert report.device is not None and report.failure is not None


@pytest.mark.parametrize("conditions", ["judge", "report"])
def test_a_run_whose_lease_was_ended_starts_nothing_more_beside_the_next_owner(
    double: Store, conditions: str
) -> None:
    LOSES_ITS_LEASE.add(1)
    report, error = benchmarked(double, replace(job(runs=10), conditions=conditions))
    assert error is not None and error.exit_code == 6 and "lease on the device" in error.message
    assert report.measurement is not None and len(report.measurement.processes) == 2
    assert sum(request.runs > 0 for request in ASKED) == 2


def variants(store: Store, *jobs: Job, interleave: bool = True) -> VariantsReport:
    try:
        return benchmark_variants(jobs, store, Silent(), interleave=interleave)
    except EdgeoptError as error:
        assert isinstance(error.reached, VariantsReport)
        return error.reached


def copies(folder: Path, *names: str) -> list[Path]:
    return [Path(shutil.copy(MODEL, folder / f"{name}.tflite")) for name in names]


def test_variants_alternate_in_a_random_order_that_the_seed_repeats(
    double: Store, tmp_path: Path
) -> None:
    models = copies(tmp_path, "a", "b", "c")
    orders = [
        variants(double, *(job(m, runs=20, processes=10, seed=seed) for m in models)).order
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    rounds = [orders[0][place : place + 3] for place in range(0, 30, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize("interleave", [True, False])
def test_a_model_whose_times_are_sure_stays_in_the_alternation_while_another_is_not(
    double: Store, tmp_path: Path, interleave: bool
) -> None:
    models = copies(tmp_path, "quiet", "noisy")
    NOISY.add("noisy")
    asked = (job(m, max_time_s=2, precision=0.001, processes=3) for m in models)
    order = variants(double, *asked, interleave=interleave).order
    assert order.count("noisy") > 10
    assert order.count("quiet") == (order.count("noisy") if interleave else 3)


def test_without_interleaving_one_model_follows_the_other(double: Store, tmp_path: Path) -> None:
    models = copies(tmp_path, "a", "b")
    found = variants(double, *(job(m, runs=4, processes=2) for m in models), interleave=False)
    assert found.order == ("a", "a", "b", "b") and not found.interleaved


@pytest.mark.parametrize("interleave", [True, False])
def test_a_variant_that_fails_does_not_lose_the_others(
    double: Store, tmp_path: Path, interleave: bool
) -> None:
    a, b = copies(tmp_path, "a", "b")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(MODEL.read_bytes()[:1000])
    FAILS.add(0 if interleave else 1)  # one of the good ones, before it has any time
    found = variants(
        double, *(job(m, runs=4, processes=2) for m in (a, broken, b)), interleave=interleave
    )
    document = found.to_json()
    assert [v["name"] for v in document["variants"]] == ["a", "broken", "b"]
    assert document["variants"][1]["error"]["exit_code"] == 3 == document["exit_code"]
    whole = [v for v in document["variants"] if v["error"] is None]
    assert len(whole) == 1 and whole[0]["measurement"]["runs"] == 4


def test_names_tell_equal_models_apart() -> None:
    assert unique_names(["a", "b", "a", "a#2", "a"]) == ["a", "b", "a#3", "a#2", "a#4"]


def crashing(tmp_path: Path, *, after: int, invoke_s: float) -> Device:
    """A device whose runtime is a double that is killed in the timed run number `after`."""
    module = tmp_path / "site" / "ai_edge_litert"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    body = f"""
        import os, signal, time
        import numpy
        class Interpreter:
            count = 0
            def __init__(self, **options): pass
            def allocate_tensors(self): pass
            def get_input_details(self):
                return [dict(index=0, dtype=numpy.int8, shape=[1])]
            def set_tensor(self, index, value): pass
            def invoke(self):
                self.count += 1
                if self.count > {after}: os.kill(os.getpid(), signal.SIGKILL)
                time.sleep({invoke_s})
    """
    (module / "interpreter.py").write_text(textwrap.dedent(body))
    python = tmp_path / "python-with-a-double"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/site exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    work = str(tmp_path / "w")
    return connect(DeviceSpec(name="double", kind="local", workdir=work, python=str(python)))


def test_a_process_that_is_killed_leaves_the_runs_that_it_had_sent(tmp_path: Path) -> None:
    taken: list[Ran] = []
    request = RunRequest(model=MODEL, sha256=hash_path(MODEL), timeout_s=60)
    with crashing(tmp_path, after=20, invoke_s=0.1) as device:
        errors = run_series(
            device,
            [Variant(name="a", request=request)],
            Effort(runs=40, warmup=0, processes=1),
            Silent(),
            taken.append,
        )
    assert "memory" in errors["a"].message and len(taken) == 1
    samples = taken[0].process.samples_ns or ()
    assert not taken[0].complete and not taken[0].valid and 9 <= len(samples) <= 19
    assert all(time_ns >= 10**8 for time_ns in samples)


def test_a_series_sends_a_model_once_and_leaves_nothing_where_nothing_may_stay(
    tmp_path: Path,
) -> None:
    taken: list[Ran] = []
    request = RunRequest(model=MODEL, sha256=hash_path(MODEL), timeout_s=60, keep=False)
    work = tmp_path / "w"
    with connect(DeviceSpec(name="here", kind="local", workdir=str(work))) as device:
        run_series(
            device,
            [Variant(name="a", request=request)],
            Effort(runs=6, warmup=0, processes=3),
            Silent(),
            taken.append,
            judged=False,
        )
        assert [ran.result.sent_bytes > 0 for ran in taken] == [True, False, False]
        assert not work.exists()


def edgeopt(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgeopt", *map(str, words)]


def test_two_models_interleaved_on_this_machine(tmp_path: Path) -> None:
    a, b = copies(tmp_path, "old", "new")
    words = ("benchmark", a, b, "--interleave", "--processes", 2, "--runs", 40, "--no-keep")
    done = subprocess.run(
        edgeopt(*words, "--json", "--report", "r.json"), cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["schema"] == "edgeopt.benchmark/1"
    assert sorted(document["order"]) == ["new", "new", "old", "old"]
    old, new = document["variants"]
    for measured in (old["measurement"], new["measurement"]):  # unsteady runs count as warm-up
        assert sum(p["runs"] + p["moved_runs"] for p in measured["processes"]) == 40
    assert old["parity"]["passed"] and new["parity"]["passed"]
    assert old["device"]["inputs_sha256"] == new["device"]["inputs_sha256"]
    assert document["comparisons"][0]["old"] == "old"
    assert json.loads((tmp_path / "r.json").read_text())["order"] == document["order"]


def test_each_model_that_is_done_is_told_of_at_once(double: Store, tmp_path: Path) -> None:
    jobs = [job(m, runs=4, processes=2) for m in copies(tmp_path, "a", "b")]
    told: list[VariantsReport] = []
    benchmark_variants(jobs, double, Silent(), interleave=False, told=told.append)
    measured = [[v.report and v.report.measurement is not None for v in t.variants] for t in told]
    assert measured == [[True, False], [True, True]] and not told[0].complete


def test_one_model_cannot_be_interleaved(tmp_path: Path) -> None:
    done = subprocess.run(edgeopt("benchmark", MODEL, "--interleave"), cwd=tmp_path)
    assert done.returncode == 2


def test_one_model_gives_the_single_document_with_its_effort(tmp_path: Path) -> None:
    words = ("benchmark", MODEL, "--processes", 2, "--precision", "90%", "--max-time", 20, "--json")
    done = subprocess.run(edgeopt(*words), cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    measured = document["measurement"]
    assert document["effort"]["processes"] == 2 and len(measured["processes"]) >= 2
    pooled = [p for p in measured["processes"] if p["pooled"]]
    assert sum(p["runs"] for p in pooled) == len(measured["samples_ns"])
    assert sum(p["warmup_runs"] for p in pooled) == len(measured["warmup_ns"])
    assert document["device"]["sent_bytes"] == MODEL.stat().st_size


def test_ctrl_c_leaves_what_was_finished_in_the_report(tmp_path: Path) -> None:
    words = ("benchmark", MODEL, "--processes", 500, "--runs", 500, "--json", "--report", "r.json")
    process = subprocess.Popen(
        edgeopt(*words), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "other processes" in line:  # so the first one is finished
            process.send_signal(signal.SIGINT)
            break
    answer, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    document = json.loads(answer)
    assert document["error"]["kind"] == "interrupted"
    assert len(document["measurement"]["processes"]) >= 1 and document["measurement"]["samples_ns"]
    assert json.loads((tmp_path / "r.json").read_text())["measurement"] == document["measurement"]
