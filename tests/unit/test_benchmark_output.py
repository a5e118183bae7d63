"""benchmark_model's text becomes numbers only where it is whole and consistent."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.device.benchmark.output import parse_output
from edgeopt.device.benchmark.runner import flags
from edgeopt.device.run import RunRequest
from edgeopt.errors import DeviceError, InputError
from edgeopt.measurement import ProcessRun, measure

WARMUP = "count=2 first=169625 curr=102566 min=102566 max=169625 avg=136096 std=33529"
MEASURED = "count=10 first=121510 curr=84396 min=84396 max=136035 avg=105163 std=16056"
TIMINGS = (
    "Inference timings in us: Init: 944, First inference: 169625,"
    " Warmup (avg): 136096, Inference (avg): 105163"
)
PEAK = "Overall peak memory footprint (MB) via periodic monitoring: 17.5117"


def log(*lines: str, level: str = "INFO: ") -> str:
    return "\n".join(level + line for line in lines)


def test_a_real_log_gives_durations_in_nanoseconds(shared: Path) -> None:
    found = parse_output((shared / "device/benchmark_model/sample_output.txt").read_text())
    assert (found.init_ns, found.first_ns) == (944_000, 169_625_000)
    assert found.measured_ns == {
        "count": 10, "mean": 105163000.0, "min": 84396000.0, "max": 136035000.0,
        "stdev": 16056000.0, "first": 121510000.0, "last": 84396000.0,
    }  # fmt: skip
    assert found.peak_bytes == round(17.5117 * 2**20)


@pytest.mark.parametrize("level", ["", "INFO: "])
def test_levels_may_be_missing(level: str) -> None:
    assert parse_output(log(WARMUP, MEASURED, TIMINGS, level=level)).measured_ns["count"] == 10


def test_exponent_numbers_are_numbers() -> None:
    found = parse_output(
        log(
            "count=50 first=1.2e+06 curr=1.1e+06 min=1.05e+06 max=1.3e+06 avg=1.14e+06 std=3e+04",
            "Inference timings in us: Init: 9.44e+03, First inference: 1.69625e+06,"
            " Warmup (avg): 1.36096e+06, Inference (avg): 1.14e+06",
        )
    )
    assert found.init_ns == 9_440_000
    assert found.measured_ns["mean"] == 1.14e9


def test_the_measured_runs_are_not_the_warmup() -> None:
    found = parse_output(log(WARMUP, MEASURED, TIMINGS))
    assert (found.measured_ns["count"], found.warmup_mean_ns) == (10, 136_096_000)


def test_a_log_that_lost_the_measured_line_gives_the_mean_alone() -> None:
    assert parse_output(log(WARMUP, TIMINGS)).measured_ns == {"mean": 105163000.0}


def test_profile_tables_after_the_result_are_not_runs() -> None:
    found = parse_output(log(WARMUP, MEASURED, TIMINGS, "count=66 curr=347"))
    assert found.measured_ns["count"] == 10


def test_without_warmup_the_first_run_is_the_first_measured_one() -> None:
    end = TIMINGS.replace("169625", "0").replace("136096", "0")
    found = parse_output(log("count=0", MEASURED, end))
    assert (found.first_ns, found.warmup_mean_ns) == (121_510_000, None)


@pytest.mark.parametrize("line", ["count=1 curr=105163", "count=4 curr=105163(all same)"])
def test_equal_runs_are_printed_short_and_read_whole(line: str) -> None:
    found = parse_output(log(line, TIMINGS)).measured_ns
    assert (found["min"], found["max"], found["stdev"]) == (105163000.0, 105163000.0, 0.0)


def test_a_newer_programs_median_is_kept() -> None:
    found = parse_output(log(MEASURED + " p5=84400 median=104000 p95=130000", TIMINGS))
    stats = measure(processes=[ProcessRun(summary_ns=found.measured_ns)]).stats
    assert (stats.median_ns, stats.p90_ns, stats.ci95_ns) == (104000000.0, None, None)


@pytest.mark.parametrize("value", ["-1", "0", "nan", "1e99"])
def test_peak_memory_that_is_not_supported_is_none(value: str) -> None:
    peak = PEAK.replace("17.5117", value)
    assert parse_output(log(MEASURED, TIMINGS, peak)).peak_bytes is None


def test_memory_is_none_when_only_the_delta_was_printed() -> None:
    delta = "Memory footprint delta from the start of the tool (MB): init=4.66016 overall=10.5703"
    assert parse_output(log(MEASURED, TIMINGS, delta)).peak_bytes is None


def test_flags_it_did_not_know_are_named() -> None:
    warning = "WARN: Unconsumed cmdline flags: --use_gpu=true --num_threads=4"
    assert parse_output(log(MEASURED, TIMINGS) + "\n" + warning).unconsumed_flags == (
        "use_gpu",
        "num_threads",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage\x1b[2J\x00\n" * 1000,
        log(WARMUP, MEASURED),
        log(MEASURED, TIMINGS[:-20]),
        log(MEASURED, TIMINGS, TIMINGS),
        log(MEASURED, TIMINGS.replace("944", "9" * 400)),
        log(MEASURED, TIMINGS.replace("944", "-5")),
        log(MEASURED, TIMINGS.replace("(avg): 105163", "(avg): 0")),
        log(MEASURED, TIMINGS.replace("(avg): 105163", "(avg): 1e300")),
        "x" * 10_000_000,
    ],
    ids=str,
)
def test_what_is_not_a_whole_result_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="no usable result") as caught:
        parse_output(text)
    assert len(caught.value.message) < 800
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        MEASURED.replace("min=84396", "min=200000"),
        MEASURED.replace("std=16056", "std=-1"),
        MEASURED.replace("count=10", "count=0"),
        MEASURED.replace("first=121510", "first=0"),
    ],
)
def test_a_line_that_contradicts_itself_is_not_used(line: str) -> None:
    assert parse_output(log(line, TIMINGS)).measured_ns == {"mean": 105163000.0}


def request(**changes: object) -> RunRequest:
    values: dict[str, object] = {"model": Path("m.tflite"), "sha256": "0" * 64, **changes}
    return RunRequest(**values)  # type: ignore[arg-type]


def test_a_cpu_run_says_nothing_of_a_gpu() -> None:
    words = flags(request(runs=7, warmup=2, threads=3))
    assert {"--num_runs=7", "--warmup_runs=2", "--num_threads=3"} <= set(words)
    assert not any("gpu" in word for word in words)


@pytest.mark.parametrize(("precision", "allowed"), [("float16", "true"), ("float32", "false")])
def test_a_gpu_run_always_states_its_precision(precision: str, allowed: str) -> None:
    words = flags(request(accelerator="gpu", options={"precision": precision}))
    assert {"--use_gpu=true", f"--gpu_precision_loss_allowed={allowed}"} <= set(words)


def test_full_delegation_is_required_when_asked() -> None:
    options = {"require_full_delegation": "true", "gpu_backend": "gl"}
    words = flags(request(accelerator="gpu", options=options))
    assert {"--require_full_delegation=true", "--gpu_backend=gl"} <= set(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"accelerator": "edgetpu"},
        {"runs": 0},
        {"threads": 0},
        {"accelerator": "gpu", "options": {"precision": "int4"}},
        {"accelerator": "gpu", "options": {"gpu_backend": "cl --use_nnapi=true"}},
    ],
)
def test_what_the_program_cannot_do_is_an_input_error(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        flags(request(**changes))
