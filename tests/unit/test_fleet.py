"""The same work on several devices: in parallel, each with its row, none lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeopt import stop
from edgeopt.device.selection import Selection, select
from edgeopt.errors import DeviceError, InputError, ModelError, ResultError
from edgeopt.pipeline.fleet import Fleet
from edgeopt.progress import Progress, Silent, SilentSeveral
from edgeopt.report.export import export
from edgeopt.report.fleet import DeviceRow, FleetReport, worst
from edgeopt.report.fleet_view import fleet_markdown

A, B, C = "ssh://pi@10.0.0.1", "ssh://pi@10.0.0.2", "ssh://pi@10.0.0.3"


def chosen(*urls: str) -> Selection:
    return select(",".join(urls), (), folders=[])


def ran(selection: Selection, works: dict[str, Callable[[], Any]], **more: Any) -> FleetReport:
    """The report, whether or not it ended with an error."""
    with Fleet(selection, SilentSeveral(), **more) as fleet:
        for device in selection.devices:
            work = works[device.spec.name]
            fleet.start(device, lambda _progress, work=work: work())  # type: ignore[misc]
        try:
            return fleet.finish()
        except (DeviceError, InputError, ModelError, ResultError) as error:
            assert isinstance(error.reached, FleetReport)
            assert error.exit_code == error.reached.exit_code
            return error.reached


def raising(error: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def test_devices_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)
    report = ran(chosen(A, B, C), dict.fromkeys((A, B, C), lambda: {"met": together.wait()}))
    assert report.exit_code == 0 and [row.name for row in report.rows] == [A, B, C]


def test_one_that_fails_stops_no_other_and_keeps_what_it_reached() -> None:
    failed = DeviceError("No answer.", "Plug it in.", reached={"notes": ["sent"]})
    report = ran(chosen(A, B, C), {A: lambda: {"x": 1}, B: raising(failed), C: lambda: {"x": 3}})
    content = report.to_json()["devices"]
    assert [(row["status"], row["exit_code"]) for row in content] == [
        ("ok", 0), ("failed", 5), ("ok", 0),
    ]  # fmt: skip
    assert content[1]["notes"] == ["sent"] and content[1]["error"]["hint"] == "Plug it in."
    assert content[2]["x"] == 3
    error = report.to_json()["error"]
    assert error["message"] == f"1 of 3 devices failed: {B} (exit 5)." and error["exit_code"] == 5


def test_a_bug_met_on_one_device_is_its_row_with_a_trace_that_can_be_reported() -> None:
    report_of = {A: raising(ZeroDivisionError("oh")), B: dict}
    with Fleet(chosen(A, B), SilentSeveral()) as fleet:
        for device in fleet.selection.devices:
            fleet.start(device, lambda _p, n=device.spec.name: report_of[n]())  # type: ignore[misc]
        with pytest.raises(Exception, match="1 of 2 devices failed") as caught:
            fleet.finish()
    row = caught.value.reached.rows[0]  # type: ignore[attr-defined]
    assert row.exit_code == 1 and caught.value.exit_code == 1  # type: ignore[attr-defined]
    file = Path(row.error["hint"].split()[-1].rstrip("."))
    assert "ZeroDivisionError" in file.read_text()
    file.unlink()


def test_what_cannot_be_shown_of_a_failure_is_a_row_as_well() -> None:
    """An answer that breaks the row's text, behind an error: nothing waits for it for ever."""
    failed = DeviceError("No answer.", "", reached={"device": 7, "measurement": 7})
    with Fleet(chosen(A, B), SilentSeveral()) as fleet:
        for device, work in zip(fleet.selection.devices, (raising(failed), dict), strict=True):
            fleet.start(device, lambda _p, work=work: work())  # type: ignore[misc]
        with pytest.raises(Exception, match="1 of 2 devices failed") as caught:
            fleet.finish()
    error = caught.value.reached.rows[0].error  # type: ignore[attr-defined]
    assert error["kind"] == "bug"
    Path(error["hint"].split()[-1].rstrip(".")).unlink()


def test_a_report_that_cannot_be_written_any_more_loses_no_row() -> None:
    def full(_report: FleetReport) -> None:
        raise InputError("Cannot write r.json: no space.", "")

    with (
        pytest.raises(InputError) as caught,
        Fleet(chosen(A, B), SilentSeveral(), told=full) as fleet,
    ):
        fleet.start(fleet.selection.devices[0], lambda _p: {"x": 1})
        fleet.finish()
    assert [row.content() for row in caught.value.reached.rows if not row.error] == [{"x": 1}]


@pytest.mark.parametrize(
    ("codes", "code"),
    [((0, 0), 0), ((0, 6), 6), ((6, 5), 5), ((5, 3, 0), 3), ((5, 1), 1), ((130, 5), 130)],
)
def test_the_exit_code_is_the_smallest_of_those_that_failed_unless_one_was_stopped(
    codes: tuple[int, ...], code: int
) -> None:
    assert worst(codes) == code


def test_no_more_than_jobs_work_at_a_time() -> None:
    at_work, most, lock, two = 0, 0, threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            if most == 2:
                two.set()
        two.wait(10)  # so that two meet, however late the second begins
        time.sleep(0.05)  # in which a third could come
        with lock:
            at_work -= 1

    ran(chosen(A, B, C), dict.fromkeys((A, B, C), work), jobs=2)
    assert most == 2


