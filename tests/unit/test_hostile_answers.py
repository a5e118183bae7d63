"""A board that answers anything at all gets an error or a report, never a crash of edgeopt."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from edgeopt.device import Device, DeviceSpec, connect
from edgeopt.device.conditions import compact, judge, remarks
from edgeopt.device.load.answer import checked_load
from edgeopt.device.load.figures import load_figures
from edgeopt.device.profiling.answer import checked_profile
from edgeopt.device.python_runner.answer import Asked, Listener, checked
from edgeopt.device.python_runner.errors import explained
from edgeopt.device.told import told
from edgeopt.errors import DeviceError, EdgeoptError
from edgeopt.load import Load
from edgeopt.measurement import ProcessRun, measure
from edgeopt.report.conditions import conditions_text

SHA = "0" * 64
EVIL: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1e308, 0.5, "", "x", "\x1b[2J", "1" * 5000, "../../x", "-1",
    [], {}, [None], [[]], {"": None}, [1, "a", {}], {"a": {"b": []}}, [0] * 50,
)  # fmt: skip
READING: dict[str, Any] = {
    "time": 1.7e9,
    "monotonic": 5.0,
    "governor": ["ondemand", "ondemand"],
    "frequency_khz": [1_500_000, 1_500_000],
    "limit_frequency_khz": [1_500_000, 1_500_000],
    "throttle_count": [0, 0],
    "temperature_c": {"thermal_zone0 cpu-thermal": 48.2},
    "cooling": {"cooling_device0 cpufreq-cpu0": 0},
    "passive_trip_c": {"thermal_zone0 cpu-thermal": 80.0},
    "throttled_bits": 0,
    "undervoltage": 0,
    "apex_temperature_millic": 41000,
    "apex_trip_millic": 85000,
    "thermal_status": 0,
    "battery": {"level_percent": 80, "powered": True},
    "power_supply": {"BAT0": {"type": "Battery", "status": "Full", "capacity": "99"}},
    "load_1min": 0.1,
}
USAGE = {"wall_s": 1.0, "own_cpu_s": 0.9, "waited_s": 0.01, "others_cpu_s": 0.1, "steal_s": 0.0}
DURING = {"cores": [0, 1], "readings": [READING] * 4, "usage": USAGE}
CONDITIONS = {"before": READING, "during": DURING, "after": READING, "call_overhead_ns": 900}
SAID = {"event": "result", "model_sha256": SHA, "runtime": "ai_edge_litert", "runtime_version": "2"}
RUN = [
    {"event": "hello", "schema": "edgeopt.agent/1"},
    {"event": "stage", "stage": "load", "runtime": "ai_edge_litert"},
    {"event": "times", "phase": "first", "ns": [900]},
    {"event": "times", "phase": "warmup", "ns": [800, 700]},
    {"event": "progress", "phase": "samples", "done": 1, "total": 4},
    {"event": "times", "phase": "samples", "ns": [700, 710, 690, 700]},
    {
        **SAID,
        "accelerator": "cpu",
        "init_ns": 5000,
        "counts": {"first": 1, "warmup": 2, "samples": 4},
        "base_rss_bytes": 1 << 20,
        "peak_rss_bytes": 1 << 21,
        "conditions": CONDITIONS,
        "facts": {"python": "3.11.2", "usable_cores": 2},
        "outputs": None,
    },
]
TIMES = {"start_ns": [0, 100], "latency_ns": [90, 80]}
LOAD = {
    **SAID,
    "phases": [
        {"name": name, "rate": 0, "offered": None, "wall_ns": 1000, "cpu_ns": 900, "cores": 2,
         "usage": USAGE, "threads": [TIMES] * users}
        for name, users in (("alone", 1), ("load", 2), ("alone", 1))
    ],
    "memory": {"base": 1 << 20, "after": [1 << 21, 1 << 22], "peak_rss_bytes": 1 << 22},
    "conditions": CONDITIONS,
    "facts": {},
}  # fmt: skip
PROFILE = {
    **SAID,
    "kernels": "xnnpack",
    "same_outputs": True,
    "plain_ns": [900, 910],
    "off_ns": [900, 910],
    "on_ns": [950, 960],
    "traces": [
        {"events": [["LiteRT::Run[buffer registration]", 1, 0, 0], ["CONV_2D", 2, 0, 0]],
         "start_us": [0, 1], "elapsed_us": [[1, 1], [800, 801]]}
    ],
    "conditions": CONDITIONS,
    "facts": {},
}  # fmt: skip
ERROR = {
    "event": "error",
    "code": "failed",
    "text": "it broke",
    "facts": {"tried": {"tflite_runtime": "ImportError"}, "python": "3.8.1", "proven": ["2.3.0"]},
}
CODES = ("no_runtime", "no_profiler", "profiler", "batch", "cores", "load", "inputs", "model_hash")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = str(tmp_path_factory.mktemp("w"))
    with connect(DeviceSpec(name="local", kind="local", workdir=folder)) as device:
        yield device


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document, as far as lists are short."""
    keys = value if isinstance(value, dict) else range(min(len(value), 4))
    for key in keys:
        yield (*here, key)
        if isinstance(value[key], (dict, list)):
            yield from places(value[key], (*here, key))


