"""What training is worth: accuracy, zeros, clusters and size of each combination beside plain int8.

    python benchmarks/training.py MODEL --train-data DATA --calibration DATA --eval-data DATA \
        [--preprocess STEPS] [--epochs N] [--techniques prune,prune+qat,...] [--json FILE]

One row a combination, converted to int8 with the same calibration data and measured on the same
evaluation data. Needs the `train` extra. Rows that are done are in edgeopt's cache: an interrupted
run goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EVERY = "prune,cluster,qat,prune+cluster,prune+qat,cluster+qat,prune+cluster+qat"


def converted(options: argparse.Namespace, techniques: list[str]) -> dict[str, Any]:
    """The report of one conversion. Raises SystemExit with the tool's own words."""
    command = [sys.executable, "-m", "edgeopt", "convert", options.model, "--scheme", "int8",
               "--calibration", options.calibration, "--eval-data", options.eval_data]  # fmt: skip
    if options.preprocess:
        command += ["--preprocess", options.preprocess]
    if techniques:
        command += ["--train-data", options.train_data]
        command += [word for name in techniques for word in ("--technique", name)]
        if options.epochs:
            command += ["--epochs", str(options.epochs)]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--output", str(Path(folder) / "result.tflite"), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(techniques) or 'plain'}: exit {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def row_of(report: dict[str, Any], name: str, dense: int | None) -> dict[str, Any]:
    final, training = report["artifacts"][-1], report["training"] or {"layers": []}
    zeros = [n["sparsity"] for n in training["layers"] if n["sparsity"] is not None]
    clusters = [n["clusters"] for n in training["layers"] if n["clusters"] is not None]
    return {
        "techniques": name,
        "float": report["accuracy"]["baseline"],
        "int8": report["accuracy"]["optimized"],
        "least_sparsity": min(zeros, default=None),
        "most_clusters": max(clusters, default=None),
        "size_bytes": final["size_bytes"],
        "gzip_bytes": final["gzip_bytes"],
        "times_smaller": (dense or final["gzip_bytes"]) / final["gzip_bytes"],
        "seconds": training.get("seconds"),
    }


def text_of(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for flag in ("--train-data", "--calibration", "--eval-data"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--techniques", default=EVERY)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in ["", *options.techniques.split(",")]:
        report = converted(options, name.split("+") if name else [])
        dense = rows[0]["gzip_bytes"] if rows else None
        rows.append(row_of(report, name or "post-training", dense))
        if len(rows) == 1:
            print(" | ".join(rows[0]))
        print(" | ".join(text_of(value) for value in rows[-1].values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
