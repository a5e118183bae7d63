"""Timed runs: nothing but `invoke` is between two readings of the clock."""

from __future__ import annotations

import time
from typing import Any

from .lines import Lines
from .readings import peak_rss_bytes, readings
from .runtimes import CUSTOM_OP, check_accelerator, guarded, load_runtime, make_interpreter
from .samples import collect, fit_shapes, given_inputs, random_inputs, set_inputs


def measure(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """Load, first inference, warm-up, timed runs, then the outputs for parity (untimed)."""
    check_accelerator(request["accelerator"], CUSTOM_OP in model)
    runtime = load_runtime(request["runtimes"])  # numpy comes with it; its import is not timed
    lines.say("stage", stage="load", runtime=runtime[0])
    samples = given_inputs(request["inputs"]) if request.get("inputs") else []
    before, start = readings(), time.perf_counter_ns()
    interpreter = guarded(lambda: make_interpreter(request, model, runtime))
    if samples:
        fit_shapes(interpreter, samples[0])
    guarded(interpreter.allocate_tensors)
    init_ns = time.perf_counter_ns() - start
    details = interpreter.get_input_details()
    cycle = samples or [random_inputs(details, request["seed"])]
    times: dict[str, list[int]] = {"first": [], "warmup": [], "samples": []}
    plan = (("first", 1 if request["runs"] else 0), ("warmup", request["warmup"]))
    for phase, count in plan + (("samples", request["runs"]),):
        lines.say("stage", stage=phase)
        for index in range(count):
            set_inputs(interpreter, details, cycle[index % len(cycle)])
            began = time.perf_counter_ns()
            interpreter.invoke()
            times[phase].append(time.perf_counter_ns() - began)
            lines.beat(phase, index + 1, count)
    after = readings()
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "accelerator": request["accelerator"],
        "init_ns": init_ns,
        "first_ns": times["first"][0] if times["first"] else None,
        "warmup_ns": times["warmup"],
        "samples_ns": times["samples"],
        "peak_rss_bytes": peak_rss_bytes(),
        "conditions": {"before": before, "after": after},
        "outputs": collect(request, interpreter, details, samples, lines),
    }
