"""Frequency governors of a board of the lab: files where its kernel would have them. A stand-in:
nothing changes its clock when they are written."""

from __future__ import annotations

from pathlib import Path

from tools.adb_board import AdbBoard
from tools.boards import Board
from tools.world import run

__all__ = ["Governors"]

_CORES = 2
_USUAL = "ondemand"


class Governors:
    """What --prepare changes, and has to put back."""

    def __init__(self, board: Board | AdbBoard, folder: Path) -> None:
        inside = "sys/devices/system/cpu"
        adb = isinstance(board, AdbBoard)
        self._folder = board.root / inside if isinstance(board, AdbBoard) else folder / inside
        for name in ("possible", "present", "online"):
            self._write(name, f"0-{_CORES - 1}")
        for core in range(_CORES):
            self._write(f"cpu{core}/cpufreq/scaling_governor", _USUAL)
            self._write(f"cpu{core}/cpufreq/scaling_available_governors", f"{_USUAL} performance")
        if not adb:
            run(*board.enter("-m"), "mount", "--bind", str(self._folder), f"/{inside}")

    def changed(self) -> list[str]:
        """The governors that are not what they were."""
        files = sorted(self._folder.glob("cpu*/cpufreq/scaling_governor"))
        assert len(files) == _CORES
        found = [f"{file.parts[-3]}: {file.read_text().strip()}" for file in files]
        return [text for text in found if not text.endswith(_USUAL)]

    def _write(self, name: str, text: str) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
