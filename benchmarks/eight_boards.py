"""A deploy to eight boards beside a deploy to one, when the time is on the wire.

    python benchmarks/eight_boards.py [--boards 8] [--mbit 16] [--megabytes 10] [--rounds 3]
                                      [--json FILE]

The boards are real sshds, each in namespaces of its own (network, processes, mounts, home) behind
a cable that tbf limits to so many Mbit/s. The model's weights are random: they do not compress.
Nothing is kept on them (--no-keep), so it is all sent again; one board and all boards take turns.
The bar: all boards in less than 2.5 times one board's time. What is timed is the whole command, as
a user waits for it.

All boards share this machine's cores, so eight agents start where two can run: the table says how
much CPU time this side and the boards took, and how many cores others kept busy meanwhile (above
0.3, the seconds are theirs as well). The latencies that the boards report are noise, which
--conditions report says; no figure here is made of them. Under 2 minutes on two quiet cores. Needs
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.boards import Board, boards, inventory, why_no_sshd  # noqa: E402

BAR = 2.5
_SEED = 1
_EFFORT = ("--runs", "20", "--warmup", "3", "--processes", "1", "--conditions", "report")


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """One command. Seconds; `others_cores` is what neither it nor the boards kept busy.

    `sent_s` the model on the wire, `run_s` what else is done on a board, `parity_s` the host's
    reference, each of the slowest board; `around_s` before the first one and after the last.
    """

    wall_s: float
    host_cpu_s: float
    boards_cpu_s: float
    others_cores: float
    around_s: float
    sent_s: float
    run_s: float
    parity_s: float


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


def deployed(folder: Path, model: Path, running: Sequence[Board], names: Sequence[str]) -> Deployed:
    """Deploy to the boards of these names, all of which are empty before and after."""
    words = ["deploy", model, "--scheme", "float32", "--target", "cpu", "--no-keep", *_EFFORT]
    boards_s, busy_s = sum(board.cpu_seconds() for board in running), _busy_s()
    done = edgeopt(folder, *words, "--device", ",".join(names))
    boards_s = sum(board.cpu_seconds() for board in running) - boards_s
    busy_s = _busy_s() - busy_s
    rows = done.get("devices") or [done]
    assert len(rows) == len(names)
    for row in rows:
        assert row["device"]["sent_bytes"] >= model.stat().st_size * 0.9, "it was there already"
        assert row["parity"]["passed"] and row["measurement"]["samples_ns"]
    sent = [row["device"]["transfer"]["seconds"] for row in rows]
    took = [row["timings_s"] for row in rows]
    on_boards = max(row.get("seconds") or _own_s(row["timings_s"]) for row in rows)
    return Deployed(
        wall_s=done["wall_s"],
        host_cpu_s=done["cpu_s"],
        boards_cpu_s=boards_s,
        others_cores=max(0.0, busy_s - done["cpu_s"] - boards_s) / done["wall_s"],
        around_s=done["wall_s"] - on_boards,
        sent_s=max(sent),
        run_s=max(t["connect"] + t["run"] - s for t, s in zip(took, sent, strict=True)),
        parity_s=max(t["parity"] for t in took),
    )


def _own_s(timings: dict[str, float]) -> float:
    return timings["connect"] + timings["run"] + timings["parity"]


def _busy_s() -> float:
    """CPU seconds of everything on this machine since it started."""
    with Path("/proc/stat").open() as stream:
        user, nice, system, _, _, irq, softirq, *_ = map(int, stream.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


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
            rows = measured(options, base, running)
    return told(options, rows)


def measured(
    options: argparse.Namespace, base: Path, running: Sequence[Board]
) -> dict[str, list[Deployed]]:
    model = model_of(options.megabytes, base)
    everyone = [f"board{number}" for number in range(options.boards)]
    edgeopt(base, "deploy", model, "--scheme", "float32", "--target", "cpu", "--no-run")
    rows: dict[str, list[Deployed]] = {"one": [], "all": []}
    for number in range(options.rounds):
        turn = [("one", everyone[:1]), ("all", everyone)]
        for key, names in turn if number % 2 else reversed(turn):
            rows[key].append(deployed(base, model, running, names))
    return rows


_COLUMNS = {
    "wall_s": "wall s",
    "around_s": "around",
    "sent_s": "sent",
    "run_s": "run",
    "parity_s": "parity",
    "host_cpu_s": "CPU here",
    "boards_cpu_s": "CPU boards",
    "others_cores": "others",
}


def told(options: argparse.Namespace, rows: dict[str, list[Deployed]]) -> int:
    wire, cores = options.megabytes * 8 / options.mbit, os.cpu_count()
    print(f"{options.megabytes:g} MB over {options.mbit:g} Mbit/s: {wire:.1f} s on each wire")
    print("boards", *(f"{head:>10}" for head in _COLUMNS.values()))
    for key, count in (("one", 1), ("all", options.boards)):
        for row in rows[key]:
            print(f"{count:>6}", *(f"{asdict(row)[name]:>10.2f}" for name in _COLUMNS))
    one, every = (statistics.median(row.wall_s for row in rows[key]) for key in ("one", "all"))
    ratio = every / one
    print(
        f"one board {one:.1f} s, {options.boards} boards {every:.1f} s: "
        f"ratio {ratio:.2f} (the bar: below {BAR}; {cores} cores for this side and all boards)"
    )
    if options.json:
        found = {key: [asdict(row) for row in several] for key, several in rows.items()}
        content = vars(options) | {"rows": found, "ratio": ratio, "json": None}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if ratio < BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
