"""What the kernel's counters say of a quiet machine, and of one with a busy neighbour.

    python benchmarks/conditions.py [--device DEVICE] [--processes N] [--seconds S] [--neighbour]

Prints one row a process: how long it waited for a core, what others used, steal, and the verdict.
With --neighbour (this machine only) each second process has a busy loop on its core. The limits in
edgeopt/device/shared_cores.py come from such a table. They are counters of CPU time, no latencies.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from edgeopt.device import Device, connect, resolve, run
from edgeopt.device.run import RunRequest
from edgeopt.paths import config_dir, demo_dir
from edgeopt.progress import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="local")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--neighbour", action="store_true")
    asked = parser.parse_args()
    print(f"{'neighbour':<10}{'waited %':>10}{'others':>8}{'steal %':>9}  verdict")
    spec = resolve(asked.device, folders=(Path.cwd(), config_dir()))
    fired = {False: 0, True: 0}
    with connect(spec) as device:
        for number in range(asked.processes * (1 + asked.neighbour)):
            beside = asked.neighbour and number % 2 == 1
            fired[beside] += measured(device, asked, beside)
    for beside, count in fired.items():
        if not beside or asked.neighbour:
            print(f"with a neighbour: {beside}: {count} of {asked.processes} called disturbed")


def measured(device: Device, asked: argparse.Namespace, beside: bool) -> bool:
    """One process; True when its conditions are called disturbed."""
    model = demo_dir() / "fashion.tflite"
    core = max(os.sched_getaffinity(0))
    request = RunRequest(
        model=model,
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        runs=10,
        time_s=asked.seconds,
        threads=asked.threads,
        cores=(core,) if asked.neighbour else (),
        want_outputs=False,
    )
    pin = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", pin]) if beside else None
    try:
        result = run(device, request, Silent())
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
    use = result.conditions["during"]["usage"]
    own = use["own_cpu_s"] + use.get("waited_s", 0)
    print(
        f"{'busy' if beside else 'none':<10}{100 * use.get('waited_s', 0) / own:>10.2f}"
        f"{use.get('others_cpu_s', 0) / use['wall_s']:>8.3f}"
        f"{100 * use.get('steal_s', 0) / use['wall_s']:>9.2f}  "
        f"{'; '.join(result.invalid_reasons) or 'undisturbed'}",
        flush=True,
    )
    return bool(result.invalid_reasons)


if __name__ == "__main__":
    main()
