#!/usr/bin/env python3
"""Calibration side by side: TensorFlow's converter, ours in one process, ours as it is by default.

    benchmarks/calibration.py [--model NAME|PATH] [--calibration DATA] [--test DATA]
                              [--preprocess TEXT] [--samples N] [--repeats N] [--json FILE]

Without --model: every shared model that is there (in `shared` beside the clone, or EDGEOPT_SHARED);
with none, MobileNetV2 with random weights (speed only). Both sides get the same stored samples, in
the same order, in new processes that take turns; figures are medians over --repeats, and `best` the
fastest (a small model's phase lasts 10 to 300 ms: on a busy machine the scheduler decides a single
one). For each:

  samples/s     from the first sample that the engine takes to the end of its last inference:
                loading, graph conversion and quantizing are not in it
  from float    the whole of our job from a float .tflite (TensorFlow has none)
  whole         seconds from the user's file (.h5, .keras) to the int8 file, both sides alike: ours
                includes TensorFlow's export of the float .tflite
  processor     seconds of all processors in `whole`: what a busy machine does not change
  peak          resident memory of the process and its children

and what the results are worth: agreement with the float model, SQNR and accuracy on samples that
were not calibrated with. Fewer than 50 images are cropped and mirrored (seeded) to fill up. Needs
the `tf` extra; memory needs Linux's /proc.
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
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Case, outputs, shared_case, varied  # first: it finds edgeopt

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize, to_float
from edgeopt.progress import Silent


def tree_rss_bytes(root: int) -> int:
    """Resident bytes of a process and its descendants."""
    parents, sizes = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(after_name[1])
        sizes[int(entry.parent.name)] = int(after_name[21]) * os.sysconf("SC_PAGE_SIZE")
    found, more = {root}, True
    while more:
        grown = found | {pid for pid, parent in parents.items() if parent in found}
        more, found = grown != found, grown
    return sum(sizes.get(pid, 0) for pid in found)


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """One conversion in a process of its own: its answer, and the tree's peak memory."""
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], tree_rss_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed: {job['engine']}")
    return {**json.loads(out.splitlines()[-1]), "peak_bytes": peak[0]}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    data = load_dataset(job["data"])
    source, floats, output = (Path(job[key]) for key in ("source", "float", "output"))
    request = ConversionRequest(
        scheme="int8", calibration_samples=job["samples"], processes=job["processes"]
    )
    times: dict[str, Any] = {"from_float_s": None}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        if job["engine"] == "tflite-converter":
            from edgeopt.optimize.tflite_converter import convert_with_tensorflow

            matched = data.match(read(floats).inputs)
            answer = convert_with_tensorflow(
                source, floats, request, folder, dataset=matched, progress=Silent()
            )
            times |= {"calibration_s": answer["calibration_seconds"], "processes": 1}
            output.write_bytes((folder / "result.tflite").read_bytes())
        else:
            to_float(source, folder / "float.tflite", progress=Silent())
            midway = time.perf_counter()
            made = quantize(
                folder / "float.tflite", request, output, dataset=data, progress=Silent()
            )
            assert made.calibration is not None
            times |= {
                "calibration_s": made.calibration["seconds"],
                "processes": made.calibration["processes"],
                "from_float_s": time.perf_counter() - midway,
            }
        times["whole_s"] = time.perf_counter() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    times["processor_s"] = sum(each.ru_utime + each.ru_stime for each in used)
    return {**times, "samples_per_s": data.count(job["samples"]) / times["calibration_s"]}


def worth(found: np.ndarray, wanted: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    noise = np.sum((found - wanted) ** 2)
    signal = np.sum((wanted - wanted.mean(axis=1, keepdims=True)) ** 2)
    best = found.argmax(1)
    return {
        "agreement": float(np.mean(best == wanted.argmax(1))),
        "sqnr_db": float(10 * np.log10(signal / noise)) if noise and signal else None,
        "accuracy": None if labels is None else float(np.mean(best == labels)),
    }


def random_model(folder: Path) -> Path:
    code = (
        "import keras, sys; keras.utils.set_random_seed(1); "
        "keras.applications.MobileNetV2(weights=None).save(sys.argv[1])"
    )
    path = folder / "mobilenet_v2.keras"
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=quiet, stderr=-3)
    return path