def spoiled(document: Any, source: random.Random) -> Any:
    """A copy in which one to three values are another's, renamed or away."""
    found = copy.deepcopy(document)
    for _ in range(source.randint(1, 3)):
        *way, last = source.choice([*places(found)])
        parent = found
        for key in way:
            parent = parent[key]
        how = source.random()
        if how < 0.1:
            del parent[last]
        elif how < 0.2 and isinstance(parent, dict):
            parent[str(source.choice(EVIL))[:300]] = parent.pop(last)
        else:
            parent[last] = copy.deepcopy(source.choice(EVIL))
    return found


def listened(messages: list[Any], most: dict[str, int]) -> Listener:
    listener = Listener(most=most)
    for message in messages:
        listener.feed(json.dumps(message).encode() + b"\n")
    return listener


def read_run(messages: list[Any]) -> str:
    """As a run's answer is read, judged, measured and shown."""
    asked = Asked(
        device="board", model_sha256=SHA, accelerator="cpu", runs=4, time_s=0, max_runs=4,
        warmup=2, samples=0,
    )  # fmt: skip
    listener = listened(messages, asked.most)
    if "result" not in listener.lines:
        raise DeviceError("no result", "")
    answer = checked(listener.answer(), asked, elapsed_ns=10**9)
    process = ProcessRun(
        warmup_ns=answer.warmup_ns,
        samples_ns=answer.samples_ns,
        first_ns=answer.first_ns,
        init_ns=answer.init_ns,
        peak_rss_bytes=answer.peak_rss_bytes,
        conditions=compact(answer.conditions),
        invalid_reasons=judge(answer.conditions),
    )
    measured = measure(processes=[process], judged=False)
    json.dumps([measured.to_json(), dict(answer.facts)], allow_nan=False)
    return conditions_text(measured) + " ".join(remarks(answer.conditions))


def test_any_answer_to_a_run_is_read_or_refused() -> None:
    assert "1.5 GHz" in read_run(RUN)
    source, outcomes = random.Random(1), Counter[str]()
    for _ in range(300):
        messages = [*RUN[:-1], spoiled(RUN[-1], source)]
        if source.random() < 0.3:
            messages = spoiled(RUN, source)
        try:
            read_run(messages)
            outcomes["read"] += 1
        except EdgeoptError as error:
            assert error.exit_code == 5
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 30


def test_any_answer_to_a_load_or_a_profile_is_read_or_refused() -> None:
    source, load, read = random.Random(2), Load(concurrency=2), 0
    load_figures(checked_load(LOAD, device="board", load=load), load)
    checked_profile(PROFILE, device="board", kernels="xnnpack")
    for _ in range(200):
        try:
            raw = checked_load(spoiled(LOAD, source), device="board", load=load)
            json.dumps(load_figures(raw, load), allow_nan=False)
            checked_profile(spoiled(PROFILE, source), device="board", kernels="xnnpack")
            read += 1
        except DeviceError as error:
            assert "cannot be used" in error.message
    assert read > 5


def test_any_error_that_a_board_reports_is_explained(device: Device) -> None:
    source = random.Random(3)
    for number in range(150):
        message = spoiled({**ERROR, "code": CODES[number % len(CODES)]}, source)
        found = explained(message, device, "python3")
        assert found.exit_code in (2, 3, 5)
        assert found.message.replace("\n", " ").isprintable()


@pytest.mark.parametrize("value", [None, False, 0, 1.5, "1", [], 10**17])
def test_a_time_that_is_none_spoils_the_answer(value: Any) -> None:
    messages = copy.deepcopy(RUN)
    messages[5]["ns"][2] = value
    with pytest.raises(DeviceError, match="samples_ns is made of"):
        read_run(messages)


def test_more_times_than_asked_for_spoil_the_answer() -> None:
    with pytest.raises(DeviceError, match="more runs than asked for"):
        read_run([*RUN[:6], RUN[5], RUN[6]])


def test_what_has_not_its_keys_kind_of_value_is_left_out() -> None:
    found = told(
        {
            "before": {"governor": 5, "temperature_c": [1], "frequency_khz": [{}, 7],
                       "load_1min": {}},
            "during": {"readings": 3, "usage": [9]},
            "after": "cold",
        }
    )  # fmt: skip
    before = {"governor": [], "temperature_c": None, "frequency_khz": [None, 7], "load_1min": None}
    assert found == {"before": before, "during": {"readings": [], "usage": {}}, "after": {}}
    assert told([1]) == {}
