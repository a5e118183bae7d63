"""Fit the Edge TPU latency estimate on half of published latencies, and report on the other half.

    python benchmarks/estimate.py BENCHMARKS.json [--write] [--json FILE]

BENCHMARKS.json holds coral.ai's table of 16 networks on two hosts and a published sweep of 66
synthetic nets, all measured on real silicon. Whole networks and widths are divided by a hash, so
that no net is in both halves. --write puts the coefficients into edgeopt/estimate/edgetpu.toml.
Networks whose architecture is not known for certain are left out: benchmarks/edgetpu_networks.toml
has the features of the others (benchmarks/edgetpu_networks.py makes it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from edgeopt.estimate.features import Features, of_work  # noqa: E402
from edgeopt.estimate.work import work_of  # noqa: E402
from edgeopt.facts import Operator, Tensor  # noqa: E402
from edgeopt.toml_file import tomllib  # noqa: E402

# Of eight sets of terms, the one with the least error where each fitted net is left out in turn.
TERMS = ("macs", "reads", "operations")
HOSTS = ("usb3", "pcie")
COLUMNS = {"usb3": "desktop_cpu_usb3_edgetpu_ms", "pcie": "dev_board_edgetpu_ms"}
CPU_COLUMNS = {"usb3": "desktop_cpu_ms", "pcie": "embedded_cpu_ms"}
NETWORK_WEIGHT = 2.0  # a network counts as two widths of the sweep: it is what users have
PRIOR_WEIGHT, LINK_MS_PER_BYTE = 0.3, 2.5e-6  # about 400 MB/s over either link
COVERAGE = 0.9
# The 95% point of Student's t, one tail of a 90% interval, by degrees of freedom.
T_95 = {2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 8: 1.860, 10: 1.812, 20: 1.725}
# The rest of DeepLab's 52 and 241 ms over 11 million values that a resize and an arg max read.
CPU_VALUE_NS = {"usb3": 3.0, "pcie": 20.0}


@dataclass(frozen=True)
class Row:
    """One published latency in milliseconds, with the features of its net."""

    name: str
    group: str  # "network", "conv" or "dense"
    host: str
    features: Features
    ms: float
    cpu_ms: float | None = None
    plain_macs: int = 0

    @property
    def stratum(self) -> str:
        """Nets that stream and nets that do not are divided apart: both halves need both."""
        return f"{self.group} {'streams' if self.features.streamed else 'cached'}"


def halves(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Fitted and held out: the nets of a stratum in the order of their names' hashes, in turn."""
    names: dict[str, set[str]] = {}
    for row in rows:
        names.setdefault(row.stratum, set()).add(row.name)
    chosen = {
        name
        for group in names.values()
        for name in sorted(group, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[::2]
    }
    return [r for r in rows if r.name in chosen], [r for r in rows if r.name not in chosen]


def tensor(shape: tuple[int, ...], constant: bool = False) -> Tensor:
    return Tensor(index=0, name="", dtype="int8", shape=shape, constant=constant)


def layer(op: str, before: tuple[int, ...], weights: tuple[int, ...], after: tuple[int, ...],
          bias: bool) -> Operator:  # fmt: skip
    inputs = (tensor(before), tensor(weights, True), *([tensor(weights[:1], True)] if bias else []))
    return Operator(index=0, subgraph=0, op=op, version=1, inputs=inputs, outputs=(tensor(after),))


def sweep_net(group: str, width: int) -> Features:
    """The five layers of a net of the sweep, as its note describes them."""
    if group == "conv":
        size = [3] + 5 * [width]
        image = (1, 64, 64)
        layers = [
            layer("CONV_2D", (*image, a), (b, 3, 3, a), (*image, b), True)
            for a, b in pairwise(size)
        ]
        inputs, outputs = 64 * 64 * 3, 64 * 64 * width
    else:
        size = [64, *4 * [width], 10]
        layers = [
            layer("FULLY_CONNECTED", (1, a), (b, a), (1, b), False) for a, b in pairwise(size)
        ]
        inputs, outputs = 64, 10
    return of_work([work_of(op) for op in layers], inputs=inputs, outputs=outputs)


def rows_of(path: Path) -> list[Row]:
    published = json.loads(path.read_text())
    found = []
    seen: dict[tuple[str, int], list[float]] = {}
    for name, content in published["sweeps"]["files"].items():
        group = "conv" if "_CONV_" in name else "dense"
        for width, *_, ms in content["rows"]:
            seen.setdefault((group, int(width)), []).append(ms)
    for (group, width), times in sorted(seen.items()):
        found.append(Row(f"{group} {width}", group, "pcie", sweep_net(group, width), mean(times)))
    known = tomllib.loads(Path(__file__).with_name("edgetpu_networks.toml").read_text())
    networks = {n.pop("name"): n for n in known["network"]}
    for row in published["coral_table"]["rows"]:
        if (counted := networks.get(row["model"])) is None:
            continue
        plain = counted.pop("plain_macs")
        features = Features(**counted)
        for host in HOSTS:
            ms, cpu = row[COLUMNS[host]], row[CPU_COLUMNS[host]]
            found.append(Row(row["model"], "network", host, features, ms, cpu, plain))
    return found


def columns(row: Row) -> list[float]:
    """In the order of the coefficients: the terms, then link and fixed time of each host."""
    f = row.features
    crossing = f.streamed + f.inputs + f.outputs
    hosts = [v for host in HOSTS for v in ((crossing, 1.0) if host == row.host else (0.0, 0.0))]
    return [*(float(getattr(f, term)) for term in TERMS), *hosts]


def fit(rows: list[Row]) -> np.ndarray:
    """Coefficients that are not negative, with the least squares of relative errors."""
    weights = np.array([NETWORK_WEIGHT if r.group == "network" else 1.0 for r in rows])
    scale = weights / np.array([r.ms for r in rows])
    matrix = np.array([columns(r) for r in rows]) * scale[:, None]
    expected = np.zeros((len(HOSTS), matrix.shape[1]))
    for index in range(len(HOSTS)):  # a host without a streaming net keeps a likely link
        expected[index, len(TERMS) + 2 * index] = PRIOR_WEIGHT / LINK_MS_PER_BYTE
    target = np.concatenate([weights, np.full(len(HOSTS), PRIOR_WEIGHT)])
    return nonnegative(np.concatenate([matrix, expected]), target)


def nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares with coefficients that are not negative: drop the most negative and repeat."""
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    used = list(range(matrix.shape[1]))
    while True:
        solved, *_ = np.linalg.lstsq(matrix[:, used] / size[used], target, rcond=None)
        if (solved >= 0).all():
            break
        used.pop(int(solved.argmin()))
    found = np.zeros(matrix.shape[1])
    found[used] = solved / size[used]
    return found


def ratio(row: Row, found: np.ndarray) -> float:
    """Measured over estimated."""
    return float(row.ms / (np.array(columns(row)) @ found))


def left_out(rows: list[Row]) -> list[tuple[Row, float]]:
    """The ratio of each row to an estimate that was fitted without its net."""
    return [(row, ratio(row, fit([r for r in rows if r.name != row.name]))) for row in rows]


def interval(without: list[tuple[Row, float]]) -> tuple[float, float]:
    """Factors around the estimate from ratios of nets that were left out: Student's t of their
    logarithms about 0, with as many degrees of freedom as nets (both hosts of one are no two), for
    one new net. Quantiles of so few nets would be too narrow."""
    nets = len({row.name for row, _ in without})
    spread = math.sqrt(mean(math.log(q) ** 2 for _, q in without))
    reach = T_95[max(n for n in T_95 if n <= nets)] * spread * math.sqrt(1 + 1 / nets)
    return math.exp(-reach), math.exp(reach)


def summary(rows: list[Row], found: np.ndarray, factors: dict[str, tuple[float, float]]) -> dict:
    ratios = [ratio(r, found) for r in rows]
    errors = [abs(1 / q - 1) for q in ratios]
    inside = [
        factors[kind(r)][0] <= q <= factors[kind(r)][1] for r, q in zip(rows, ratios, strict=True)
    ]
    return {
        "rows": len(rows),
        "median_error": median(errors),
        "mean_error": mean(errors),
        "largest_error": max(errors),
        "coverage": mean(inside),
    }


def kind(row: Row) -> str:
    return "network" if row.group == "network" else "sweep"


def cpu_rates(rows: list[Row]) -> dict[str, float]:
    """Multiply-accumulates a millisecond of a host's own processor: the geometric mean."""
    return {
        host: math.exp(mean(
            math.log(r.plain_macs / r.cpu_ms)
            for r in rows if r.group == "network" and r.host == host and r.cpu_ms
        ))
        for host in HOSTS
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmarks", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = rows_of(options.benchmarks)
    fitted, held = halves(rows)
    found = fit(fitted)
    without = left_out(fitted)
    factors = {
        name: interval([(r, q) for r, q in without if kind(r) == name])
        for name in ("network", "sweep")
    }
    report(fitted, held, found, factors)
    result = content(fitted, found, factors)
    result["tables"] = {
        half: {
            group: summary(part, found, factors)
            for group in ("network", "conv", "dense")
            if (part := [r for r in side if r.group == group])
        }
        for half, side in (("fitted", fitted), ("held out", held))
    }
    for half, groups in result["tables"].items():
        for group, numbers in groups.items():
            print(half.ljust(9), group.ljust(8), {k: round(v, 3) for k, v in numbers.items()})
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True))
    if options.write:
        write(result)


