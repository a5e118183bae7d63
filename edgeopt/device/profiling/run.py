"""Profile a model on a device, by the best that its runtime has.

LiteRT's own profiler through the agent; the table of benchmark_model; or, where a runtime has
neither (an Edge TPU's), the whole alone. What could not be told apart is said, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.packing import Transfer
from edgeopt.device.profiling.answer import RawProfile, checked_profile
from edgeopt.device.profiling.events import Row, inside_us, rows_of
from edgeopt.device.profiling.figures import AGREES_WITHIN, figures, only_mean, whole_of
from edgeopt.device.profiling.table import operator_table, rows_of_table
from edgeopt.device.python_runner.ask import ask
from edgeopt.device.run import RunRequest, RunResult
from edgeopt.device.runner import run, runtime_of
from edgeopt.device.shared_cores import shared_cores
from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.progress import Progress

__all__ = ["Profiled", "profile"]

KERNELS = ("xnnpack", "builtin")
_RUNS, _TIME_S, _MOST = 5, 4.0, 2000  # of each of the three ways; in all; of each
_SUMMARY_RUNS = 50  # of each of benchmark_model's runs


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """`profile` is the JSON object; the rest says what it was measured with."""

    profile: dict[str, Any]
    runtime: str
    runtime_version: str | None
    accelerator: str
    facts: Mapping[str, Any]
    transfer: Transfer | None
    notes: tuple[str, ...]

    @property
    def sent_bytes(self) -> int:
        return self.transfer.bytes if self.transfer else 0


def profile(
    device: Device,
    request: RunRequest,
    facts: ModelFacts,
    progress: Progress,
    *,
    kernels: str = "xnnpack",
    runs: int | None = None,
) -> Profiled:
    """Where the time of `request.model`, whose facts these are, goes on `device`.

    `kernels` "builtin" switches XNNPACK off. `runs` of each way; None: for some seconds. Raises
    InputError for what cannot be asked of that runtime, DeviceError when the device fails, has no
    profiler or answers nonsense, ModelError when the profiler cannot take the model.
    """
    if kernels not in KERNELS:
        raise InputError(f"There are no kernels {kernels!r}.", f"Known: {', '.join(KERNELS)}.")
    name = runtime_of(device, request)
    if request.accelerator == "edgetpu":
        return _whole_only(device, request, facts, progress, kernels, runs)
    if name == "benchmark_model":
        return _by_table(device, request, facts, progress, kernels, runs)
    if name != "litert":
        raise InputError(
            f"The runtime {name} has no profiler that edgeopt knows.",
            "Profile with a target that runs through LiteRT or benchmark_model.",
        )
    return _by_events(device, request, facts, progress, kernels, runs)


def _by_events(
    device: Device,
    request: RunRequest,
    facts: ModelFacts,
    progress: Progress,
    kernels: str,
    runs: int | None,
) -> Profiled:
    asked = {"kernels": kernels, "runs": runs or _RUNS, "time_s": 0 if runs else _TIME_S}
    asked["max_runs"] = runs or _MOST
    try:
        told = ask(device, request, "profile", asked, progress)
    except ModelError as error:
        if any(tensor.variable for tensor in facts.tensors()):
            error.hint = (
                f"It keeps state in variable tensors, which no compiled model can. {error.hint}"
            )
        raise
    raw = checked_profile(told.fields, device=device.transport.name, kernels=kernels)
    rows, groups = rows_of(raw, facts)
    found = {
        **_about("litert_profiler", kernels, request, raw.runtime, raw.runtime_version),
        "runs": len(raw.on_ns),
        "whole": {
            "plain": whole_of(raw.plain_ns),
            "profiler_off": whole_of(raw.off_ns),
            "profiler_on": whole_of(raw.on_ns),
        },
        "same_outputs": raw.same_outputs,
        "peak_rss_bytes": raw.peak_rss_bytes,
        "conditions": dict(raw.conditions),
        **figures(rows, groups, facts, held_against="plain", whole_ns=raw.plain_ns),
    }
    found["whole"]["inside"] = whole_of([us * 1000 for us in inside_us(raw)])
    found["overhead"] = _overhead(found["whole"])
    found["notes"] = list(_notes(found, rows, raw))
    return Profiled(
        profile=found,
        runtime=raw.runtime,
        runtime_version=raw.runtime_version,
        accelerator=request.accelerator,
        facts={**raw.facts, **device.facts()},
        transfer=told.transfer,
        notes=told.notes,
    )


def _about(
    method: str, kernels: str, request: RunRequest, runtime: str, version: str | None
) -> dict[str, Any]:
    return {
        "method": method,
        "kernels": kernels,
        "runtime": runtime,
        "runtime_version": version,
        "threads": request.threads,
        "resolution_ns": 1000,
    }


def _overhead(whole: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the profiler adds to a whole inference, by typical times of runs that took turns."""
    off, on = whole["profiler_off"]["typical_ns"], whole["profiler_on"]["typical_ns"]
    return {"ns": on - off, "share": (on - off) / off}


