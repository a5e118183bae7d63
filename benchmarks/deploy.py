"""What a whole deploy costs over its raw steps, side by side in one run.

Raw steps are what nobody can leave out: quantizing, the run on the device, the reference run on
the host, each called directly in a process that has everything imported. The rest of a deploy is
overhead: start-up, reading, hashing, verifying, caching, reporting.

    .venv/bin/python benchmarks/deploy.py [--device DEVICE] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeopt.artifact import hash_path
from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.device import connect, host_outputs, resolve, run
from edgeopt.device.run import RunRequest
from edgeopt.feed import feed
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.paths import config_dir, demo_dir
from edgeopt.progress import Silent

MODEL = demo_dir() / "fashion.tflite"
DATA = f"{demo_dir() / 'samples.npz'}:x_calib"
STEPS = "scale=1/255"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def raw_steps(device: str, folder: Path) -> dict[str, float]:
    """Seconds of each step on its own, on an open connection."""
    data = load_dataset(DATA, preprocess=Preprocess.parse(STEPS))
    output = folder / f"raw-{time.monotonic_ns()}.tflite"
    request = ConversionRequest(scheme="int8", io="int8")
    times: dict[str, float] = {}
    times["quantize"], _ = timed(
        lambda: quantize(MODEL, request, output, dataset=data, progress=Silent())
    )
    facts = read(output)
    fitted = data.match(read(MODEL).inputs)
    job = RunRequest(
        model=output,
        sha256=hash_path(output),
        inputs=tuple(feed(s, facts.inputs) for s in fitted.samples(8)),
        keep=False,
    )
    with connect(resolve(device, folders=(Path.cwd(), config_dir()))) as board:
        times["run"], _ = timed(lambda: run(board, job, Silent()))
    times["reference"], _ = timed(lambda: host_outputs(job))
    return times


def deploy(device: str, folder: Path, cache: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of the command as a user runs it, and its report."""
    command = [
        sys.executable, "-m", "edgeopt", "deploy", str(MODEL), "--device", device,
        "--calibration", DATA, "--preprocess", STEPS, "--json", "-o", str(folder / "out"),
        "--runs", "50", "--warmup", "5", "--processes", "1",  # those of the raw run
        "--conditions", "report",
    ]  # fmt: skip
    environment = {**os.environ, "EDGEOPT_CACHE": str(cache)}
    seconds, done = timed(
        lambda: subprocess.run(command, capture_output=True, text=True, env=environment)
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    return seconds, json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="local")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            raw = raw_steps(arguments.device, folder)
            first, report = deploy(arguments.device, folder, folder / "cache")
            again, second = deploy(arguments.device, folder, folder / "cache")
        row = {**raw, "raw": sum(raw.values()), "deploy": first, "again": again}
        row["first_sent_bytes"] = report["device"]["sent_bytes"]
        row["again_sent_bytes"] = second["device"]["sent_bytes"]
        rows.append(row)
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    middle["overhead"] = middle["deploy"] - middle["raw"]
    for key, value in middle.items():
        print(f"{key:<18} {value:>10.0f}" if "bytes" in key else f"{key:<18} {value:>10.3f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"median": middle, "rounds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
