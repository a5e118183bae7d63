"""Programs of a board that are missing, crash, hang or are killed: its Python, its runtime, and
benchmark_model."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import numpy as np
from tools.lab import Ended, Lab
from tools.lab_memory import memory_limit


def _with_python(lab: Lab, text: str, *words: object, mode: int = 0o755) -> Ended:
    program = lab.program(text, mode)
    return lab.start("--runs", 20, "--device-python", program, *words).end()


def python_not_executable(lab: Lab) -> Ended:
    return _with_python(lab, "#!/bin/sh\n", mode=0o644)


def no_runtime(lab: Lab) -> Ended:
    return _with_python(lab, f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')


def _runtime_double(lab: Lab, body: str) -> str:
    """A Python whose ai_edge_litert is a double that dies as `body` says; the death is real."""
    module = lab.folder / f"site-{abs(hash(body)) % 10**8}/ai_edge_litert"
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").touch()
    (module / "interpreter.py").write_text(f"def Interpreter(**_):\n    {body}\n")
    numpy = Path(np.__path__[0]).parent
    return (
        f"#!/bin/sh\nexport PYTHONPATH={module.parent}:{numpy}\nulimit -c 0\n"
        f'exec {sys.executable} -S "$@"\n'
    )


def segfault(lab: Lab) -> Ended:
    return _with_python(lab, _runtime_double(lab, "import ctypes; ctypes.string_at(0)"))


def abort(lab: Lab) -> Ended:
    return _with_python(lab, _runtime_double(lab, "import os; os.abort()"))


def out_of_memory(lab: Lab) -> Ended:
    """The kernel's own killer, by a memory limit of 64 MB around the board's Python."""
    body = "x = [bytearray(b'x' * 4096) for _ in range(100000)]"
    with memory_limit(64 << 20) as members:
        join = f"echo $$ >{members} || exit 99"
        return _with_python(lab, _runtime_double(lab, body).replace("ulimit -c 0", join))


def adb_out_of_memory(lab: Lab) -> Ended:
    """The same around the double of benchmark_model, which asks for 300 MB."""
    with memory_limit(64 << 20) as members:
        wait = "until grep -q edgeopt-lab /proc/$$/cgroup; do sleep 0.1; done"
        greedy = f"{wait}; x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${{#x}}"
        session = lab.start("--runs", 20, "--benchmark-binary", lab.double(greedy))
        session.until(lab.busy, "the run on the board")
        for _ in range(20):  # the first that is seen may only be about to become the program
            for pid in lab.programs():
                with contextlib.suppress(OSError):
                    members.write_text(f"{pid}\n")
            time.sleep(0.1)
        session.happened()
        return session.end()


def hung_python(lab: Lab) -> Ended:
    return _with_python(lab, "#!/bin/sh\nexec sleep 3333\n", "--timeout", 5)


def _with_double(lab: Lab, fault: str, *words: object) -> Ended:
    return lab.start("--runs", 20, "--benchmark-binary", lab.double(fault), *words).end()


def adb_segfault(lab: Lab) -> Ended:
    return _with_double(lab, "kill -SEGV $$")


def adb_exit_1(lab: Lab) -> Ended:
    return _with_double(lab, "echo 'ERROR: no such operation' >&2; exit 1")


def adb_hung(lab: Lab) -> Ended:
    return _with_double(lab, "sleep 3333", "--timeout", 6)


def no_library(lab: Lab) -> Ended:
    """A program whose loader is not on the board."""
    binary = lab.folder / "without-a-loader"
    binary.write_text("#!/no/such/loader\n")
    binary.chmod(0o755)
    return lab.start("--runs", 20, "--benchmark-binary", binary).end()


def wrong_machine(lab: Lab) -> Ended:
    binary = lab.folder / "for-another-machine"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    binary.chmod(0o755)
    return lab.start("--runs", 20, "--benchmark-binary", binary).end()
