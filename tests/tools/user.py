"""Somebody at a machine of his own, who calls edgeopt as a process and knows one board."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.sshd import Sshd

__all__ = ["User"]


class User:
    """`home` is made; the board is `board` in its devices.toml, pinned. `alone`: in a process
    namespace of its own, as on another machine."""

    def __init__(
        self, board: Sshd, home: Path, name: str, *, alone: bool = False, **environment: str
    ) -> None:
        self.board, self.home, self.name, self._alone = board, home, name, alone
        self._environment = environment
        self.inventory = home / ".config/edgeopt/devices.toml"
        self.inventory.parent.mkdir(parents=True)
        self.knows("board", url=board.url, key=str(board.key), python=sys.executable)
        self.call("devices", "pin", "board", "--fingerprint", board.fingerprint)

    def knows(self, device: str, **settings: str) -> None:
        """Write devices.toml anew, with this one device."""
        rows = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        self.inventory.write_text("\n".join(["schema = 1", f"[devices.{device}]", *rows, ""]))

    def argv(self, *words: str) -> list[str]:
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*(alone if self._alone else []), sys.executable, "-m", "edgeopt", *words]

    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEOPT_", "XDG_"))}
        ours = {"HOME": str(self.home), "EDGEOPT_OWNER": self.name, "EDGEOPT_CONDITIONS": "report"}
        return {**kept, **ours, **self._environment}

    def run(self, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            env=self.env(),
            cwd=self.home,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )

    def call(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The exit code and the JSON document."""
        done = self.run(*words, "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)