def test_one_job_at_a_time_takes_the_devices_in_the_order_asked_for() -> None:
    began: list[str] = []

    def work(name: str) -> Callable[[], None]:
        return lambda: began.append(name)

    names = [f"ssh://u@10.0.1.{number}" for number in range(12, 0, -1)]
    ran(chosen(*names), {name: work(name) for name in names}, jobs=1)
    assert began == names


def test_a_board_that_is_in_use_keeps_no_other_waiting() -> None:
    done = threading.Event()
    same = "ssh://other@" + A.partition("@")[2]
    works: dict[str, Callable[[], Any]] = {
        A: lambda: {"other_was_done": done.wait(10)},
        same: dict,
        B: lambda: done.set(),
    }
    report = ran(chosen(A, same, B), works, jobs=2)
    assert report.exit_code == 0 and report.rows[0].content() == {"other_was_done": True}


def test_this_machine_begins_when_all_others_have_ended() -> None:
    ended: list[str] = []

    def remote(name: str) -> Callable[[], None]:
        def work() -> None:
            time.sleep(0.1)
            ended.append(name)

        return work

    def local() -> None:
        assert set(ended) == {A, B}

    report = ran(chosen("local", A, B), {"local": local, A: remote(A), B: remote(B)})
    assert report.exit_code == 0 and report.rows[0].name == "local"
    assert any("measured by itself" in note for note in report.notes)


def test_two_entries_at_one_address_never_work_at_once(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(
        'schema = 1\n[devices.usb]\nurl = "ssh://pi@10.0.0.1"\nedgetpu_device = "usb"\n'
        '[devices.pci]\nurl = "ssh://pi@10.0.0.1"\nedgetpu_device = "pci"\n'
    )
    alone = threading.Lock()

    def work() -> None:
        assert alone.acquire(blocking=False)
        time.sleep(0.05)
        alone.release()

    report = ran(select("all", (), folders=[tmp_path]), {"usb": work, "pci": work})
    assert report.exit_code == 0, report.to_json()


def test_every_finished_row_is_told_at_once() -> None:
    told: list[FleetReport] = []
    first = threading.Event()

    def later() -> None:
        assert first.wait(10)

    def tell(report: FleetReport) -> None:
        told.append(report)
        first.set()

    ran(chosen(A, B), {A: dict, B: later}, told=tell)
    assert [len(report.rows) for report in told] == [1, 2]
    assert told[0].pending == (B,) and not told[0].to_json()["complete"]
    assert told[1].pending == () and told[1].to_json()["complete"]


def test_ctrl_c_ends_all_work_cleans_up_and_keeps_the_rows() -> None:
    cleaned = threading.Event()
    begun = threading.Event()

    def hangs(_: Progress) -> None:
        try:
            begun.set()
            stop.sleep(60)
        finally:
            cleaned.set()

    selection = chosen(A, B)
    done, waits = selection.devices
    began = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        Fleet(selection, SilentSeveral()) as fleet,
    ):
        fleet.start(done, lambda _: {"x": 1})
        fleet.start(waits, hangs)
        assert begun.wait(10)
        raise KeyboardInterrupt
    assert cleaned.is_set() and time.monotonic() - began < 10
    report = caught.value.reached  # type: ignore[attr-defined]
    assert [row.exit_code for row in report.rows] == [0, 130]
    assert report.rows[1].error["kind"] == "interrupted"
    error = report.to_json()["error"]
    assert (
        (error["kind"], error["exit_code"])
        == ("interrupted", report.exit_code)
        == (
            "interrupted",
            130,
        )
    )


def test_notes_and_lines_of_threads_reach_the_log_with_their_device(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from edgeopt.cli import output

    with output.several([A]) as show:
        show.line("pi-4").stage("Connecting\x1b[2J")
        show.line("pi-4").note("throttled")
        show.done("pi-4", False, "No answer.")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["edgeopt: pi-4: note: throttled", "edgeopt: pi-4: failed: No answer."]
    assert lines[0].startswith("edgeopt: pi-4: Connecting") and "\x1b" not in lines[0]


def row(name: str, **more: Any) -> DeviceRow:
    return DeviceRow(name=name, url="ssh://x", kind="ssh", **more)


def test_a_markdown_report_has_a_row_a_device_and_nothing_that_ends_a_cell() -> None:
    error = DeviceError("It said | <b>no</b>.", "").to_json()
    text = fleet_markdown(FleetReport(rows=(row("a"), row("b|c", error=error))), title="t")
    lines = text.splitlines()
    assert "| a | ok |" in lines and r"| b\|c | exit 5 |" in lines
    assert r"It said \| \<b\>no\</b\>." in text


@pytest.mark.parametrize("ending", [".json", ".html", ".svg", ".md", ".txt"])
def test_every_kind_of_report_file_has_every_row(tmp_path: Path, ending: str) -> None:
    fleet = FleetReport(rows=(row("board-one"), row("board-two")), pending=("board-three",))
    export(fleet, tmp_path / f"r{ending}", verb="benchmark")
    text = (tmp_path / f"r{ending}").read_text()
    assert all(name in text for name in ("board-one", "board-two"))
    if ending == ".json":
        content = json.loads(text)
        assert content["schema"] == "edgeopt.benchmark/1" and content["pending"] == ["board-three"]


def test_silence_is_a_progress_of_several() -> None:
    assert isinstance(SilentSeveral().line("x"), Silent)
