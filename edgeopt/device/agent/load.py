"""Requests from several threads at once, each with an interpreter of its own.

`invoke` lets go of Python's lock, so the threads compute at the same time. A closed loop asks again
as soon as it is answered; an open one asks at times that were drawn before, as visitors do, and
its latencies count from those times, whoever was late (MLPerf's Server scenario).
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
import time
from array import array
from typing import Any, Callable

from .lines import AgentError, Lines
from .readings import peak_rss_bytes, read, readings
from .runtimes import CUSTOM_OP, check_accelerator, guarded, load_runtime, make_interpreter
from .samples import given_inputs, random_inputs, set_inputs
from .watch import difference, usable_cores, usage, with_siblings

WARM_RUNS = 5
MOST_REQUESTS = 400_000  # in one phase: two numbers each on one line


def load(request: dict[str, Any], model: bytes, lines: Lines) -> dict[str, Any]:
    """`load` of the request: concurrency, batch (or None), time_s of each phase, rate (requests a
    second, 0: closed loop). A closed loop of one thread comes first and last."""
    check_accelerator(request["accelerator"], CUSTOM_OP in model)
    runtime = load_runtime(request["runtimes"])
    lines.say("stage", stage="load", runtime=runtime[0])
    asked, samples = request["load"], []
    if request.get("inputs"):
        samples = given_inputs(request["inputs"])
    before, base, users, memory = readings(), resident(), [], []
    for number in range(asked["concurrency"]):
        users.append(User(request, model, runtime, samples, number))
        memory.append(resident())
    phases, half, lone = [], asked["time_s"] / 2, users[:1]
    plan: list[Any] = [("alone", lone, 0, half), ("load", users, asked["rate"], asked["time_s"])]
    if asked["concurrency"] == 1 and not asked["rate"]:
        plan = [("load", users, 0, asked["time_s"])]
    else:
        plan.append(("alone", lone, 0, half))
    for name, some, rate, seconds in plan:
        lines.say("stage", stage=name)
        phases.append(phase(name, some, rate, seconds, request["seed"], lines))
    return {
        "runtime": runtime[0],
        "runtime_version": runtime[1],
        "samples_per_request": users[0].samples,
        "phases": phases,
        "memory": {"base": base, "after": memory, "peak_rss_bytes": peak_rss_bytes()},
        "conditions": {"before": before, "after": readings()},
    }


def resident() -> Any:
    """Bytes of memory in use now; None where the system does not say."""
    for row in (read("/proc/self/status") or "").splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) * 1024
    return None


class User:
    """One interpreter with its inputs, and the times of what it was asked."""

    def __init__(
        self, request: dict[str, Any], model: bytes, runtime: Any, samples: list[Any], number: int
    ) -> None:
        self.interpreter = guarded(lambda: make_interpreter(request, model, runtime))
        batch = request["load"]["batch"]
        if batch is not None:
            resize(self.interpreter, batch)
        guarded(self.interpreter.allocate_tensors)
        details = self.interpreter.get_input_details()
        self.samples = int(details[0]["shape"][0]) if len(details[0]["shape"]) else 1
        cycle = fitted(samples, details) or [random_inputs(details, request["seed"] + number)]
        self.starts, self.ends = array("q"), array("q")
        self.inputs = [(details, sample) for sample in cycle]
        for _ in range(WARM_RUNS):
            self.ask(0)
        self.clear()

    def clear(self) -> None:
        self.starts, self.ends = array("q"), array("q")

    def ask(self, number: int, since: int = 0) -> int:
        """One request; its latency counts from `since` where that is given."""
        details, sample = self.inputs[number % len(self.inputs)]
        set_inputs(self.interpreter, details, sample)
        began = time.perf_counter_ns()
        self.interpreter.invoke()
        end = time.perf_counter_ns()
        self.starts.append(since or began)
        self.ends.append(end)
        return end


def resize(interpreter: Any, batch: int) -> None:
    """The first dimension of every input to `batch`, where the model leaves it open."""
    for detail in interpreter.get_input_details():
        shape = list(detail["shape"])
        signature = list(detail.get("shape_signature", shape))
        if not shape or signature[0] not in (-1, batch):
            text = "input {} has the fixed shape {}".format(detail["name"], [int(d) for d in shape])
            raise AgentError("batch", text)
        interpreter.resize_tensor_input(detail["index"], [batch] + [int(d) for d in shape[1:]])


def fitted(samples: list[Any], details: list[Any]) -> list[Any]:
    """The given samples in the shape of the inputs: repeated along the batch."""
    import numpy

    found = []
    for sample in samples:
        row = []
        for detail, array_ in zip(details, sample):
            wanted = [int(d) for d in detail["shape"]]
            if list(array_.shape) != wanted:
                repeats = wanted[0] // max(1, array_.shape[0])
                array_ = numpy.concatenate([array_] * max(1, repeats))[: wanted[0]]
            row.append(array_)
        found.append(row)
    return found


def phase(
    name: str, users: list[Any], rate: float, seconds: float, seed: int, lines: Lines
) -> dict[str, Any]:
    """All users at once for so long. Times are nanoseconds since the phase began."""
    for user in users:
        user.clear()
    clock = [0]
    plan = arrivals(rate, seconds, seed) if rate else None
    work = opened(plan, clock) if plan is not None else closed(seconds, clock, len(users))

    def beat() -> None:
        passed = (time.perf_counter_ns() - clock[0]) / 1e9
        lines.beat(name, int(passed), int(seconds) + 1)

    gc.collect()
    gc.disable()
    try:
        wall, used = together(users, work, clock, beat)
    finally:
        gc.enable()
    return {
        "name": name,
        "rate": rate,
        "offered": len(plan) if plan is not None else None,
        "wall_ns": wall,
        "cpu_ns": int(used["own_cpu_s"] * 1e9),
        "cores": len(usable_cores() or ()) or os.cpu_count(),
        "usage": used,
        "threads": [times(user, clock[0]) for user in users],
    }


def together(
    users: list[Any], work: Callable[[Any], None], clock: list[int], beat: Callable[[], None]
) -> Any:
    """Run `work` for each user in its own thread, from one moment on, which is put into `clock`.

    The nanoseconds that it took, and what was used meanwhile (watch.usage).
    """
    gate, leave = threading.Barrier(len(users) + 1), threading.Event()
    ended, mine = threading.Semaphore(0), with_siblings(usable_cores())
    failures: list[str] = []

    def body(user: Any) -> None:
        try:
            gate.wait()
            gate.wait()  # the clock is read in between
            work(user)
        except Exception as error:  # told by the main thread, which names the stage
            failures.append(type(error).__name__ + ": " + str(error))
        ended.release()
        leave.wait()  # a thread that ends takes the kernel's counters of it along

    threads = [threading.Thread(target=body, args=(user,), daemon=True) for user in users]
    try:
        for thread in threads:
            thread.start()
        gate.wait()
        before, clock[0] = usage(mine), time.perf_counter_ns()
        gate.wait()
        for _ in threads:
            while not ended.acquire(timeout=1.0):
                beat()
        wall, after = time.perf_counter_ns() - clock[0], usage(mine)
    finally:
        leave.set()
    if failures:
        raise AgentError("invoke", failures[0])
    return wall, difference(before, after)


def times(user: Any, since: int) -> dict[str, list[int]]:
    return {
        "start_ns": [start - since for start in user.starts],
        "latency_ns": [end - start for start, end in zip(user.starts, user.ends)],
    }


def closed(seconds: float, clock: list[int], users: int) -> Callable[[Any], None]:
    most = MOST_REQUESTS // users

    def work(user: Any) -> None:
        end, number, ask = clock[0] + int(seconds * 1e9), 0, user.ask
        while ask(number) < end and number < most:
            number += 1

    return work


def arrivals(rate: float, seconds: float, seed: int) -> list[int]:
    """Nanoseconds of a Poisson process: the time between two requests is exponential."""
    source, now = random.Random(seed), 0.0
    found: list[int] = []
    while len(found) < MOST_REQUESTS:
        now += source.expovariate(rate)
        if now > seconds:
            break
        found.append(int(now * 1e9))
    return found


def opened(plan: list[int], clock: list[int]) -> Callable[[Any], None]:
    turns = itertools.count()  # each request goes to the first user who is free, in order

    def work(user: Any) -> None:
        for number in iter(lambda: next(turns), None):
            if number >= len(plan):
                return
            due = clock[0] + plan[number]
            left = (due - time.perf_counter_ns()) / 1e9
            if left > 0:
                time.sleep(left)  # late by some 0.1 ms, which counts; a busy wait would cost more
            user.ask(number, due)

    return work
