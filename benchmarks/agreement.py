"""Do edgeopt's runners measure the same time as a plain C loop, and as TensorFlow's own program?

    python benchmarks/agreement.py [--folder FOLDER] [--device DEVICE] [--rounds 24] [--seconds 0.5]
        [--models WORD] [--benchmark-binary PATH] [--only PART] [--seed 0] [--json FILE]

1. The agent (Python) against the native runner (a C loop on LiteRT's C library): one process each
   a round, in random order, so that drift hits both alike. MobileNets must agree within 2%; for
   models under 100 us the difference, and what the runners themselves say a call costs, are stated.
2. With --benchmark-binary: the average of benchmark_model run by edgeopt against the same program
   and flags started by hand, in the same way: 1 must lie in the interval of their ratio. And the
   native runner without XNNPACK against it, which is another release of the same kernels.

The ratio of a round is of medians (of means in 2); the figure is the Hodges-Lehmann estimate of the
rounds' ratios with its signed-rank interval (Hollander and Wolfe, Nonparametric Statistical
Methods, 2nd ed., 3.2 and 3.3), which no single disturbed round moves. Processes of one model differ
by 2 to 3% by their memory layout alone: some twenty rounds are needed to tell 2%. FOLDER keeps the
models, which are built where it does not hold them (needs TensorFlow: MobileNet v1 and v2 with
random weights, float32 and int8).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

from edgeopt.artifact import hash_path  # noqa: E402
from edgeopt.device import Device, connect, resolve  # noqa: E402
from edgeopt.device.benchmark.output import parse_output  # noqa: E402
from edgeopt.device.benchmark.runner import flags  # noqa: E402
from edgeopt.device.run import RunRequest, RunResult  # noqa: E402
from edgeopt.device.runner import run  # noqa: E402
from edgeopt.feed import seeded_inputs  # noqa: E402
from edgeopt.model import read  # noqa: E402
from edgeopt.paths import cache_dir, config_dir, demo_dir  # noqa: E402
from edgeopt.progress import Silent  # noqa: E402

WITHIN = 0.02  # the bound for models of MobileNet's class
SMALL_NS = 100_000
NETWORKS = (("mobilenet_v1", 1.0, 224), ("mobilenet_v2", 1.0, 224), ("mobilenet_v1", 0.25, 128))
Way = Callable[[RunRequest], float]


@dataclass(frozen=True)
class Agreement:
    """The ratio of two ways, over rounds; `low` to `high` is its 95% interval. Times in ns."""

    model: str
    first: str
    second: str
    first_ns: float
    second_ns: float
    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def holds_one(self) -> bool:
        return self.low <= 1 <= self.high

    @property
    def verdict(self) -> str:
        if self.low >= 1 - WITHIN and self.high <= 1 + WITHIN:
            return "within 2%"
        if self.high < 1 - WITHIN or self.low > 1 + WITHIN:
            return "apart"
        return "not to be told"


def hodges_lehmann(values: Sequence[float]) -> tuple[float, float, float]:
    """The estimate and its 95% interval: the median of all pairs' means, and their k-th from both
    ends, k from the normal approximation; below six values the interval is just their range."""
    size = len(values)
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    spread = math.sqrt(size * (size + 1) * (2 * size + 1) / 24)
    k = max(0, math.floor(size * (size + 1) / 4 - 1.96 * spread)) if size >= 6 else 0
    return statistics.median(means), means[k], means[-1 - k]


def agreement(
    model: str, names: tuple[str, str], times: Sequence[tuple[float, float]]
) -> Agreement:
    """Of rounds (first_ns, second_ns)."""
    logs = [math.log(first / second) for first, second in times]
    middle, low, high = map(math.exp, hodges_lehmann(logs))
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return Agreement(model, *names, *medians, middle, low, high, len(times))


def in_turn(
    ways: dict[str, Way], request: RunRequest, rounds: int, source: random.Random
) -> list[tuple[float, ...]]:
    """One process of each way a round, in random order; the times of a round in `ways`' order."""
    found = []
    for _ in range(rounds):
        order = list(ways)
        source.shuffle(order)
        times = {name: ways[name](request) for name in order}
        found.append(tuple(times[name] for name in ways))
    return found


def models(folder: Path) -> list[Path]:
    """One dense operation, the small model that ships with edgeopt, and MobileNets."""
    from tflite_models import fully_connected

    from edgeopt.zoo import build, builder_named, write_samples

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, alpha, size in NETWORKS:
        builder = builder_named(name)
        options = builder.chosen({"size": size, "alpha": alpha})
        keras, samples = (folder / f"{name}_{alpha}_{size}{s}" for s in (".keras", ".npz"))
        for scheme in ("float32", "int8"):
            found.append(folder / f"{keras.stem}_{scheme}.tflite")
            if found[-1].is_file():
                continue
            if not keras.is_file():
                build(builder, options, keras, weights=None, seed=1, progress=Silent())
                write_samples(builder.inputs(options), samples, count=16, seed=1)
            convert(keras, scheme, samples, found[-1])
    dense = folder / "dense.tflite"
    dense.write_bytes(fully_connected())
    return [dense, demo_dir() / "fashion.tflite", *found]


def chosen(arguments: Any) -> list[Path]:
    return [path for path in models(Path(arguments.folder)) if arguments.models in path.name]


def convert(source: Path, scheme: str, samples: Path, output: Path) -> None:
    program = [sys.executable, "-m", "edgeopt", "convert", str(source), "--target", "cpu"]
    words = ["--scheme", scheme, "--output", str(output)]
    words += ["--calibration", str(samples)] if scheme == "int8" else []
    subprocess.run([*program, *words], check=True, capture_output=True)


