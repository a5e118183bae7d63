"""Of several devices each says what is its own, and what its figures cannot bear."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from measuring import SUMMARY, process
from rich.console import Console

from edgeopt.device.selection import select
from edgeopt.errors import DeviceError, InputError
from edgeopt.job import Job
from edgeopt.measurement import Measurement, ProcessRun, measure
from edgeopt.model import read
from edgeopt.pipeline.several import deploy_all
from edgeopt.progress import SilentSeveral
from edgeopt.report import Report
from edgeopt.report.fleet import DeviceRow, FleetReport
from edgeopt.report.fleet_view import fleet_markdown, fleet_summary
from edgeopt.store import Store
from edgeopt.target import load_target

DEMO = Path(__file__).parents[2] / "edgeopt/demo/fashion.tflite"
SHARED_ITS_CORES = "it shared its cores: its threads waited 85% of their time"


def measured(*reasons: str, judged: bool = False) -> Measurement:
    runs = [process(seed=n, invalid_reasons=reasons) for n in range(2)]
    return measure(processes=runs, asked=2, judged=judged)


def row(name: str, **found: object) -> DeviceRow:
    report = Report(model=read(DEMO), target=load_target("cpu"), **found)  # type: ignore[arg-type]
    return DeviceRow(name=name, url="ssh://x", kind="ssh", reached=report)


def shown(*rows: DeviceRow) -> str:
    file = io.StringIO()
    Console(file=file, width=118, highlight=False).print(fleet_summary(FleetReport(rows=rows)))
    return file.getvalue()


def row_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip("| ").startswith(f"{name} "))


def test_times_that_nobody_judged_say_so_in_the_table_and_in_a_note() -> None:
    rows = (row("a", measurement=measured()), row("b", measurement=measured(SHARED_ITS_CORES)))
    for text in (shown(*rows), fleet_markdown(FleetReport(rows=rows), title="t")):
        assert "not judged" in row_of(text, "b") and "not judged" not in row_of(text, "a")
        assert "note: b: " in text
        assert "shared its cores" in text


def test_what_was_set_on_one_board_is_not_said_of_all() -> None:
    pinned = {"cores": [3], "cores_why": "of the highest clock", "restored": None}
    text = shown(row("a", preparation=pinned), row("b"))
    assert text.index("\na\n") < text.index("pinned to core 3") < text.index("\nb ")


def test_a_profile_that_no_runtime_gives_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    job = Job(model=DEMO, target="cpu", runtime="native", profile="xnnpack", output=tmp_path / "o")
    selection = select("ssh://pi@10.0.0.1,ssh://pi@10.0.0.2", (), folders=[])
    with pytest.raises(InputError) as refused:
        deploy_all(job, selection, Store(tmp_path / "cache"), SilentSeveral())
    rows = refused.value.reached.rows
    assert [row.error["message"] for row in rows] == ["The runtime native has no profiler."] * 2
    assert not (tmp_path / "o").exists() and len(rows[0].reached.artifacts) <= 1


def test_where_there_is_only_a_mean_its_interval_is_shown() -> None:
    runs = [ProcessRun(samples_ns=None, summary_ns=SUMMARY | {"mean": 1e8 + n}) for n in range(5)]
    line = row_of(shown(row("phone", measurement=measure(processes=runs, asked=5))), "phone")
    assert "100 ms (mean)" in line and "100 ms to 100 ms" in line


def test_devices_that_nothing_was_run_on_are_not_called_well() -> None:
    text = shown(row("a"), row("b"))
    assert "made for 2 of 2 devices, and run on none" in text and "well" not in text
    dead = DeviceError("It does not answer.", "").to_json()
    assert "1 of 2 devices are well" in shown(row("a"), replace(row("b"), error=dead))


def test_why_times_are_invalid_is_said_also_where_the_run_was_stopped() -> None:
    stopped = {"message": "Stopped.", "hint": "", "exit_code": 130}
    hot = replace(row("a", measurement=measured("it was too hot", judged=True)), error=stopped)
    assert "too hot" in shown(hot, row("b"))
