"""Several models in one process, in turns of milliseconds: what slows one slows the next as well.

A turn's first run, which finds the data of others in the caches, is made and not timed. Where the
runs of all models are long that is next to nothing of them, and a turn is one timed run.
"""

from __future__ import annotations

import gc
import hashlib
import random
import time
from typing import Any

from .lines import AgentError, Lines
from .readings import peak_rss_bytes, readings
from .runtimes import CUSTOM_OP, check_accelerator, guarded, load_runtime, make_interpreter
from .samples import fit_shapes, given_inputs, random_inputs, set_inputs
from .settle import Settle
from .watch import Watch

TURN_S, TURN_RUNS = 0.005, 4
LONG_S = 0.02
LEAST_CYCLES, MOST_CYCLES = 7, 2000
WARM_S = 2.0  # of each model, at most


def turns(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """`turns` of the request: others (each with model, model_sha256 and inputs), loaded (the places
    of the models in the order in which they are to be loaded: whoever comes first has the better
    place in memory, or the worse), time_s (for each model), seed (of the order in each cycle)."""
    asked = request["turns"]
    runtime = load_runtime(request["runtimes"])
    lines.say("stage", stage="load", runtime=runtime[0], runtime_version=runtime[1])
    contents = [(model, request["inputs"])]
    contents += [(read_model(other), other["inputs"]) for other in asked["others"]]
    source, before, order = random.Random(asked["seed"]), readings(), asked["loaded"]
    loaded = {place: Player(request, runtime, *contents[place]) for place in order}
    players = [loaded[place] for place in sorted(loaded)]
    watch = Watch()
    gc.collect()
    gc.disable()
    watch.begin()
    try:
        lines.say("stage", stage="warmup")
        for place in order:
            players[place].warm()
        long = min(player.typical_ns for player in players) >= LONG_S * 1e9
        for player in players:
            player.long = long  # all alike: a first run that counts for one must count for all
        lines.say("stage", stage="samples")
        medians = cycles(players, asked["time_s"], source, lines, watch)
    finally:
        gc.enable()
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "medians_ns": medians,
        "runs": [player.count for player in players],
        "peak_rss_bytes": peak_rss_bytes(),
        "conditions": {"before": before, "during": watch.end(), "after": readings()},
    }


def read_model(other: dict[str, Any]) -> bytes:
    with open(other["model"], "rb") as stream:
        content = stream.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != other["model_sha256"]:
        raise AgentError("model_hash", digest)
    return content


def cycles(
    players: list[Player], time_s: float, source: random.Random, lines: Lines, watch: Watch
) -> list[list[int]]:
    """The median of each model's turn, cycle by cycle, in nanoseconds."""
    found: list[list[int]] = []
    order = list(range(len(players)))
    end = time.monotonic() + time_s * len(players)
    while len(found) < MOST_CYCLES:
        if len(found) >= LEAST_CYCLES and time.monotonic() >= end:
            break
        source.shuffle(order)
        row = [0] * len(players)
        for place in order:
            row[place] = players[place].turn()
        found.append(row)
        watch.between()
        lines.beat("turns", len(found), max(LEAST_CYCLES, len(found)))
    return found


class Player:
    """One model: `warm()`, then `turn()` whenever it is its turn."""

    def __init__(self, request: dict[str, Any], runtime: Any, model: bytes, inputs: Any) -> None:
        check_accelerator(request["accelerator"], CUSTOM_OP in model)
        samples = given_inputs(inputs) if inputs else []
        self.interpreter = guarded(lambda: make_interpreter(request, model, runtime))
        if samples:
            fit_shapes(self.interpreter, samples[0])
        guarded(self.interpreter.allocate_tensors)
        self.details = self.interpreter.get_input_details()
        self.cycle = samples or [random_inputs(self.details, request["seed"])]
        self.runs = self.count = 0  # made, and timed
        self.typical_ns, self.long = 0, False

    def run(self) -> int:
        set_inputs(self.interpreter, self.details, self.cycle[self.runs % len(self.cycle)])
        self.runs += 1
        began = time.perf_counter_ns()
        self.interpreter.invoke()
        return time.perf_counter_ns() - began

    def warm(self) -> None:
        rule, times = Settle(ceiling_s=WARM_S), [self.run()]
        while not rule.add(times[-1]):
            times.append(self.run())
        self.typical_ns = sorted(times)[len(times) // 2]

    def turn(self) -> int:
        times: list[int] = []
        spent = 0
        if not self.long:
            self.run()
        while not times or not (self.long or (len(times) >= TURN_RUNS and spent >= TURN_S * 1e9)):
            times.append(self.run())
            spent += times[-1]
        self.count += len(times)
        times.sort()
        return (times[(len(times) - 1) // 2] + times[len(times) // 2]) // 2
