"""A deploy to eight boards beside a deploy to one, when the time is on the wire.

    python benchmarks/eight_boards.py [--boards 8] [--mbit 16] [--megabytes 10] [--rounds 3]
                                      [--json FILE]

The boards are real sshds, each in namespaces of its own (network, processes, mounts, home) behind
a cable that tbf limits to so many Mbit/s. The model's weights are random: they do not compress.
Before each round the boards are emptied; one board and all boards take turns. The bar: all boards
in less than 2.5 times one board's time. What is timed is the whole command, as a user waits for it.

All boards share this machine's cores, so eight agents start where two can run, and the latencies
that they report are noise: --conditions report says so, and no figure here is made of them. Needs
root and Debian's openssh packages (tests/tools/install_device_packages.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.boards import boards, inventory, why_no_sshd  # noqa: E402

BAR = 2.5
_SEED = 1
_EFFORT = ("--runs", "20", "--warmup", "3", "--processes", "1", "--conditions", "report")


def model_of(megabytes: float, folder: Path) -> Path:
    """One fully connected layer with random float weights of so many MB."""
    import numpy as np
    from unit.tflite_models import buffer, edited, fully_connected

    side = round((megabytes * 1e6 / 4) ** 0.5)
    weights = np.random.default_rng(_SEED).standard_normal((side, side)).astype(np.float32)

    def grow(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        tensors[0].shape, tensors[1].shape = [1, side], [side, side]
        tensors[2].shape, tensors[3].shape = [side], [1, side]
        model.buffers[1], model.buffers[2] = buffer(weights), buffer(weights[0])

    path = folder / "random_weights.tflite"
    path.write_bytes(edited(fully_connected(), grow))
    return path


def edgeopt(folder: Path, *words: object) -> dict[str, Any]:
    """The document of a command that must succeed, with its wall and CPU seconds."""
    command = [sys.executable, "-m", "edgeopt", *map(str, words), "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    spent, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    document: dict[str, Any] = json.loads(done.stdout)
    return document | {"wall_s": spent, "cpu_s": cpu}


def deployed(folder: Path, model: Path, names: list[str]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds on the host; the boards are empty before."""
    edgeopt(folder, "devices", "clean", "all")
    words = ["deploy", model, "--scheme", "float32", "--target", "cpu", *_EFFORT]
    done = edgeopt(folder, *words, "--device", ",".join(names))
    rows = done.get("devices") or [done]
    for row in rows:
        assert row["device"]["sent_bytes"] >= model.stat().st_size * 0.9, "it was there already"
        assert row["parity"]["passed"] and row["measurement"]["samples_ns"]
    return done["wall_s"], done["cpu_s"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--mbit", type=float, default=16)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := why_no_sshd():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for part in ("CACHE", "CONFIG", "STATE"):
            os.environ[f"EDGEOPT_{part}"] = str(base / part.lower())
        os.environ["PYTHONPATH"] = str(ROOT)
        with boards(options.boards, base / "lab", rate_bits=options.mbit * 1e6) as running:
            (base / "devices.toml").write_text(inventory(running))
            rows = measured(options, base)
    return told(options, rows)


def measured(options: argparse.Namespace, base: Path) -> dict[str, list[tuple[float, float]]]:
    model = model_of(options.megabytes, base)
    everyone = [f"board{number}" for number in range(options.boards)]
    edgeopt(base, "deploy", model, "--scheme", "float32", "--target", "cpu", "--no-run")
    rows: dict[str, list[tuple[float, float]]] = {"one": [], "all": []}
    for number in range(options.rounds):
        turn = [("one", everyone[:1]), ("all", everyone)]
        for key, names in turn if number % 2 else reversed(turn):
            rows[key].append(deployed(base, model, names))
    return rows


def told(options: argparse.Namespace, rows: dict[str, list[tuple[float, float]]]) -> int:
    wire = options.megabytes * 8 / options.mbit
    print(f"{options.megabytes:g} MB over {options.mbit:g} Mbit/s: {wire:.1f} s on each wire")
    print(f"{'boards':>6}  {'wall s':>7}  {'CPU s':>6}  each round")
    middle = {}
    for key, count in (("one", 1), ("all", options.boards)):
        walls = [wall for wall, _ in rows[key]]
        cpu = statistics.median(spent for _, spent in rows[key])
        middle[key] = statistics.median(walls)
        each = ", ".join(f"{wall:.1f}" for wall in walls)
        print(f"{count:>6}  {middle[key]:>7.2f}  {cpu:>6.2f}  {each}")
    ratio = middle["all"] / middle["one"]
    print(f"ratio {ratio:.2f} (the bar: below {BAR}); the boards share {os.cpu_count()} cores")
    if options.json:
        content = vars(options) | {"rows": rows, "ratio": ratio, "json": None}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if ratio < BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
