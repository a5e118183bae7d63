"""Children: Python processes of ours that hold the heavy libraries, so that a crash, a flood of
output or Ctrl-C stays theirs.

A child is told things as JSON lines on stdin, each followed by the raw bytes of the arrays that it
lists, and answers with JSON lines; what libraries print goes to a log.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeopt import stop
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.paths import cache_dir, make_private

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Child", "ChildDied", "read_message", "serve", "take_over_stdout"]

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])
_KINDS: dict[str, type[EdgeoptError]] = {
    "input": InputError,
    "model": ModelError,
    "tool": ToolError,
}


def _homes() -> dict[str, str]:
    """Where Keras and matplotlib keep what they would leave in a home that they are new to."""
    found = {}
    for name, at_home in (("KERAS_HOME", ".keras"), ("MPLCONFIGDIR", ".config/matplotlib")):
        if name not in os.environ and not (Path.home() / at_home).exists():
            found[name] = str(cache_dir() / at_home.rpartition("/")[2].lstrip("."))
    if "MPLCONFIGDIR" in found:
        make_private(Path(found["MPLCONFIGDIR"]))  # else it warns and takes another
    return found


class ChildDied(Exception):
    """The process ended without an answer; the text is the end of its log."""


class Child:
    """One process running `module`.main(); ended on leaving the `with` block, however that is."""

    def __init__(
        self,
        module: str,
        *,
        quiet_tensorflow: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        code = (
            "import sys; sys.path[:] = [p for p in sys.path if p]; "  # not a user's ./numpy.py
            f"from {module} import main; main()"
        )
        inherited = os.environ.get("PYTHONPATH", "")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (_PACKAGE_PARENT, inherited))),
            "TF_CPP_MIN_LOG_LEVEL": "3" if quiet_tensorflow else "0",
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_USE_LEGACY_KERAS": "0",
            **_homes(),
            **(variables or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us alone; we end the child
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """End the process and whatever it started."""
        self._end()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()

    def _end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def send(self, message: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Raises ChildDied when nobody listens any more."""
        pipe = self._process.stdin
        assert pipe is not None
        listed = [{"dtype": a.dtype.str, "shape": list(a.shape)} for a in arrays]
        try:
            pipe.write(json.dumps({**message, "arrays": listed}).encode() + b"\n")
            for array in arrays:
                pipe.write(array.tobytes())
            pipe.flush()
        except (OSError, ValueError) as error:
            raise ChildDied(self.log_tail()) from error

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises what the child reports as its error, or ChildDied."""
        pipe = self._process.stdout
        assert pipe is not None
        try:
            with stop.on_stop(self._end):
                line = pipe.readline()
            stop.check()
        except (OSError, ValueError) as error:
            raise ChildDied(self.log_tail()) from error
        if not line.endswith(b"\n"):
            raise ChildDied(self.log_tail())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = _KINDS.get(answer["error"], ModelError)
            raise kind(answer["message"], answer.get("hint", ""), details=answer.get("details"))
        return answer

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that the process printed, and the signal that ended it, if one did."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        ended = (
            f"ended by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        )
        with suppress(OSError, ValueError):
            self._log.seek(0)
            text = self._log.read().decode("utf-8", "replace").strip().splitlines()[-lines:]
            return "\n".join([ended, *text])
        return ended


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], list[NDArray[Any]]] | None:
    """The child's side of `send`; None at the end of the input."""
    import numpy as np

    line = stream.readline()
    if not line:
        return None
    message: dict[str, Any] = json.loads(line)
    arrays: list[NDArray[Any]] = []
    for entry in message.pop("arrays", []):
        kind = np.dtype(entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64)) * kind.itemsize
        arrays.append(np.frombuffer(stream.read(count), kind).reshape(entry["shape"]))
    return message, arrays


def take_over_stdout() -> BinaryIO:
    """The pipe to the parent; from now on everything printed, by C++ too, goes to the log."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def serve(
    answer: Callable[[dict[str, Any], list[NDArray[Any]]], dict[str, Any] | Iterator[Any]],
    *,
    what: str,
    package: str,
) -> None:
    """The child's life: answer messages until the parent closes the pipe.

    An iterator of answers is sent as it goes, for work that reports on its way. What `answer`
    raises goes to the parent as an error of `what`, the library that this child holds and that
    `package` brings.
    """
    pipe = take_over_stdout()
    while (received := read_message(sys.stdin.buffer)) is not None:
        try:
            made = answer(*received)
            for reply in [made] if isinstance(made, dict) else made:
                pipe.write(json.dumps(reply).encode() + b"\n")
        except BrokenPipeError:
            break  # the parent is gone
        except Exception as error:  # noqa: BLE001 - whatever it raises goes to the parent
            pipe.write(json.dumps(_failure(error, what, package)).encode() + b"\n")
    os._exit(0)  # nothing to save; skips seconds of library teardown


def _failure(error: Exception, what: str, package: str) -> dict[str, Any]:
    """What the library said, in our words where it is known."""
    if isinstance(error, EdgeoptError):
        return {"error": error.kind, "message": error.message, "hint": error.hint,
                "details": error.details}  # fmt: skip
    text = re.sub(r"\s+", " ", str(error))[:500]
    if isinstance(error, ImportError):
        return {"error": "tool", "message": f"{what} does not import: {text}.",
                "hint": f"pip install {package}"}  # fmt: skip
    return {"error": "model", "message": f"{what} cannot do it: {text}.",
            "details": {"exception": type(error).__name__}}  # fmt: skip
