"""Does `edgeopt compare` cry wolf, and does it find a slowdown of 3%?

    python benchmarks/compare.py --simulate [--noise FILE] [--repeats 1000] [--slowdown 0.03]
    python benchmarks/compare.py --coverage [--repeats 1000]
    python benchmarks/compare.py --real 20 [--apart] [--device DEVICE] [--keep-turns FILE]
    python benchmarks/compare.py --record FILE [--processes 40] [--model PATH ...] [--simulate]

--simulate draws measurements from recorded noise: processes of the recording (compare_noise.json
here, or what --record wrote) without replacement, each a block of its runs, until the default
precision is reached, and compares two of them, as they are (A/A) and with one slowed down (A/B).
Alternating: the processes are shared out at random; in turn: those of one came before those of the
other, and `compare` makes its allowance for two sessions. Taking turns: processes in which two
equal models did so (compare_turns.json, or what --keep-turns wrote), as they followed each other.

--coverage simulates noise whose truth is known: how often intervals are wrong, and how often
unsteady traces and second modes are found, also where there are none.

--real measures with the product: rounds of A, a copy of A, and B on a device in random alternation
(--apart: one after the other) with the default effort, each compared by `edgeopt compare`, whose
exit code is counted. A is a chain of 100 equal float convolutions, B has 103: 3% more of the same
work, nothing simulated.

--record measures processes of one or more models (default: A) in random alternation.

All is seeded (--seed). Shares have 95% intervals (Clopper and Pearson's).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from compare_coverage import coverage  # noqa: E402
from compare_models import chain  # noqa: E402
from compare_noise import NOISE, Pool, machine_of, pools, record, verdicts  # noqa: E402
from compare_turns import TURNS, keep, recorded, turn_verdicts  # noqa: E402

_VERDICTS = ("slower", "faster", "same", "inconclusive", "invalid")


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95% interval of a share, by bisection of the binomial tails."""
    from math import comb

    def tail(p: float, least: int) -> float:
        return sum(comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(least, of + 1))

    def root(least: int, target: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, least) < target else (low, middle)
        return low

    low = 0.0 if count == 0 else root(count, 0.025)
    return low, 1.0 if count == of else root(count + 1, 0.975)


def show(title: str, counts: Counter[str], wanted: tuple[str, ...], limit: str) -> dict[str, Any]:
    """One row: the verdicts, and the share of those that count with its interval."""
    of = sum(counts.values())
    hits = sum(counts[name] for name in wanted)
    low, high = share_interval(hits, of)
    rest = "  ".join(f"{name} {counts[name]}" for name in _VERDICTS if counts[name])
    said = " or ".join(wanted)
    print(f"{title:<26} {said}: {100 * hits / of:.1f}% of {of} ({100 * low:.1f} to"
          f" {100 * high:.1f}%), {limit}   [{rest}]")  # fmt: skip
    return {"title": title, "of": of, "counts": dict(counts), "interval95": [low, high]}


def simulate(found: list[Pool], repeats: int, seed: int, precision: float) -> list[dict[str, Any]]:
    rows = []
    for pool in found:
        valid = sum(blocks[0].valid for blocks in pool.blocks)
        print(f"{pool.name}: {len(pool.blocks)} recorded processes, {valid} undisturbed")
        for slower, apart in ((False, False), (False, True), (True, False), (True, True)):
            counts = verdicts(
                pool, slower=slower, apart=apart, repeats=repeats, seed=seed, precision=precision
            )
            title = f"  {'A/B' if slower else 'A/A'} {'in turn' if apart else 'alternating'}"
            wanted = ("slower",) if slower else ("slower", "faster")
            goal = "wanted: 90% on a quiet device" if slower else "wanted: at most 1%"
            rows.append(show(title, counts, wanted, goal) | {"model": pool.name})
    return rows


