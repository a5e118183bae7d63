"""The lab: edgeopt as a user starts it, on a board that things happen to, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.adb_board import AdbBoard, adb_board
from tools.adbd import Unavailable
from tools.boards import Board, why_no_sshd
from tools.lab_governors import Governors
from tools.world import wait_until

from edgeopt import paths

__all__ = ["Ended", "Lab", "Session", "Unavailable", "lab"]

_HARD_S = 150.0  # beyond it edgeopt hangs, and is killed
_ENDS_S = 32.0  # an agent hears nothing for 20 s, and then takes a second
_DOUBLE = """#!/bin/sh
# A double of benchmark_model for the fault lab: it sleeps instead of computing, and says so.
echo "INFO: a double of benchmark_model: nothing is measured"
n=1; for word do case $word in --num_runs=*) n=${word#*=};; esac; done
FAULT
i=0; while [ $i -lt $n ]; do sleep 0.02; i=$((i + 20)); done
echo "INFO: count=$n first=1000 curr=1000 min=1000 max=1000 avg=1000 std=0"
echo "INFO: Inference timings in us: Init: 900, First inference: 1100, Warmup (avg): 1000,\
 Inference (avg): 1000"
"""


@dataclass(frozen=True)
class Ended:
    """How a run of edgeopt ended: `seconds` since what happened to it."""

    code: int
    seconds: float
    document: dict[str, Any]
    stderr: str

    @property
    def message(self) -> str:
        return str((self.document.get("error") or {}).get("message", ""))

    @property
    def hint(self) -> str:
        return str((self.document.get("error") or {}).get("hint", ""))


class Session:
    """One edgeopt under way. `happened()` starts the clock of what it survives."""

    def __init__(self, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.said = ""
        self._out = b""
        self._since = time.monotonic()
        self._readers = [threading.Thread(target=t, daemon=True) for t in (self._err, self._all)]
        for reader in self._readers:
            reader.start()

    def _err(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said += line.decode(errors="replace")

    def _all(self) -> None:
        assert self.process.stdout
        self._out = self.process.stdout.read()

    def reach(self, words: str, timeout_s: float = 120.0) -> None:
        """Wait until it says `words`; an error when it ends before."""
        self.until(lambda: words in self.said, repr(words), timeout_s)

    def ended_or(self, check: Callable[[], object], timeout_s: float) -> bool:
        """True when it has ended, or `check()` is so; False after `timeout_s`."""
        return wait_until(lambda: self.process.poll() is not None or check(), timeout_s)

    def until(self, check: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
        if not self.ended_or(check, timeout_s) or not check():
            code = self.process.poll()
            self.process.kill()
            how = "it hangs" if code is None else f"it ended with {code}"
            raise AssertionError(f"{what} was not reached, {how}: {self.said[-600:]}")

    def happened(self) -> None:
        self._since = time.monotonic()

    def end(self, hard_s: float = _HARD_S) -> Ended:
        """Wait for it. One that hangs is killed, and has the exit code 137."""
        try:
            code = self.process.wait(hard_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 137
        seconds = time.monotonic() - self._since
        for reader in self._readers:
            reader.join(10)
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        try:
            document = json.loads(self._out) if self._out else {}
        except ValueError:
            document = {"error": {"message": "HALF A DOCUMENT"}}
        return Ended(code, seconds, document, self.said)


@dataclass
class Lab:
    """One board and one user. `model` is small, `heavy` has 1 MB of weights, and `large` answers
    with 8 MB."""

    board: Any  # Board or AdbBoard
    kind: str
    folder: Path
    random: random.Random
    env: dict[str, str]
    governors: Governors

    @property
    def model(self) -> Path:
        return paths.demo_dir() / "fashion.tflite"

    @property
    def heavy(self) -> Path:
        file = self.folder / "heavy.tflite"
        if not file.exists():
            file.write_bytes(_heavy())
        return file

    @property
    def large(self) -> Path:
        file = self.folder / "large.tflite"
        if not file.exists():
            file.write_bytes(_large())
        return file

    def double(self, fault: str = ":") -> Path:
        """A benchmark_model that is none, with `fault` in the middle."""
        file = self.folder / f"double-{abs(hash(fault)) % 10**8}"
        file.write_text(_DOUBLE.replace("FAULT", fault))
        file.chmod(0o755)
        return file

    def program(self, text: str, mode: int = 0o755) -> str:
        """A program of the (ssh) board, to be named as its Python."""
        file = self.folder / f"program-{abs(hash(text)) % 10**8}"
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    def start(
        self,
        *words: object,
        model: Path | None = None,
        before: Sequence[str] = (),
        **env: str,
    ) -> Session:
        command = Path(sys.executable).with_name("edgeopt")  # as a user starts it
        argv = [*before, str(command), "benchmark", str(model or self.model)]
        argv += ["--device", self.board.url, "--json"]
        if self.kind == "ssh" and "--device-python" not in words:
            argv += ["--device-python", sys.executable]
        if self.kind == "adb":
            argv += ["--target", "android-arm64"]
        if self.kind == "adb" and "--benchmark-binary" not in words:
            argv += ["--benchmark-binary", str(self.double())]
        return Session([*argv, *map(str, words)], self.folder, {**self.env, **env})

    def begin(self, *words: object, model: Path | None = None, **env: str) -> Session:
        """A run that would last, and is under way on the board when this returns."""
        session = self.start("--runs", 3_000_000, *words, model=model, **env)
        session.until(self.busy, "the run on the board")
        time.sleep(self.random.uniform(0.3, 1.2))
        return session

    def second_process(self) -> Session:
        """A run of which one process has ended; the next one is under way."""
        adb = self.kind == "adb"
        words = ("--runs", 1200) if adb else ("--max-time", 12, "--precision", "0.0001")
        session = self.start(*words, "--processes", 4)
        session.reach("Repeat")
        session.until(self.busy, "the second process")
        time.sleep(self.random.uniform(0.1, 0.6))
        return session

    def busy(self) -> bool:
        """Does the model run on the board?"""
        return any(self._runs_model(words) for words in self.running())

    def programs(self) -> list[int]:
        """The processes that run the model, without the shells that wait for them."""
        return [pid for pid, words in self.board.strays().items() if self._runs_model(words)]

    def _runs_model(self, words: str) -> bool:
        word = ".pyz" if self.kind == "ssh" else "--graph="
        return word in words and not words.startswith("sh ")

    def arriving(self) -> bool:
        """Is a large file on its way to the board?"""
        inside = [*self.board.enter("-m"), "find", str(self.board.work)]
        found = subprocess.run([*inside, "-name", "tmp-*", "-size", "+64k"], capture_output=True)
        return bool(found.stdout)

    def emptied(self) -> None:
        """Nothing of edgeopt is on the board, so that all has to be sent again."""
        shutil.rmtree(self.board.work, ignore_errors=True)

    def running(self, *, watcher: bool = True) -> list[str]:
        """What runs on the board and is not its own. The watcher of --prepare may outlive a session
        that was killed, until its lease has ended."""
        found = self.board.listing()
        known = {group for group, words in found if "prepared-" in words}
        return [words for group, words in found if watcher or group not in known]

    def quiet(self, timeout_s: float = _ENDS_S, *, watcher: bool = False) -> bool:
        """Does everything on the board end by itself, with `watcher` that too?"""
        return wait_until(lambda: not self.running(watcher=watcher), timeout_s, 0.1)

    def left(self) -> list[str]:
        """What only a running session may have there."""
        names = [p.name for p in self.board.work.glob("*")]
        return [n for n in names if n.startswith(("tmp-", "run-", "lease-", "prepared-"))]

    def next_run(self, *words: object) -> list[str]:
        """A run as if nothing had happened: what is wrong with it, or with what stays behind."""
        session = self.start("--runs", 20, "--warmup", 1, *words)
        done, wrong = session.end(), []
        if done.code:
            wrong.append(f"the next run ended with {done.code}: {done.message}")
        if not self.quiet(4, watcher=True):
            wrong.append(f"still running: {self.running()}")
        if changed := self.governors.changed():
            wrong.append(f"still prepared: {changed}")
        if left := self.left():
            wrong.append(f"left on the board: {left}")
        if self.kind == "adb":
            there = (self.board.root / "data/local/tmp").glob("edgeopt-*")
            wrong += [f"left on the board: {p.name}" for p in there]
        return wrong

    def restored(self) -> None:
        """The board as it was: plugged in, fast, serving, nothing mounted."""
        self.board.fast()
        self.board.mend()


@contextlib.contextmanager
def lab(kind: str, folder: Path, seed: int, *, extra: str = "") -> Iterator[Lab]:
    """A board of `kind` ("ssh" or "adb") and its user. Raises Unavailable with the reason."""
    user = folder / f"user-{kind}"
    for name in ("tmp", ".ssh", "config"):
        (user / name).mkdir(parents=True, mode=0o700, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEOPT_", "SSH_AUTH"))}
    env |= {f"EDGEOPT_{n}": str(user / n.lower()) for n in ("CACHE", "CONFIG", "STATE")}
    env |= {"HOME": str(user), "TMPDIR": str(user / "tmp"), "EDGEOPT_CONDITIONS": "report"}
    env |= {"EDGEOPT_PROCESSES": "1", "EDGEOPT_MAX_TIME": "2", "PYTHONUNBUFFERED": "1"}
    with contextlib.ExitStack() as stack:
        board: Board | AdbBoard
        if kind == "ssh":
            if reason := why_no_sshd():
                raise Unavailable(reason)
            board = stack.enter_context(Board(folder / "board", extra=extra))
            shutil.copy(board.key, user / ".ssh/id_ed25519")
            _trust(board, env)
        else:
            board = stack.enter_context(adb_board())
            env["ANDROID_ADB_SERVER_PORT"] = board.env["ANDROID_ADB_SERVER_PORT"]
        yield Lab(board, kind, user, random.Random(seed), env, Governors(board, user))


def _trust(board: Board, env: dict[str, str]) -> None:
    """Pin its key, by the verb a user would take."""
    argv = [sys.executable, "-m", "edgeopt", "devices", "pin", board.url]
    argv += ["--fingerprint", board.fingerprint]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"edgeopt devices pin failed: {done.stderr}")


def _large() -> bytes:
    """RELU of [1, 512, 512]: 1 MB in and out."""
    from ai_edge_litert import schema_py_generated as schema
    from unit.tflite_models import buffer, model_of, pack, tensor

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", [1, 512, 512]), tensor("y", [1, 512, 512])]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    return pack(model_of(graph, schema.BuiltinOperator.RELU, [buffer()]))


def _heavy() -> bytes:
    """y[1, 512] = x[1, 512] @ W.T, with weights that do not compress."""
    import numpy as np
    from unit.tflite_models import buffer, edited, fully_connected

    weights = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)

    def grow(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        tensors[0].shape, tensors[1].shape = [1, 512], [512, 512]
        tensors[2].shape, tensors[3].shape = [512], [1, 512]
        model.buffers[1], model.buffers[2] = buffer(weights), buffer(weights[0])

    return edited(fully_connected(), grow)


def stop(session: Session, number: signal.Signals) -> None:
    """Signal edgeopt itself, as a user or a job scheduler does."""
    session.process.send_signal(number)
    session.happened()
