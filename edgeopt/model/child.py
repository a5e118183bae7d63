"""Run a function of ours in a Python process of its own, for libraries that bad files can crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["limit_memory", "run_child"]

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
_MEMORY_BYTES = 8 << 30  # a damaged shape can ask for terabytes; no edge model needs this much


def run_child(module: str, path: Path, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """Call `module`.main(path) in a new process; its exit code is what main returns.

    Raises subprocess.TimeoutExpired after killing it.
    """
    code = f"import sys; from {module} import main; sys.exit(main(sys.argv[1]))"
    # Our own copy first, and never a user's ./numpy.py (PYTHONSAFEPATH counts from Python 3.11).
    inherited = os.environ.get("PYTHONPATH", "")
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (_PACKAGE_PARENT, inherited))),
    }
    return subprocess.run(
        [sys.executable, "-c", code, str(path.resolve())],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        env=environment,
        check=False,
    )


def limit_memory() -> None:
    """Bound this process's address space, where the system can (not on Windows)."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    except (OSError, ValueError):  # macOS refuses; the time limit still holds
        return
