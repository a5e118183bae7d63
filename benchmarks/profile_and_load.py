"""Do profiles add up to the inference, and do threads compute at the same time?

    python benchmarks/profile_and_load.py [MODEL.tflite ...] [--device DEVICE] [--rounds 5]
        [--load-seconds 3] [--seed 0] [--json FILE]

For each model (the shipped one when none is named):

1. A profile, `rounds` times, with XNNPACK and without it: the share of the interpreter's inference
   that the operators add up to, what the profiler adds to a run, how far LiteRT's compiled model
   (which carries the profiler) is from the interpreter (which edgeopt measures), and how much of
   the time belongs to no operator. Medians over rounds; a profile alternates its three ways itself.
2. A closed loop with 1, 2 and as many threads as there are cores: requests a second beside one
   thread alone just before and after, in random order over rounds (--seed).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeopt.artifact import hash_path  # noqa: E402
from edgeopt.device import Device, connect, resolve  # noqa: E402
from edgeopt.device.load.run import put_load  # noqa: E402
from edgeopt.device.profiling.run import KERNELS, profile  # noqa: E402
from edgeopt.device.run import RunRequest  # noqa: E402
from edgeopt.load import Load  # noqa: E402
from edgeopt.model import read  # noqa: E402
from edgeopt.paths import config_dir, demo_dir  # noqa: E402
from edgeopt.progress import Silent  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--device", default="local")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load-seconds", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    models = asked.models or [demo_dir() / "fashion.tflite"]
    threads = sorted({1, 2, os.cpu_count() or 1})
    rows: list[dict[str, Any]] = []
    with connect(resolve(asked.device, folders=(Path.cwd(), config_dir()))) as device:
        for model in models:
            rows += [profiles(device, model, kernels, asked.rounds) for kernels in KERNELS]
            rows += loads(device, model, threads, asked)
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def request(model: Path) -> RunRequest:
    return RunRequest(model=model, sha256=hash_path(model), timeout_s=600)


def profiles(device: Device, model: Path, kernels: str, rounds: int) -> dict[str, Any]:
    found = [
        profile(device, request(model), read(model), Silent(), kernels=kernels).profile
        for _ in range(rounds)
    ]

    def median(values: list[float]) -> float:
        return statistics.median(values)

    first = found[0]
    return {
        "model": model.name,
        "kernels": kernels,
        "inference_us": median([p["whole"]["plain"]["typical_ns"] / 1000 for p in found]),
        "sum_of_inference": median([p["sum"]["share_of_whole"] for p in found]),
        "compiled_of_interpreter": median(
            [p["whole"]["profiler_off"]["typical_ns"] / p["sum"]["whole_ns"] for p in found]
        ),
        "profiler_adds_us": median([p["overhead"]["ns"] / 1000 for p in found]),
        "operators": len(first["operators"]),
        "told_apart": sum(op["typical_ns"] is not None for op in first["operators"]),
        "unmatched_share": median(
            [sum(row["share"] or 0 for row in p["unmatched"]) for p in found]
        ),
        "same_outputs": all(p["same_outputs"] for p in found),
    }


def loads(
    device: Device, model: Path, threads: list[int], asked: argparse.Namespace
) -> list[dict[str, Any]]:
    speedups: dict[int, list[float]] = {count: [] for count in threads if count > 1}
    rates: dict[int, list[float]] = {count: [] for count in threads}
    source = random.Random(asked.seed)
    for _ in range(asked.rounds):
        order = list(threads)
        source.shuffle(order)
        for count in order:
            load = Load(concurrency=count, time_s=asked.load_seconds)
            found = put_load(device, request(model), load, Silent()).throughput
            rates[count].append(found["per_second"]["value"])
            if count > 1:
                speedups[count].append(found["speedup"])
    return [
        {
            "model": model.name,
            "threads": count,
            "per_second": statistics.median(rates[count]),
            "speedup": statistics.median(speedups[count]) if count > 1 else None,
        }
        for count in threads
    ]


def show(rows: list[dict[str, Any]]) -> None:
    head = "model                            kernels   inference    sum  compiled  profiler adds"
    print(f"{head}  told apart  no operator  same outputs")
    for row in rows:
        if "kernels" in row:
            shares = (100 * row["sum_of_inference"], 100 * row["compiled_of_interpreter"])
            line = f"{row['model'][:32]:32s} {row['kernels']:8s} {row['inference_us']:9.1f} us"
            line += f" {shares[0]:5.1f}% {shares[1]:8.1f}% {row['profiler_adds_us']:11.1f} us"
            line += f"  {row['told_apart']:4d} of {row['operators']:<4d}"
            print(f"{line} {100 * row['unmatched_share']:9.2f}%  {row['same_outputs']}")
    print("\nmodel                            threads   requests/s   times one alone")
    for row in rows:
        if "threads" in row:
            speedup = "" if row["speedup"] is None else f"{row['speedup']:10.2f}"
            print(
                f"{row['model'][:32]:32s} {row['threads']:7d} {row['per_second']:12.1f} {speedup}"
            )


if __name__ == "__main__":
    sys.exit(main())