def simulate_turns(path: Path, slowdown: float, repeats: int, seed: int) -> list[dict[str, Any]]:
    machine, logs = recorded(path)
    print(f"{len(logs)} processes in which equal models took turns, on {machine}")
    rows = []
    for title, by in (("  A/A taking turns", 0.0), ("  A/B taking turns", slowdown)):
        counts = turn_verdicts(logs, slowdown=by, repeats=repeats, seed=seed)
        wanted = ("slower",) if by else ("slower", "faster")
        goal = "wanted: 90%" if by else "wanted: at most 1%"
        rows.append(show(title, counts, wanted, goal) | {"model": "turns"})
    return rows


def real(
    rounds: int, device: str | None, folder: Path, seed: int, *, apart: bool
) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.tflite" for name in ("a", "copy", "b")]
    chain(paths[0], layers=100)
    shutil.copyfile(paths[0], paths[1])
    chain(paths[2], layers=103)
    counts: dict[str, Counter[str]] = {"copy": Counter(), "b": Counter()}
    for number in range(rounds):
        told: list[str] = []
        report = folder / f"round{number}.json"
        report.unlink(missing_ok=True)  # one of an earlier call
        command = [sys.executable, "-m", "edgeopt", "benchmark", *map(str, paths)]
        command += [] if apart else ["--interleave"]
        command += ["--order-seed", str(seed + number), "--report", str(report)]
        command += ["--device", device] if device else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise SystemExit(f"Round {number}: exit {done.returncode}\n{done.stderr}")
        for name in counts:
            verdict, ratio = compared(report, "a", name)
            counts[name][verdict] += 1
            told.append(f"{name} {verdict}" + (f" {ratio:.4f}" if ratio is not None else ""))
        print(f"round {number}: {', '.join(told)}", flush=True)
    return [
        show("real A/A (a copy)", counts["copy"], ("slower", "faster"), "wanted: at most 1%"),
        show("real A/B (3% more work)", counts["b"], ("slower",), "wanted: 90% on a quiet device"),
    ]


def compared(report: Path, old: str, new: str) -> tuple[str, float | None]:
    """The verdict of the command itself; "invalid" where it could not judge."""
    command = [sys.executable, "-m", "edgeopt", "compare", str(report), str(report), "--json"]
    command += ["--variant", old, "--variant", new]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    verdict = document.get("verdict", "invalid")
    if done.returncode not in (0, 6) or (verdict == "slower") != (done.returncode == 6):
        verdict = "invalid"
    if any("invalid" in reason for reason in document.get("reasons", ())):
        verdict = "invalid"
    return verdict, document.get("ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--real", type=int, metavar="N", default=0)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--noise", type=Path, default=NOISE)
    parser.add_argument("--turns", type=Path, default=TURNS)
    parser.add_argument("--keep-turns", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--slowdown", type=float, default=0.03)
    parser.add_argument("--precision", type=float, default=0.01)
    parser.add_argument("--processes", type=int, default=40)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--device")
    parser.add_argument("--folder", type=Path, default=Path("compare-models"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[Any] = []
    if args.record:
        models = args.model or [chain(args.folder / "a.tflite", layers=100)]
        record(models, args.record, args.processes, args.device)
    if args.simulate:
        noise = args.record or args.noise
        print(f"Recorded on {machine_of(noise)}; {args.repeats} simulated comparisons a row")
        rows += simulate(pools(noise, args.slowdown), args.repeats, args.seed, args.precision)
        rows += simulate_turns(args.turns, args.slowdown, args.repeats, args.seed)
    if args.coverage:
        for what, under, share in coverage(args.repeats, args.seed):
            rows.append({"what": what, "under": under, "share": share})
            print(f"{what:<44} {under:<40} {share}", flush=True)
    if args.real:
        rows += real(args.real, args.device, args.folder, args.seed, apart=args.apart)
        if args.keep_turns:
            keep([args.folder / f"round{n}.json" for n in range(args.real)], args.keep_turns)
    if not (args.record or rows):
        parser.error("give --simulate, --coverage, --real N or --record FILE")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
