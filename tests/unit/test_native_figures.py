"""Start-up apart from inference: the runtime's own memory, and what a call costs by itself."""

from __future__ import annotations

from typing import Any

from edgeopt.measurement import Measurement, ProcessRun, measure


def process(median_ns: int, **more: Any) -> ProcessRun:
    return ProcessRun(samples_ns=(median_ns,) * 20, warmup_ns=(median_ns,) * 5, **more)


def with_call(median_ns: int, call_ns: object) -> Measurement:
    return measure(processes=[process(median_ns, conditions={"call_overhead_ns": call_ns})] * 3)


def of_calls(measured: Measurement) -> list[str]:
    return [note for note in measured.notes if "call alone" in note]


def test_a_short_inference_says_what_the_call_takes() -> None:
    assert of_calls(with_call(40_000, 500)) == [
        "The call alone takes 0.5 us of this (1.2%): an empty model, timed in the same processes."
    ]


def test_a_long_one_does_not_and_an_unknown_call_is_not_guessed() -> None:
    assert of_calls(with_call(100_000, 500)) == []
    assert of_calls(with_call(40_000, None)) == []
    assert of_calls(with_call(40_000, "fast")) == []
    assert of_calls(measure(processes=[process(40_000)])) == []


def test_the_runtimes_memory_is_that_of_the_process_that_peaked() -> None:
    rows = [
        process(40_000, peak_rss_bytes=50 << 20, base_rss_bytes=40 << 20),
        process(40_000, peak_rss_bytes=60 << 20, base_rss_bytes=41 << 20),
        process(40_000, peak_rss_bytes=55 << 20, base_rss_bytes=44 << 20),
    ]
    measured = measure(processes=rows)
    assert (measured.peak_rss_bytes, measured.base_rss_bytes) == (60 << 20, 41 << 20)
    again = Measurement.from_json(measured.to_json())
    assert again.base_rss_bytes == 41 << 20
    assert measure(processes=[process(40_000)]).base_rss_bytes is None