def _notes(found: Mapping[str, Any], rows: list[Row], raw: RawProfile) -> list[str]:
    notes = []
    if raw.kernels == "builtin":
        notes.append(
            "XNNPACK was off: this is another execution than the one that deploy and benchmark"
            " measure, and its times are not theirs."
        )
    if not raw.same_outputs:
        notes.append(
            "The profiled execution (LiteRT's compiled model) computed other outputs than the"
            " interpreter, so its kernels differ: compare types, not nanoseconds."
        )
    hidden = sum(r.us is None and r.partition is not None for r in rows)
    if hidden:
        notes.append(
            f"{hidden} operators inside XNNPACK cannot be told apart (fused, rewritten or"
            " ambiguous): their time is in the rows of their partitions. --kernels builtin shows"
            " them one by one, in another execution."
        )
    if lost := sum(g["operators"] is None for g in found["partitions"]):
        notes.append(f"Which operators {lost} XNNPACK partitions hold cannot be told.")
    during = raw.conditions.get("during")
    usage = during.get("usage") if isinstance(during, dict) else None
    if isinstance(usage, dict):
        notes += [f"While it was profiled, {reason}." for reason in shared_cores(usage)]
    return notes + _disagreement(found)


def _disagreement(found: Mapping[str, Any]) -> list[str]:
    total, limit = found["sum"], 100 * AGREES_WITHIN
    with_it = total["held_against"] == "profiler_on"
    whole = f"an inference {'with' if with_it else 'without'} the profiler"
    percent = 100 * total["share_of_whole"]
    if total["disturbed"]:
        return [
            "Most runs were disturbed by something else on that device: the operators' typical"
            f" times add up to {total['rows_ns'] / 1000:.0f} us, a typical run's to"
            f" {total['typical_ns'] / 1000:.0f} us. Profile it again when the device is quiet."
        ]
    if not total["agrees"]:
        return [
            f"The operators add up to {percent:.0f}% of {whole}, which is more than"
            f" {limit:.0f}% off: {_less_trust(found)}."
        ]
    if percent < 100 - limit:
        return [
            f"The operators add up to {percent:.0f}% of {whole}: XNNPACK cuts the time of each"
            " kernel to whole microseconds, so up to"
            f" {total['cut_off_ns'] / 1000:.0f} us of it are missing."
        ]
    return []


def _less_trust(found: Mapping[str, Any]) -> str:
    if any(row["nested"] and row["typical_ns"] is not None for row in found["operators"]):
        return "each turn of a loop takes the profiler some 20 us, which are in the loop's time"
    return "trust their shares, not their times"


