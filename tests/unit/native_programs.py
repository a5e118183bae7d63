"""The native runner's program, built once a session, and requests for it."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edgeopt.device.native.build import LIBRARIES, sources
from edgeopt.paths import demo_dir

MODEL = demo_dir() / "fashion.tflite"
STRICT = ("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


@cache
def shared_cache() -> Path:
    """A cache folder for this session, so that the host's side builds the program once."""
    folder = tempfile.mkdtemp(prefix="edgeopt-native-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def why_no_compiler() -> str:
    """Empty where the runner can be built here."""
    return "" if shutil.which("cc") else "no C compiler (cc) is installed"


@cache
def built(folder: Path, *flags: str, compiler: str = "cc") -> Path:
    """The program with `flags`, without a warning. Skips where such a program does not link."""
    program = folder / f"runner-{hashlib.sha256(repr((flags, compiler)).encode()).hexdigest()[:8]}"
    argv = [compiler, *STRICT, *flags, "-o", str(program), *map(str, sources()), *LIBRARIES]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:  # the sanitizers' libraries are a package of their own
        pytest.skip(f"the compiler lacks a library: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return program


def library() -> Path:
    import ai_edge_litert

    return Path(ai_edge_litert.__path__[0]) / "libLiteRt.so"


def lines_for(model: Path = MODEL, **changes: Any) -> str:
    """A request of three timed runs; a change to None leaves a key out."""
    rows: dict[str, Any] = {
        "mode": "run",
        "deadline_s": 60,
        "library": library(),
        "version": "2.3.0",
        "model": model,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "runs": 3,
        "warmup": 1,
    }
    rows |= changes
    return "".join(f"{k} {v}\n" for k, v in rows.items() if v is not None) + "end\n"


def answers(program: Path, request: str | bytes, **more: Any) -> list[dict[str, Any]]:
    """What the program says to `request`; it must end by itself, and not by a signal."""
    data = request.encode() if isinstance(request, str) else request
    done = subprocess.run(
        [program], input=data, capture_output=True, timeout=60, check=False, **more
    )
    assert done.returncode in (0, 3), (done.returncode, done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]