def report(
    fitted: list[Row], held: list[Row], found: np.ndarray, factors: dict[str, tuple[float, float]]
) -> None:
    print(f"{'net':22}{'host':6}{'half':10}{'measured':>10}{'estimated':>11}{'error':>8}  interval")
    for row in fitted + held:
        estimate = row.ms / ratio(row, found)
        low, high = (estimate * f for f in factors[kind(row)])
        mark = "" if low <= row.ms <= high else "  outside"
        half = "fitted" if row in fitted else "held out"
        print(
            f"{row.name:22}{row.host:6}{half:10}{row.ms:10.3f}{estimate:11.3f}"
            f"{100 * (estimate / row.ms - 1):+7.0f}%  {low:.2f} to {high:.2f}{mark}"
        )
    names = [*TERMS, *(f"{part} {host}" for host in HOSTS for part in ("link", "fixed"))]
    print({n: float(f"{v:.4g}") for n, v in zip(names, found, strict=True)}, factors)


def content(fitted: list[Row], found: np.ndarray, factors: dict[str, Any]) -> dict[str, Any]:
    """What the estimator reads, in nanoseconds for each unit of a feature."""
    rates = cpu_rates(fitted)
    names = {r.name for r in fitted if r.group == "network"}
    parts = (*TERMS, "streamed", "inputs", "outputs")
    seen = {
        part: [f(getattr(r.features, part) for r in fitted) for f in (min, max)] for part in parts
    }
    return {
        "fitted_networks": sorted(names),
        "fitted_rows": len(fitted),
        "factors": factors,
        "ns": dict(zip(TERMS, (1e6 * found[: len(TERMS)]).tolist(), strict=True)),
        "hosts": {
            host: {
                "link_ns_per_byte": 1e6 * found[len(TERMS) + 2 * i],
                "fixed_ns": 1e6 * found[len(TERMS) + 2 * i + 1],
                "cpu_ns_per_mac": 1e6 / rates[host],
                "cpu_ns_per_value": CPU_VALUE_NS[host],
            }
            for i, host in enumerate(HOSTS)
        },
        "range": seen,
    }


def write(result: dict[str, Any]) -> None:
    """The estimator's own data file."""
    lines = [
        "# Written by benchmarks/estimate.py --write: do not edit. Nanoseconds for each unit.",
        "# Half of coral.ai's benchmark table and of the sweeps of github.com/Jorgitou98.",
        f"fitted_rows = {result['fitted_rows']}",
        f"fitted_networks = {json.dumps(result['fitted_networks'])}",
        f"coverage = {COVERAGE}",
        f"factors = {json.dumps([float(f'{v:.3f}') for v in result['factors']['network']])}",
    ]
    lines += ["", "[ns]", *(f"{k} = {float(f'{v:.4g}')!r}" for k, v in result["ns"].items())]
    for host, numbers in result["hosts"].items():
        lines += ["", f"[host.{host}]"]
        lines += [f"{k} = {float(f'{v:.4g}')!r}" for k, v in numbers.items()]
    lines += ["", "[range]", *(f"{k} = {v!r}" for k, v in result["range"].items())]
    path = ROOT / "edgeopt" / "estimate" / "edgetpu.toml"
    path.write_text("\n".join(lines) + "\n")
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