def arrays(case: Case, floats: Path, tests: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Calibration samples, test samples, and the test's labels."""
    inputs = read(floats).inputs
    if case.calibration is None:
        rng = np.random.default_rng(0)
        shape = (case.samples, *(inputs[0].shape or ())[1:])
        noise = rng.uniform(-1, 1, shape).astype(np.float32)
        return noise, noise[:20], None
    steps = Preprocess.parse(case.preprocess)
    data = load_dataset(case.calibration, preprocess=steps).match(inputs)
    calibration = np.array([s[0] for s in data.spread(case.samples)])
    if len(calibration) < 50 and calibration.ndim == 4:
        return varied(calibration, case.samples, 1), varied(calibration, 100, 2), None
    test = load_dataset(case.test or case.calibration, preprocess=steps).match(inputs)
    samples, labels = np.array([s[0] for s in test.samples(tests)]), test.labels
    return calibration, samples, None if labels is None else labels[: len(samples)]


def chosen(args: argparse.Namespace, folder: Path) -> dict[str, Case]:
    """By name: the cases that the command line means."""
    there = {n: shared_case(c) for n, c in CASES.items()}
    there = {n: c for n, c in there.items() if Path(c.source).exists()}
    if args.model is None:
        return there or {"random": Case(str(random_model(folder)), samples=100)}
    given = {
        key: value
        for key in ("calibration", "test", "preprocess", "samples")
        if (value := getattr(args, key)) is not None
    }
    return {Path(args.model).name: replace(there.get(args.model, Case(args.model)), **given)}


def median_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the numbers of equal runs, and the best rate among them."""
    middle = {
        key: None if value is None else statistics.median(row[key] for row in rows)
        for key, value in rows[0].items()
    }
    return {**middle, "best_samples_per_s": max(row["samples_per_s"] for row in rows)}


def compare(name: str, case: Case, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    floats = folder / "float.tflite"
    to_float(Path(case.source), floats, progress=Silent())
    calibration, test, labels = arrays(case, floats, args.test_samples)
    np.save(folder / "calibration.npy", calibration)
    engines = {"TFLiteConverter": ("tflite-converter", 1), "edgeopt, one process":
               ("litert-quantizer", 1), "edgeopt": ("litert-quantizer", None)}  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in engines}
    for _ in range(args.repeats):
        for label, (engine, processes) in engines.items():
            job = {"engine": engine, "processes": processes, "source": case.source,
                   "float": str(floats), "output": str(folder / f"{label}.tflite"),
                   "data": str(folder / "calibration.npy"),
                   "samples": len(calibration)}  # fmt: skip
            runs[label].append(measured(job))
    wanted = outputs(floats, test)
    rows = [
        {"engine": label, **median_row(found),
         **worth(outputs(folder / f"{label}.tflite", test), wanted, labels)}
        for label, found in runs.items()
    ]  # fmt: skip
    for row in rows:
        for rate in ("samples_per_s", "best_samples_per_s"):
            row[f"{rate}_ratio"] = row[rate] / rows[0][rate]
    one, auto = ((folder / f"{label}.tflite").read_bytes() for label in list(engines)[1:])
    return {"model": name, "samples": len(calibration), "test_samples": len(test),
            "repeats": args.repeats, "processors": os.cpu_count(), "load": os.getloadavg()[0],
            "float_accuracy": worth(wanted, wanted, labels)["accuracy"],
            "same_bytes": one == auto, "rows": rows}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    accuracy = result["float_accuracy"]
    print(
        f"{result['model']}: {result['samples']} calibration and {result['test_samples']} test "
        f"samples, {result['processors']} processors, load {result['load']:.1f}, float accuracy "
        f"{'-' if accuracy is None else f'{accuracy:.4f}'}; the same bytes from one process and by "
        f"default: {'yes' if result['same_bytes'] else 'NO'}"
    )
    print(
        f"  {'engine':21} proc. samples/s  times   best  times  from float  whole  processor    "
        "peak agreement  SQNR  accuracy"
    )
    for row in result["rows"]:
        part = f"{row['from_float_s']:8.1f} s" if row["from_float_s"] else f"{'-':>10}"
        sqnr = "-" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        right = "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
        print(
            f"  {row['engine']:21} {row['processes']:5.0f} {row['samples_per_s']:9.0f} "
            f"{row['samples_per_s_ratio']:6.2f} {row['best_samples_per_s']:6.0f} "
            f"{row['best_samples_per_s_ratio']:6.2f}  {part} {row['whole_s']:4.1f} s "
            f"{row['processor_s']:8.1f} s {row['peak_bytes'] / 1e6:4.0f} MB "
            f"{row['agreement']:9.4f} {sqnr:>5}  {right:>8}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--model", "--calibration", "--test", "--preprocess", "--json", "--job"):
        parser.add_argument(name)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--test-samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run_job(json.loads(args.job))))
        return
    results = []
    with tempfile.TemporaryDirectory() as name:
        for label, case in chosen(args, Path(name)).items():
            folder = Path(name) / "made" / label
            folder.mkdir(parents=True)
            results.append(compare(label, case, folder, args))
            show(results[-1])
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
