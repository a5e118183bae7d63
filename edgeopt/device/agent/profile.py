"""Where the time of an inference goes: the events of LiteRT's profiler, raw.

Three ways to run the model take turns, so that drift hits all alike: the interpreter whose times
edgeopt reports (`plain`), LiteRT's compiled model with its profiler stopped (`off`), and with it
started (`on`). What the events mean is the host's to judge.
"""

from __future__ import annotations

import gc
import time
from typing import Any, Callable

from .lines import AgentError, Lines
from .litert_c import Compiled, library
from .readings import peak_rss_bytes, readings
from .runtimes import CUSTOM_OP, check_accelerator, guarded, load_runtime, make_interpreter
from .samples import fit_shapes, given_inputs, random_inputs, set_inputs
from .watch import difference, usable_cores, usage, with_siblings

BEGIN = "LiteRT::Run[buffer registration]"  # the first event of every run
TELEMETRY = 16  # kinds of events from here on have no duration
BLOCK_S, BLOCK_RUNS = 0.05, 50  # a turn of one way: long enough to fill the caches again
WARM_S = 2.0
MOST_TRACES = 64
MOST_NUMBERS = 2_000_000  # of event durations, which are sent as one line


def profile(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """`profile` of the request: kernels ("xnnpack" or "builtin"), runs (at least, of each way),
    time_s (in all, once the runs are made), max_runs."""
    check_accelerator(request["accelerator"], CUSTOM_OP in model)
    runtime = load_runtime(request["runtimes"])
    library(runtime)  # refused before the model is loaded
    lines.say("stage", stage="load", runtime=runtime[0])
    asked = request["profile"]
    samples = given_inputs(request["inputs"]) if request.get("inputs") else []
    interpreter = guarded(lambda: interpreter_of(request, model, runtime))
    if samples:
        fit_shapes(interpreter, samples[0])
    guarded(interpreter.allocate_tensors)
    details = interpreter.get_input_details()
    sample = samples[0] if samples else random_inputs(details, request["seed"])
    set_inputs(interpreter, details, sample)
    lines.say("stage", stage="profile")
    shapes = {
        int(d["index"]): [int(size) for size in d["shape"]]
        for d in details + interpreter.get_output_details()
    }
    compiled = Compiled(runtime, model, request["threads"], asked["kernels"], shapes)
    compiled.write({d["index"]: a.tobytes() for d, a in zip(details, sample)})
    mine = with_siblings(usable_cores())
    before, begun = readings(), usage(mine)
    found = Turns(interpreter.invoke, compiled, lines)
    gc.collect()
    gc.disable()
    try:
        found.take(asked["runs"], asked["time_s"], asked["max_runs"])
    finally:
        gc.enable()
    during = {"usage": difference(begun, usage(mine))}
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "kernels": asked["kernels"],
        "same_outputs": same_outputs(interpreter, compiled),
        "peak_rss_bytes": peak_rss_bytes(),
        "conditions": {"before": before, "during": during, "after": readings()},
        **found.answer(),
    }


def interpreter_of(request: dict[str, Any], model: bytes, runtime: Any) -> Any:
    if request["profile"]["kernels"] == "xnnpack":
        return make_interpreter(request, model, runtime)
    module = runtime[2]
    kind = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return module.Interpreter(
        model_content=model,
        num_threads=request["threads"],
        experimental_op_resolver_type=kind,
    )


def same_outputs(interpreter: Any, compiled: Any) -> bool:
    """Whether both ways computed the same, bit by bit."""
    arrays = {
        d["index"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()
    }
    found = compiled.read({index: array.nbytes for index, array in arrays.items()})
    return all(found.get(index) == array.tobytes() for index, array in arrays.items())


class Turns:
    """Blocks of runs of the three ways, in turn: nanoseconds, of events microseconds."""

    def __init__(self, plain: Callable[[], None], compiled: Any, lines: Lines) -> None:
        self.ways = {"plain": plain, "off": compiled.run, "on": compiled.run}
        self.compiled, self.lines = compiled, lines
        self.times: dict[str, list[int]] = {name: [] for name in self.ways}
        self.traces: dict[Any, dict[str, Any]] = {}
        self.numbers = 0
        self.most = BLOCK_RUNS  # profiled runs of one block: the profiler's memory is bounded

    def take(self, runs: int, time_s: float, most: int) -> None:
        enough = time.monotonic() + WARM_S
        for run in (self.ways["plain"], self.ways["off"]):
            for count in range(5):  # the first ones allocate
                if not count or time.monotonic() < enough:
                    run()
        size, end, turn = self.block(), time.monotonic() + time_s, 0
        names = list(self.ways)
        while True:
            done = len(self.times["on"])
            if (done >= runs and time.monotonic() > end) or done >= most:
                return
            if self.numbers > MOST_NUMBERS or len(self.traces) > MOST_TRACES:
                return
            for name in names[turn % 3 :] + names[: turn % 3]:  # none is always behind the same
                self.one(name, min(size, most - done))
            turn += 1
            self.lines.beat("profile", done, max(runs, done))

    def block(self) -> int:
        began = time.perf_counter_ns()
        self.compiled.run()
        took = max(time.perf_counter_ns() - began, 1)
        return int(max(1, min(BLOCK_RUNS, BLOCK_S * 1e9 / took)))

    def one(self, name: str, size: int) -> None:
        """A block of one way; its first run, which finds other data in the caches, is not kept."""
        run, times, clock = self.ways[name], [], time.perf_counter_ns
        if name == "on":
            size = min(size, self.most)
            self.compiled.start()
        for _ in range(size + 1):
            began = clock()
            run()
            times.append(clock() - began)
        if name == "on" and not self.keep(self.compiled.stop(), size + 1):
            return
        self.times[name] += times[1:]

    def keep(self, events: list[Any], count: int) -> bool:
        """Takes the events of so many runs; False where the profiler had no room for them all, so
        that the next block must be smaller."""
        starts = [i for i, event in enumerate(events) if event[0] == BEGIN]
        if len(starts) != count:
            if self.most == 1:
                text = "{} runs gave {} beginnings".format(count, len(starts))
                raise AgentError("profiler", text)
            self.most = max(1, (count - 1) // 2)
            return False
        ends = starts[1:] + [len(events)]
        for first, last in list(zip(starts, ends))[1:]:
            run = [event for event in events[first:last] if event[1] < TELEMETRY]
            key = tuple((tag, kind, index, graph) for tag, kind, _, _, index, graph in run)
            trace = self.traces.get(key)
            if trace is None:
                begin = [event[2] - run[0][2] if event[2] else None for event in run]
                trace = self.traces[key] = {"start_us": begin, "elapsed_us": []}
            trace["elapsed_us"].append([event[3] for event in run])
            self.numbers += len(run)
        return True

    def answer(self) -> dict[str, Any]:
        traces = [
            {
                "events": [list(event) for event in key],
                "start_us": trace["start_us"],
                "elapsed_us": [list(column) for column in zip(*trace["elapsed_us"])],
            }
            for key, trace in self.traces.items()
        ]
        times = {name + "_ns": times for name, times in self.times.items()}
        return {"traces": traces, **times}
