"""Timed runs: nothing but `invoke` is between two readings of the clock."""

from __future__ import annotations

import gc
import time
from array import array
from typing import Any, Callable

from .lines import Lines
from .overhead import call_overhead_ns
from .readings import peak_rss_bytes, readings
from .runtimes import CUSTOM_OP, check_accelerator, guarded, load_runtime, make_interpreter
from .samples import collect, fit_shapes, given_inputs, random_inputs, set_inputs
from .settle import Settle
from .watch import Watch

BLOCK_S = 1.0  # so often the times are sent, so that an agent that is killed loses no more
BLOCK_RUNS = 50_000  # and so many are kept until then: 400 kB


def measure(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """Load, first inference, warm-up, timed runs, then the outputs for parity (untimed)."""
    check_accelerator(request["accelerator"], CUSTOM_OP in model)
    runtime = load_runtime(request["runtimes"])  # numpy comes with it; its import is not timed
    lines.say("stage", stage="load", runtime=runtime[0], runtime_version=runtime[1])
    samples = given_inputs(request["inputs"]) if request.get("inputs") else []
    base = max(1, peak_rss_bytes() - len(model))  # the file itself is held by now
    before, start = readings(), time.perf_counter_ns()
    interpreter = guarded(lambda: make_interpreter(request, model, runtime))
    if samples:
        fit_shapes(interpreter, samples[0])
    guarded(interpreter.allocate_tensors)
    init_ns = time.perf_counter_ns() - start
    details = interpreter.get_input_details()
    cycle = samples or [random_inputs(details, request["seed"])]
    watch = Watch()
    counts = timed(request, interpreter, details, cycle, lines, watch)
    during, after = watch.end(), readings()
    peak = peak_rss_bytes()
    call_ns = call_overhead_ns(request, runtime) if request["runs"] else None
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "accelerator": request["accelerator"],
        "init_ns": init_ns,
        "counts": counts,
        "base_rss_bytes": base,
        "peak_rss_bytes": peak,
        "conditions": {
            "before": before,
            "during": during,
            "after": after,
            "call_overhead_ns": call_ns,
        },
        "outputs": collect(request, interpreter, details, samples, lines),
    }


def timed(
    request: dict[str, Any],
    interpreter: Any,
    details: Any,
    cycle: list[Any],
    lines: Lines,
    watch: Watch,
) -> dict[str, int]:
    """How many runs each phase had; their times are sent on the way.

    The collector of cyclic garbage rests meanwhile: there is none, and to look for it takes time.
    """
    if not request["runs"]:
        return {"first": 0, "warmup": 0, "samples": 0}
    plan = (
        ("first", exactly(1)),
        ("warmup", warm(request["warmup"])),
        ("samples", until(request["runs"], request.get("time_s") or 0, request.get("max_runs"))),
    )
    gc.collect()
    gc.disable()
    watch.begin()
    try:
        parts = (interpreter, details, cycle, lines, watch)
        return {phase: run(phase, enough, *parts) for phase, enough in plan}
    finally:
        gc.enable()


def run(
    phase: str,
    enough: Callable[[int, int], bool],
    interpreter: Any,
    details: Any,
    cycle: list[Any],
    lines: Lines,
    watch: Watch,
) -> int:
    """Run until `enough` (runs so far, the last one's nanoseconds) says so."""
    lines.say("stage", stage=phase)
    invoke, clock, now = interpreter.invoke, time.perf_counter_ns, time.monotonic
    block, sent, count, spent = array("q"), now(), 0, 0
    while not enough(count, spent):
        set_inputs(interpreter, details, cycle[count % len(cycle)])
        began = clock()
        invoke()
        spent = clock() - began
        block.append(spent)
        count += 1
        watch.between()
        if now() - sent > BLOCK_S or len(block) == BLOCK_RUNS:
            lines.say("times", phase=phase, ns=block.tolist())
            block, sent = array("q"), now()
    if block:
        lines.say("times", phase=phase, ns=block.tolist())
    return count


def exactly(runs: int) -> Callable[[int, int], bool]:
    return lambda count, spent: count >= runs


def warm(runs: Any) -> Callable[[int, int], bool]:
    """So many runs; None: until the times have settled."""
    if runs is not None:
        return exactly(runs)
    rule = Settle()
    return lambda count, spent: count > 0 and rule.add(spent)


def until(runs: int, time_s: float, most: Any) -> Callable[[int, int], bool]:
    """So many runs, and if a time is given then until so much of it was spent in runs."""
    if not time_s:
        return exactly(runs)
    left = time_s * 1e9

    def enough(count: int, spent: int) -> bool:
        nonlocal left
        left -= spent
        return (count >= runs and left <= 0) or (most is not None and count >= most)

    return enough