def wanted(model: Path, seconds: float, threads: int) -> RunRequest:
    return RunRequest(
        model=model,
        sha256=hash_path(model),
        runs=5,
        time_s=seconds,
        warmup=None,
        threads=threads,
        inputs=seeded_inputs(read(model).inputs, 4),
        want_outputs=False,
    )


def compare_runners(device: Device, arguments: Any, small: dict[str, Any]) -> list[Agreement]:
    source, found = random.Random(arguments.seed), []
    last: dict[str, RunResult] = {}

    def by(runtime: str) -> Way:
        def measured(request: RunRequest) -> float:
            last[runtime] = run(device, request, Silent(), runtime)
            return float(statistics.median(last[runtime].samples_ns or ()))

        return measured

    ways = {"agent": by("litert"), "native": by("native")}
    for model in chosen(arguments):
        request = wanted(model, arguments.seconds, arguments.threads)
        times = in_turn(ways, request, arguments.rounds, source)
        row = agreement(model.stem, ("agent", "native"), [(a, b) for a, b in times])
        found.append(row)
        show(row)
        if row.second_ns < SMALL_NS:
            said = {name: r.conditions.get("call_overhead_ns") for name, r in last.items()}
            small[model.stem] = {"difference_ns": row.first_ns - row.second_ns, "call_ns": said}
        memory(last)
    return found


def memory(last: dict[str, RunResult]) -> None:
    """What each runner needs to begin, by the same meanings."""
    for name, r in last.items():
        if r.init_ns and r.first_ns and r.peak_rss_bytes and r.base_rss_bytes:
            begin = f"init {r.init_ns / 1e6:.2f} ms, first {r.first_ns / 1e6:.2f} ms"
            peak, base = r.peak_rss_bytes / 2**20, r.base_rss_bytes / 2**20
            print(f"    {name}: {begin}, peak {peak:.1f} MiB ({base:.1f} of it without a model)")


def compare_programs(device: Device, arguments: Any) -> list[Agreement]:
    """benchmark_model by edgeopt, by hand, and the native runner with LiteRT's own kernels."""
    source, found = random.Random(arguments.seed), []
    binary = Path(arguments.benchmark_binary)
    program = binary / "benchmark_model" if binary.is_dir() else binary
    options = {"benchmark_binary": str(binary)}

    def ours(request: RunRequest) -> float:
        return (run(device, with_options(request, options), Silent(), "benchmark_model").summary_ns
                or {})["mean"]  # fmt: skip

    def by_hand(request: RunRequest) -> float:
        argv = [str(program), f"--graph={request.model}", *flags(request)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        return parse_output(done.stdout + done.stderr).measured_ns["mean"]

    def native(request: RunRequest) -> float:
        own = with_options(request, {"kernels": "builtin"})
        return statistics.fmean(run(device, own, Silent(), "native").samples_ns or ())

    for model in chosen(arguments):
        probe = RunRequest(model=model, sha256=hash_path(model), runs=5, warmup=2)
        runs = max(10, int(arguments.seconds * 1e9 / by_hand(probe)))
        request = RunRequest(
            model=model, sha256=hash_path(model), runs=runs, warmup=max(3, runs // 10),
            threads=arguments.threads, inputs=seeded_inputs(read(model).inputs, 4),
            want_outputs=False,
        )  # fmt: skip
        ways = {"edgeopt": ours, "by hand": by_hand, "native": native}
        times = in_turn(ways, request, arguments.rounds, source)
        for names, columns in ((("edgeopt", "by hand"), (0, 1)), (("native", "by hand"), (2, 1))):
            pairs = [(row[columns[0]], row[columns[1]]) for row in times]
            found.append(agreement(model.stem, names, pairs))
            show(found[-1], " (1 in the interval)" if found[-1].holds_one else " (1 outside)")
    return found


def with_options(request: RunRequest, options: dict[str, str]) -> RunRequest:
    from dataclasses import replace

    return replace(request, options=options)


def show(row: Agreement, more: str = "") -> None:
    print(
        f"{row.model:<30} {row.first:>8} {row.first_ns / 1e3:10.1f} us {row.second:>8}"
        f" {row.second_ns / 1e3:10.1f} us  ratio {row.ratio:.4f} ({row.low:.4f} to {row.high:.4f})"
        f"  {row.verdict}{more}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", default=str(cache_dir() / "agreement"))
    parser.add_argument("--device", default="local")
    parser.add_argument("--models", default="", help="only those with this in their names")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--benchmark-binary")
    parser.add_argument("--only", choices=("runners", "programs"), help="the first or second part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.benchmark_binary and arguments.device != "local":
        parser.error("by hand is on this machine: leave out --device")
    spec = resolve(arguments.device, folders=(Path.cwd(), config_dir()), defaults={})
    small: dict[str, Any] = {}
    with connect(spec) as device:
        print(
            f"seed {arguments.seed}, {arguments.rounds} rounds of {arguments.seconds:g} s each way"
        )
        rows = [] if arguments.only == "programs" else compare_runners(device, arguments, small)
        for name, said in small.items():
            calls = ", ".join(f"{k} {v} ns" for k, v in said["call_ns"].items())
            print(f"{name}: agent - native {said['difference_ns']:.0f} ns; an empty model: {calls}")
        if arguments.benchmark_binary and arguments.only != "runners":
            rows += compare_programs(device, arguments)
    if arguments.json:
        listed = [{**vars(row), "verdict": row.verdict} for row in rows]
        arguments.json.write_text(json.dumps({"rows": listed, "small": small}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
