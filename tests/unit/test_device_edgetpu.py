"""What a Coral board says, from fake trees of /sys, /dev and /proc; versions and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.fake_coral import FRESH, GOOGLES_LABEL, FakeBoard

from edgeopt.device import DeviceSpec
from edgeopt.device.check import Check
from edgeopt.device.edgetpu.checks import edgetpu_checks
from edgeopt.device.edgetpu.choice import Software, built_for, choose, read_software
from edgeopt.device.edgetpu.errors import heard, why_closed
from edgeopt.device.edgetpu.options import delegate_options
from edgeopt.device.edgetpu.script import SCRIPT
from edgeopt.device.edgetpu.state import EdgeTpuState, Library, parse_state, read_state
from edgeopt.device.local import LocalTransport
from edgeopt.errors import DeviceError, InputError

CORAL_PYTHON = Software(
    python="3.9.18", packages=(("pycoral", "2.0.0"), ("tflite_runtime", "2.5.0.post1"))
)

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg-query here")


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    return FakeBoard(tmp_path / "fake-board")


def look(board: FakeBoard) -> EdgeTpuState:
    return read_state(LocalTransport(), str(board.root))


def examined(board: FakeBoard, software: Software | None = CORAL_PYTHON) -> dict[str, Check]:
    return {c.name: c for c in edgetpu_checks(look(board), software, device="board")}


def runs(version: str) -> Software:
    return Software(python="3.11.2", packages=(("tflite_runtime", version),))


def with_library(version: str | None = None, label: str | None = None) -> EdgeTpuState:
    library = Library(path="/l", owner="libedgetpu1-std", version=version, label=label)
    return EdgeTpuState(library=library)


def test_a_board_without_an_edge_tpu_is_told_in_one_line(board: FakeBoard) -> None:
    assert {name: c.found for name, c in examined(board).items()} == {"edge tpu": "none"}


@needs_dpkg
def test_a_fresh_accelerator_is_fit_and_its_id_explained(board: FakeBoard) -> None:
    board.usb(FRESH)
    board.library(package="libedgetpu1-max", version="16.0tf2.17.1-1")
    found = examined(board, runs("2.17.1"))
    assert all(c.ok and not c.warning for c in found.values())
    assert "becomes 18d1:9302" in found["edge tpu"].found
    assert found["usb speed"].found == "5000 Mbit/s (USB 3)"
    assert "for TensorFlow 2.17, 500 MHz" in found["libedgetpu"].found


@needs_dpkg
def test_usb_2_is_a_warning_and_std_has_half_the_clock(board: FakeBoard) -> None:
    board.usb(speed=480)
    board.library(label=GOOGLES_LABEL, package="libedgetpu1-std", version="16.0")
    found = examined(board)
    assert found["usb speed"].ok and found["usb speed"].warning
    assert "250 MHz on USB" in found["libedgetpu"].found
    assert found["edge tpu runtimes"].found.endswith("pycoral is used")
    assert any("USB 2" in note for note in choose(look(board), CORAL_PYTHON, wanted=None,
                                                  device="b").notes)  # fmt: skip


@needs_dpkg
def test_a_pcie_card_tells_driver_heat_and_trip_points(board: FakeBoard) -> None:
    board.pci()
    board.library(package="libedgetpu1-std", version="16.0")
    board.package("gasket-dkms", "1.0-18")
    found = examined(board)
    assert "apex 1.2, gasket 1.1.4, gasket-dkms 1.0-18" in found["apex driver"].found
    heat = found["edge tpu heat"]
    assert heat.found.startswith("45.3 degC") and "85, 90, 95" in heat.found and not heat.warning
    assert "500 MHz" in found["libedgetpu"].found
    assert found["edge tpu"].details["chips"][0]["trips_millic"] == [85_000, 90_000, 95_000]


@pytest.mark.parametrize(("temp", "warned"), [(79_000, False), (81_000, True), (90_000, True)])
def test_heat_near_the_first_trip_point_is_a_warning(
    board: FakeBoard, temp: int, warned: bool
) -> None:
    board.pci(temp=temp)
    assert examined(board)["edge tpu heat"].warning is warned


def test_a_sleeping_chip_has_no_temperature(board: FakeBoard) -> None:
    board.pci(temp=-89_700)
    assert look(board).chips[0].temperature_millic is None
    assert "sleeps" in examined(board)["edge tpu heat"].found


def test_a_card_without_its_driver_fails_with_what_to_load(board: FakeBoard) -> None:
    board.pci(driver=False)
    why = why_closed(look(board))
    assert why.reason == "no_driver" and "modprobe apex" in why.hint
    found = examined(board)
    assert not found["edge tpu"].ok and not found["apex driver"].ok and not found["libedgetpu"].ok


def test_who_holds_the_chip_is_named(board: FakeBoard) -> None:
    board.pci()
    board.holder("/dev/apex_0", pid=4711, name="frigate")
    why = why_closed(look(board))
    assert why.reason == "busy" and "frigate (4711)" in why.what
    assert examined(board)["edge tpu in use"].warning


def test_a_usb_chip_held_by_another_is_busy(board: FakeBoard) -> None:
    board.usb()
    board.holder("/dev/bus/usb/002/003")
    assert why_closed(look(board)).reason == "busy"


def test_a_chip_that_nobody_seems_to_hold_says_so(board: FakeBoard) -> None:
    board.usb()
    assert why_closed(look(board)).reason == "unknown"


def test_a_node_that_a_container_lacks_is_no_question_of_rights(board: FakeBoard) -> None:
    board.usb().unlink()
    why = why_closed(look(board))
    assert why.reason == "no_node" and "--device /dev/bus/usb" in why.hint


def test_a_system_without_sysfs_is_not_said_to_have_no_chip() -> None:
    assert why_closed(parse_state("kernel.0.system=Darwin\n")).reason == "unknown"
    assert why_closed(parse_state("kernel.0.system=Linux\n")).reason == "no_device"


@pytest.mark.parametrize(
    ("device", "reason"), [("usb:1", "wrong_index"), ("pci", "wrong_index"), (":0", "unknown")]
)
def test_a_device_that_is_not_there_is_told_from_one_that_is(
    board: FakeBoard, device: str, reason: str
) -> None:
    board.usb()
    assert why_closed(look(board), device).reason == reason


class Nobody(LocalTransport):
    """This machine as a user without rights."""

    def run(self, argv, **more):  # type: ignore[no-untyped-def]
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        return super().run([*user, *argv], **more)


@pytest.fixture
def open_board() -> Iterator[FakeBoard]:
    """One that other users may read."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv")
    folder = Path(tempfile.mkdtemp(prefix="edgeopt-fake-board-"))
    folder.chmod(0o755)
    yield FakeBoard(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("kind", "rule"), [("usb", '"18d1"'), ("pci", 'SUBSYSTEM=="apex"')])