def _by_table(
    device: Device,
    request: RunRequest,
    facts: ModelFacts,
    progress: Progress,
    kernels: str,
    runs: int | None,
) -> Profiled:
    """Three runs of benchmark_model: without its profiler, with it, without."""
    timed = replace(request, runs=runs or _SUMMARY_RUNS, time_s=0.0, inputs=())
    timed = replace(timed, warmup=5 if timed.warmup is None else timed.warmup)
    options = {**request.options, "xnnpack": "off" if kernels == "builtin" else ""}
    off = replace(timed, options=options)
    on = replace(timed, options={**options, "op_profiling": "true"})
    results = [run(device, one, progress, "benchmark_model") for one in (off, on, off)]
    last = results[1]
    rows, told = rows_of_table(operator_table(last.log), facts)
    plain = _summary([_mean(results[0]), _mean(results[2])], timed.runs)
    whole = {
        "plain": plain,
        "profiler_off": plain,
        "profiler_on": _summary([_mean(last)], timed.runs),
    }
    against: dict[str, Any] = {"held_against": "profiler_on", "whole_ns": [_mean(last)]}
    found = {
        **_about("benchmark_model", kernels, request, "benchmark_model", last.runtime_version),
        "runs": timed.runs,
        "whole": whole,
        "same_outputs": None,
        "peak_rss_bytes": last.peak_rss_bytes,
        "conditions": dict(last.conditions),
        **figures(rows, [], facts, told=told, **against),
        "overhead": _overhead(whole),
    }
    alone = "benchmark_model prints means alone: there is no spread of single runs."
    found["notes"] = [alone, *_disagreement(found)]
    return Profiled(
        profile=found,
        runtime="benchmark_model",
        runtime_version=last.runtime_version,
        accelerator=last.accelerator,
        facts=last.facts,
        transfer=results[0].transfer,
        notes=last.notes,
    )


def _mean(result: RunResult) -> float:
    assert result.summary_ns is not None  # benchmark_model's answers have one
    return result.summary_ns["mean"]


def _summary(means: list[float], runs: int) -> dict[str, Any]:
    return {"runs": runs * len(means), **only_mean(sum(means) / len(means))}


def _whole_only(
    device: Device,
    request: RunRequest,
    facts: ModelFacts,
    progress: Progress,
    kernels: str,
    runs: int | None,
) -> Profiled:
    """An Edge TPU's runtimes have no profiler: a partition is one entry, and the only one."""
    if kernels != "xnnpack":
        raise InputError(
            "A compiled model has no other kernels: --kernels is for CPU targets.",
            "Profile the model from before compiling, on a CPU target.",
        )
    result = run(device, replace(request, runs=runs or _SUMMARY_RUNS, time_s=0.0), progress)
    assert result.samples_ns is not None  # the agent's answers have them
    rows, told, names = _one_entry(result.samples_ns, facts)
    whole = whole_of(result.samples_ns)
    found = {
        **_about("whole", "edgetpu", request, result.runtime, result.runtime_version),
        "runs": len(result.samples_ns),
        "whole": {"plain": whole, "profiler_off": whole, "profiler_on": None},
        "same_outputs": None,
        "peak_rss_bytes": result.peak_rss_bytes,
        "conditions": dict(result.conditions),
        **figures(rows, [], facts, held_against="plain", whole_ns=result.samples_ns, told=told),
        "overhead": None,
        "notes": [f"{result.runtime} has no profiler for an Edge TPU: {names}."],
    }
    return Profiled(
        profile=found,
        runtime=result.runtime,
        runtime_version=result.runtime_version,
        accelerator=result.accelerator,
        facts=result.facts,
        transfer=result.transfer,
        notes=result.notes,
    )


def _one_entry(
    samples_ns: tuple[int, ...], facts: ModelFacts
) -> tuple[list[Row], dict[int, dict[str, Any]], str]:
    """The whole as one entry: of the operator where there is only one, else of none."""
    whole = {key: value for key, value in whole_of(samples_ns).items() if key != "runs"}
    rows = [
        Row(operator=op, name=op.op, us=None, matched="", nested=op.subgraph != 0)
        for op in facts.operators()
    ]
    if len(rows) == 1:
        rows[0].matched, rows[0].calls = "only", 1.0
        return (
            rows,
            {id(rows[0]): whole},
            "its one partition is the whole, operators inside of it cannot be told apart",
        )
    cpu = sum(not row.operator.custom for row in rows if row.operator)
    name = f"{len(rows) - cpu} Edge TPU partition(s) and {cpu} operators on the CPU"
    rows.append(Row(operator=None, name=name, us=None, matched="", calls=1.0))
    return rows, {id(rows[-1]): whole}, f"{name} cannot be told apart"
