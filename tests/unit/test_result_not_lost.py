"""What was measured is told, though the file that was asked for cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt.cli import output
from edgeopt.cli.perform import shown
from edgeopt.cli.perform_all import perform_all
from edgeopt.device.selection import select
from edgeopt.errors import DeviceError, InputError
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.pipeline.fleet import Fleet
from edgeopt.report import Report
from edgeopt.report.export import check_suffix
from edgeopt.report.fleet import FleetReport
from edgeopt.target import load_target


def report() -> Report:
    return Report(model=read(demo_dir() / "fashion.tflite"), target=load_target("cpu"))


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A place that no file can be moved to, though all looked well when the work began."""
    return tmp_path / "later" / "r.json"


def test_a_report_that_cannot_be_written_is_shown_and_the_error_has_it(
    taken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: object) -> Report:
        taken.mkdir(parents=True)
        return report()

    with pytest.raises(InputError, match="Cannot write") as failed:
        shown("deploy", work, as_json=False, report=taken)
    assert "fashion.tflite" in capsys.readouterr().out
    assert output.ErrorReporter(verb="deploy", as_json=True).ours(failed.value) == 2
    assert json.loads(capsys.readouterr().out)["model"]["path"].endswith("fashion.tflite")


def test_what_went_wrong_first_is_the_error(
    taken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: object) -> Report:
        taken.mkdir(parents=True)
        raise DeviceError("The cable is cut.", reached=report())

    with pytest.raises(DeviceError, match="cable"):
        shown("deploy", work, as_json=False, report=taken)
    assert "Cannot write" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_ends_no_device(
    taken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeopt.cli.fleet_options import Devices

    names = "ssh://pi@10.0.0.1,ssh://pi@10.0.0.2"
    selection = select(names, (), folders=[])

    def work(show: object, told: object) -> FleetReport:
        taken.mkdir(parents=True)
        with Fleet(selection, show, told=told) as fleet:  # type: ignore[arg-type]
            for device in selection.devices:
                fleet.start(device, lambda _: report())
            return fleet.finish()

    devices = Devices(selection=selection, jobs=None)
    with pytest.raises(InputError, match="Cannot write") as failed:
        perform_all("deploy", work, devices, as_json=False, report=taken)
    assert [row.exit_code for row in failed.value.reached.rows] == [0, 0]
    said = capsys.readouterr()
    assert "for 2 of 2 devices" in said.out and said.err.count("Cannot write") == 1


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.json").mkdir()
    for place, why in (
        (tmp_path / "file" / "r.json", "is no folder"),
        (tmp_path / "folder.json", "is a folder"),
    ):
        with pytest.raises(InputError, match=why):
            check_suffix(place)
    check_suffix(tmp_path / "new" / "r.json")