def test_without_a_rule_the_udev_rule_is_given(open_board: FakeBoard, kind: str, rule: str) -> None:
    node = open_board.usb() if kind == "usb" else open_board.pci()
    node.chmod(0o600)
    why = why_closed(read_state(Nobody(), str(open_board.root)))
    assert why.reason == "no_permission" and rule in why.hint and "rw-------" in why.what


def test_with_a_rule_the_group_is_named(open_board: FakeBoard) -> None:
    node = open_board.usb()
    node.chmod(0o660)
    shutil.chown(node, group="plugdev" if _has_group("plugdev") else "daemon")
    why = why_closed(read_state(Nobody(), str(open_board.root)))
    assert why.reason == "no_permission" and "usermod -aG" in why.hint and "udev" not in why.hint


def _has_group(name: str) -> bool:
    import grp

    return name in {entry.gr_name for entry in grp.getgrall()}


def test_the_script_is_plain_sh(tmp_path: Path) -> None:
    for shell in ("dash", "bash", "busybox"):
        if shutil.which(shell):
            words = [shell, "sh"] if shell == "busybox" else [shell]
            board = FakeBoard(tmp_path / shell)
            board.pci()
            board.usb()
            done = subprocess.run(
                [*words, "-c", SCRIPT, "x", str(board.root)], capture_output=True, check=True
            )
            assert done.stderr == b""
            assert len(parse_state(done.stdout.decode()).chips) == 2


@pytest.mark.parametrize("text", ["", "usb.1=\n", "holder.9e9.node=x", "apex.0.temp=" + "9" * 400])
def test_broken_answers_are_passed_over(text: str) -> None:
    state = parse_state(text)
    assert state.holders == () and all(c.temperature_millic is None for c in state.chips)


@pytest.mark.parametrize(
    ("version", "label", "built"),
    [
        ("16.0", None, (2, 5)),
        ("16.0tf2.17.1-1", None, (2, 17)),
        ("16.0TF2.19.1-1", GOOGLES_LABEL, (2, 19)),
        (None, GOOGLES_LABEL, (2, 5)),
        (None, "COMPILER=12.2.0,DATE=x,TIME=y", None),
        (None, None, None),
    ],
)
def test_the_tensorflow_of_a_library_is_told_without_loading_it(
    version: str | None, label: str | None, built: tuple[int, int] | None
) -> None:
    assert built_for(with_library(version, label).library) == built


