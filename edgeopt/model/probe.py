"""Ask the LiteRT runtime whether it can load and run a .tflite, in a process of its own.

The interpreter trusts its file: a bad one can crash it (a segmentation fault) or hang it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from edgeopt.errors import ModelError, ToolError
from edgeopt.model.child import limit_memory, run_child
from edgeopt.model.source import read_bytes

__all__ = ["probe"]

_REFUSED = 3  # the child's exit code for a reason given by the runtime
_MISSING = 4  # and for a runtime that is not installed


def probe(path: Path, *, timeout_s: float = 60) -> None:
    """Allocate the model's tensors and run it once on zeros; returns when that works.

    Raises ModelError with the runtime's reason, or saying that it crashed or hung; ToolError when
    the LiteRT package is not installed.
    """
    _refuse_compiled(path)
    try:
        done = run_child(__name__, path, timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{path} did not finish one inference in {timeout_s:g} s on this computer.",
            "Check that the model is for edge devices, or give it more time.",
        ) from error
    if done.returncode == 0:
        return
    reason = _last_words(done.stderr)
    if done.returncode == _MISSING:
        raise ToolError(f"The LiteRT runtime cannot be used: {reason}", "pip install edgeopt")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        reason = f"the runtime crashed ({name}). {reason}"
    raise ModelError(
        f"The LiteRT runtime cannot run {path}: {reason}",
        "See which operation it names with edgeopt inspect; convert the model again.",
        details={"returncode": done.returncode},
    )


def _refuse_compiled(path: Path) -> None:
    from edgeopt.model import tflite
    from edgeopt.model.compiled import compiled_format, holds_code

    contents = tflite.parse(read_bytes(path))
    operators = (op for graph in contents.subgraphs for op in graph.operators)
    if part := next(filter(holds_code, operators), None):
        chip = compiled_format(part).chip
        raise ModelError(
            f"{path} is compiled for {chip} ({part.op}): this computer cannot run it.",
            "Probe the model from before compilation, or run this one on the device.",
        )


def _last_words(stderr: bytes, lines: int = 3) -> str:
    """The end of what the child said, without the runtime's notices of normal operation."""
    text = stderr.decode("utf-8", "replace").splitlines()
    kept = [
        line.strip() for line in text if line.strip() and not line.startswith(("INFO", "W0000"))
    ]
    return " ".join(kept[-lines:])[:2000] or "it gave no reason."


def main(path: str) -> int:
    """The child: 0 when the model ran, else an exit code of above, its reason on stderr."""
    limit_memory()
    try:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        print(error, file=sys.stderr)
        return _MISSING
    try:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        for entry in interpreter.get_input_details():
            if entry["dtype"] not in (np.object_, np.bytes_, np.str_):
                zeros = np.zeros(entry["shape"], entry["dtype"])
                interpreter.set_tensor(entry["index"], zeros)
        interpreter.invoke()
    except Exception as error:  # noqa: BLE001  the runtime raises many types; all are its reason
        print(f"{error}", file=sys.stderr)
        return _REFUSED
    return 0
