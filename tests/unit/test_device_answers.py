"""What a board says is checked before it is believed: answers, readings, texts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edgeopt.device.conditions import changed_conditions
from edgeopt.device.edgetpu.errors import why_closed
from edgeopt.device.edgetpu.state import parse_state
from edgeopt.device.facts import parse_facts
from edgeopt.device.python_runner.answer import Asked, Listener, checked, plain
from edgeopt.errors import DeviceError


def good_answer(**changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "runtime": "tflite_runtime",
        "runtime_version": "2.14.0",
        "accelerator": "cpu",
        "model_sha256": "a" * 64,
        "init_ns": 5,
        "counts": {"first": 1, "warmup": 1, "samples": 2},
        "first_ns": 5,
        "warmup_ns": [5],
        "samples_ns": [5, 6],
        "peak_rss_bytes": 1000,
        "conditions": {"before": {}, "after": {}},
        "facts": {},
        "outputs": {
            "layout": [[{"dtype": "int8", "shape": [1, 4]}]],
            "sha256": "b" * 64,
            "size_bytes": 4,
        },
    }
    return {**answer, **changes}


def outputs_of(dtype: str, shape: list[int], size_bytes: int) -> dict[str, Any]:
    layout = [[{"dtype": dtype, "shape": shape}]]
    return {"layout": layout, "sha256": "b", "size_bytes": size_bytes}


ASKED = Asked(
    device="board",
    model_sha256="a" * 64,
    accelerator="cpu",
    runs=2,
    time_s=0.0,
    max_runs=2,
    warmup=1,
    samples=1,
)
TIMED = replace(ASKED, time_s=1.0, max_runs=5, warmup=None)


def check(answer: dict[str, Any]) -> Any:
    return checked(answer, ASKED, elapsed_ns=10**9)


def streamed(*blocks: Any, asked: Asked, counts: dict[str, int]) -> Any:
    """The answer of an agent that sent these blocks of times, each a phase and a list."""
    listener = Listener(most=asked.most)
    lines = [{"event": "times", "phase": phase, "ns": times} for phase, times in blocks]
    result = {"event": "result", **good_answer(counts=counts)}
    for line in [*lines, result]:
        listener.feed(json.dumps(line).encode() + b"\n")
    return checked(listener.answer(), asked, elapsed_ns=10**10)


def test_a_good_answer_passes() -> None:
    assert check(good_answer()).samples_ns == (5, 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "c" * 64},
        {"accelerator": "edgetpu"},
        {"samples_ns": [5]},
        {"samples_ns": [5, 6, 7]},
        {"samples_ns": [5, -1]},
        {"samples_ns": [5, 0]},
        {"samples_ns": [5, True]},
        {"samples_ns": [5, 1.5]},
        {"samples_ns": [5, 10**18]},
        {"samples_ns": [5, 3 * 10**9]},  # longer than the host waited
        {"samples_ns": "55"},
        {"first_ns": None},
        {"init_ns": "5"},
        {"counts": {"first": 1, "warmup": 1, "samples": 3}},
        {"counts": None},
        {"base_rss_bytes": 1.5},
        {"runtime": None},
        {"runtime": ["x"]},
        {"peak_rss_bytes": -1},
        {"conditions": []},
        {"outputs": None},
        {"outputs": {"layout": [], "sha256": "b", "size_bytes": 0}},
        {"outputs": {"layout": [[{"dtype": "O", "shape": [1]}]], "sha256": "b", "size_bytes": 8}},
        {
            "outputs": {
                "layout": [[{"dtype": "int8", "shape": [-4]}]],
                "sha256": "",
                "size_bytes": 4,
            }
        },
        {
            "outputs": {
                "layout": [[{"dtype": "int8", "shape": [4]}]],
                "sha256": "b",
                "size_bytes": 5,
            }
        },
    ],
)
def test_an_implausible_answer_is_refused_whole(changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="cannot be used"):
        check(good_answer(**changes))


def test_times_that_come_in_blocks_are_put_together() -> None:
    blocks = [("first", [9]), ("warmup", [7]), ("samples", [5]), ("samples", [6])]
    found = streamed(*blocks, asked=ASKED, counts={"first": 1, "warmup": 1, "samples": 2})
    assert (found.first_ns, found.warmup_ns, found.samples_ns) == (9, (7,), (5, 6))


@pytest.mark.parametrize(
    ("samples", "accepted"),
    [
        ([6 * 10**8] * 2, True),
        ([4 * 10**8] * 3, True),
        ([1] * 5, True),  # the most that were allowed, however short
        ([4 * 10**8] * 2, False),  # neither
        ([10**9], False),
        ([4 * 10**8] * 6, False),
        ([10**9, "5"], False),
        ([10**9, 0], False),
    ],
)
def test_runs_by_time_end_at_the_time_or_at_the_most_allowed(
    samples: list[Any], accepted: bool
) -> None:
    counts = {"first": 1, "warmup": 3, "samples": len(samples)}
    blocks = [("first", [9]), ("warmup", [7, 7, 7]), ("samples", samples)]
    if accepted:
        assert streamed(*blocks, asked=TIMED, counts=counts).samples_ns == tuple(samples)
        return
    with pytest.raises(DeviceError, match="cannot be used"):
        streamed(*blocks, asked=TIMED, counts=counts)


def test_runs_that_nobody_asked_for_are_no_runs() -> None:
    for phase in ("warmup", "samples", "others", ["samples"]):
        with pytest.raises(DeviceError, match="cannot be used"):
            streamed((phase, [5] * 3), asked=ASKED, counts={"first": 1, "warmup": 1, "samples": 2})


def test_text_from_a_device_cannot_steer_the_terminal() -> None:
    answer = check(good_answer(runtime_version="\x1b[2J2.0", facts={"cpu": "a\x1b]0;x\x07b"}))
    assert "\x1b" not in json.dumps([answer.runtime_version, answer.facts], ensure_ascii=False)


@pytest.mark.parametrize("chunk", [b"y\n" * 30_000, b"x" * 60_000, b"[" * 60_000 + b"\n"])
def test_a_flood_instead_of_an_answer_is_ended_soon(chunk: bytes) -> None:
    listener = Listener()
    with pytest.raises(DeviceError, match="prints without end"):
        for _ in range(1000):  # 60 MB
            listener.feed(chunk)


def test_numbers_that_no_board_sends_do_not_reach_the_report() -> None:
    message = json.loads('{"load": 1e999, "bits": ' + "9" * 400 + ', "fine": [1, 2.5, true]}')
    assert plain(message, 6) == {"load": None, "bits": None, "fine": [1, 2.5, True]}


def test_garbage_between_the_lines_is_passed_over() -> None:
    listener = Listener()
    lines = [b"INFO: created delegate", b"[1,", b"[" * 100_000, b"\xff\xfe", b'{"event": 5}']
    for chunk in (
        b"\n".join([*lines, b'{"event": "res']),
        b'ult", "x": 1}\n{"event": "bad", "x": NaN}\n',
    ):
        listener.feed(chunk)
    assert listener.lines == {"result": {"event": "result", "x": 1}}


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"throttled_bits": 0}, {"throttled_bits": 0x40004}, "throttled"),
        ({"throttled_bits": 0}, {"throttled_bits": 0x10000}, "under-voltage"),
        ({"governor": ["powersave"]}, {"governor": ["performance"]}, "governor"),
        ({"limit_frequency_khz": [9]}, {"limit_frequency_khz": [5]}, "frequency limit"),
        ({"throttle_count": [1]}, {"throttle_count": [2]}, "throttled"),
        ({"cooling": {"d0 cpufreq-cpu0": 0}}, {"cooling": {"d0 cpufreq-cpu0": 2}}, "slowed"),
        (
            {"governor": ["performance"] * 2, "frequency_khz": [1_800_000, None]},
            {"governor": ["performance"] * 2, "frequency_khz": [600_000, 1_000_000]},
            "clock fell from 1800000 to 1000000 kHz",
        ),
        ({}, {"apex_temperature_millic": 86000, "apex_trip_millic": 85000}, "Edge TPU"),
    ],
)
def test_a_board_that_slowed_down_invalidates_the_run(
    before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    assert any(reason in text for text in changed_conditions(before, after))


def test_a_board_that_stayed_as_it_was_or_says_nothing_does_not() -> None:
    old = {"throttled_bits": 0x50000, "governor": ["a"], "cooling": {"d0 pwm-fan": 0}}
    assert changed_conditions(old, {**old, "cooling": {"d0 pwm-fan": 3}}) == ()
    assert changed_conditions({}, {"throttled_bits": None}) == ()
    follows = {"governor": ["ondemand"], "frequency_khz": [1_800_000]}
    assert changed_conditions(follows, {**follows, "frequency_khz": [600_000]}) == ()


def test_readings_of_a_wrong_kind_give_no_reason_and_no_bug() -> None:
    old = {"cooling": {"cpu": "x"}, "governor": 5, "frequency_khz": {"a": 1}, "throttled_bits": "a"}
    new = {"cooling": {"cpu": 3}, "governor": [5], "frequency_khz": [1], "throttled_bits": 1}
    assert changed_conditions(old, new) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no Edge TPU is to be seen"),
        ("pci.0000:01:00_0.driver=\n", "driver is not loaded"),
        ("apex.0.node=/dev/apex_0\napex.0.access=no\n", "may not open /dev/apex_0"),
        ("usb.2-1.node=/dev/bus/usb/002/003\nusb.2-1.access=yes\n", "another program"),
    ],
)
def test_an_edge_tpu_that_does_not_open_is_explained(text: str, said: str) -> None:
    assert said in why_closed(parse_state(text)).what


def test_a_big_little_board_is_described_by_its_cores() -> None:
    part = "cpuinfo=CPU part\t: 0xd0b\n"
    facts = parse_facts("arch=aarch64\nmemory_kb=1000\n" + part * 4 + "model=Raspberry Pi 5\n")
    assert (facts["cpu"], facts["model"]) == ("4 x Cortex-A76", "Raspberry Pi 5")
    assert facts["memory_bytes"] == 1_024_000 and facts["hostname"] is None