@pytest.mark.parametrize("version", ["2.12.0", "2.14.0", "2.17.1"])
@pytest.mark.parametrize("known", [("16.0", None), (None, GOOGLES_LABEL)])
def test_googles_library_is_refused_with_a_later_interpreter(
    version: str, known: tuple[str | None, str | None]
) -> None:
    with pytest.raises(DeviceError, match="crashes") as caught:
        choose(with_library(*known), runs(version), wanted=None, device="board")
    assert "16.0tf2.17.1" in caught.value.hint
    assert caught.value.details["reason"] == "version_clash"


@pytest.mark.parametrize("version", ["2.5.0.post1", "2.11.0"])
def test_earlier_interpreters_are_let_through(version: str) -> None:
    assert choose(with_library("16.0"), runs(version), wanted=None, device="b").runtimes == (
        "tflite_runtime",
    )


def test_pycoral_counts_by_the_interpreter_below_it() -> None:
    software = Software(packages=(("pycoral", "2.0.0"), ("tflite_runtime", "2.14.0")))
    with pytest.raises(DeviceError, match=r"on tflite_runtime 2\.14\.0"):
        choose(with_library("16.0"), software, wanted="pycoral", device="board")


def test_what_would_crash_is_left_out_where_another_fits() -> None:
    software = Software(packages=(*CORAL_PYTHON.packages, ("ai_edge_litert", "2.3.0")))
    found = choose(with_library("16.0"), software, wanted=None, device="board")
    assert found.runtimes == ("pycoral", "tflite_runtime")


def test_builds_for_two_tensorflows_and_an_untested_pair_are_warned_of() -> None:
    later = with_library("16.0tf2.17.1-1")
    apart = choose(later, runs("2.14.0"), wanted=None, device="b").notes
    assert "2.17 and 2.14" in apart[0]
    assert choose(later, runs("2.17.1"), wanted=None, device="b").notes == ()
    litert = Software(packages=(("ai_edge_litert", "2.3.0"),))
    assert "nobody" in choose(later, litert, wanted=None, device="b").notes[0]


def test_packages_are_found_without_importing_them(tmp_path: Path) -> None:
    for name in ("tflite_runtime-2.5.0.post1-py3.9.egg-info", "pycoral-2.0.0.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "pycoral").mkdir()
    (tmp_path / "pycoral/__init__.py").write_text("raise SystemExit('imported')")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    found = read_software(LocalTransport(), [str(python)])
    assert found and found.versions == {"pycoral": "2.0.0", "tflite_runtime": "2.5.0.post1"}


@pytest.mark.parametrize(
    "answer", ["", '{"packages"', '{"packages": 1}', '{"packages":' + "[" * 100_000]
)
def test_a_python_that_answers_nonsense_tells_nothing(tmp_path: Path, answer: str) -> None:
    (tmp_path / "answer").write_text(answer)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat >/dev/null; cat {tmp_path}/answer\n")
    python.chmod(0o755)
    assert read_software(LocalTransport(), [str(python)]) is None
    assert choose(EdgeTpuState(), None, wanted=None, device="b").runtimes[0] == "pycoral"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Package requires runtime version (14), which is newer than this runtime version (13).",
            "runtime_too_old",
        ),
        ("Encountered unresolved custom op: edgetpu-custom-op.\nSee", "no_delegate"),
        ("Internal: Unsupported data type in custom op handler: 0 Node", "version_clash"),
        ("libedgetpu.so.1: cannot open shared object file: No such file", "library"),
    ],
)
def test_the_librarys_words_are_explained(text: str, reason: str) -> None:
    why = heard("RuntimeError: " + text)
    assert why and why.reason == reason and why.hint
    assert heard("something else") is None


@pytest.mark.parametrize("device", ["", "usb", "pci", ":0", "usb:1", "pci:12"])
def test_the_plugins_own_device_words_are_taken(device: str) -> None:
    assert delegate_options(device, "") == ({"device": device} if device else {})


@pytest.mark.parametrize("device", ["0", "usb:", "usb:-1", "USB", "apex_0", "pci:x", "usb:0 "])
def test_words_that_open_nothing_are_refused(device: str) -> None:
    with pytest.raises(InputError, match="is no Edge TPU device"):
        delegate_options(device, "")


def test_a_performance_that_would_be_ignored_is_refused() -> None:
    assert delegate_options("usb:0", "High") == {"device": "usb:0", "Performance": "High"}
    with pytest.raises(InputError, match="ignores Performance"):
        delegate_options("usb", "High")
    with pytest.raises(InputError, match="no Edge TPU performance"):
        DeviceSpec(name="b", kind="local", edgetpu_device=":0", edgetpu_performance="high")
