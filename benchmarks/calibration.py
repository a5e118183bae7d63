#!/usr/bin/env python3
"""Calibration side by side: TensorFlow's converter, ours in one process, ours in all.

    benchmarks/calibration.py [--model PATH] [--calibration DATA] [--test DATA] [--preprocess TEXT]
                              [--samples 200] [--json FILE]

Samples per second (start-up apart), peak memory of the whole process tree, and what the results are
worth: agreement with the float model and SQNR on samples that were not calibrated with. Without
--model: MobileNetV2 with random weights (speed only). Fewer than 50 images are cropped and mirrored
(seeded) to fill up. Needs the `tf` extra; memory needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize, to_float
from edgeopt.optimize.calibration import processes_for
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
    began = time.perf_counter()
    watcher.start()
    out, _ = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed: {job['engine']}")
    answer = json.loads(out.splitlines()[-1])
    return {**answer, "total_s": time.perf_counter() - began, "peak_bytes": peak[0]}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    data = load_dataset(job["data"])
    floats, output = Path(job["float"]), Path(job["output"])
    request = ConversionRequest(
        scheme="int8", calibration_samples=job["samples"], processes=job["processes"]
    )
    if job["engine"] == "tflite-converter":
        from edgeopt.optimize.tflite_converter import convert_with_tensorflow

        with tempfile.TemporaryDirectory() as folder:
            matched = data.match(read(floats).inputs)
            answer = convert_with_tensorflow(
                Path(job["source"]),
                floats,
                request,
                Path(folder),
                dataset=matched,
                progress=Silent(),
            )
            output.write_bytes((Path(folder) / "result.tflite").read_bytes())
        seconds = answer["calibration_seconds"]
    else:
        made = quantize(floats, request, output, dataset=data, progress=Silent())
        assert made.calibration is not None
        seconds = made.calibration["seconds"]
    return {"samples_per_s": data.count(job["samples"]) / seconds, "calibration_s": seconds}


def outputs(model: Path, samples: np.ndarray) -> np.ndarray:
    """Real-valued first outputs, one row a sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=processes_for(99, None))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for sample in samples:
        value = sample[None]
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            value = np.clip(np.rint(value / scale) + zero, -128, 127)
        interpreter.set_tensor(source["index"], value.astype(source["dtype"]))
        interpreter.invoke()
        row = interpreter.get_tensor(result["index"]).astype(np.float64).ravel()
        if result["dtype"] == np.int8:
            scale, zero = result["quantization"]
            row = (row - zero) * scale
        rows.append(row)
    return np.array(rows)


def worth(found: np.ndarray, wanted: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    noise = np.sum((found - wanted) ** 2)
    signal = np.sum((wanted - wanted.mean(axis=1, keepdims=True)) ** 2)
    best = found.argmax(1)
    return {
        "agreement": float(np.mean(best == wanted.argmax(1))),
        "sqnr_db": float(10 * np.log10(signal / noise)) if noise and signal else None,
        "accuracy": None if labels is None else float(np.mean(best == labels)),
    }


def varied(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Seeded crops (60 to 100% of each side, moved) and mirror images of a few samples."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        image = images[index % len(images)]
        height, width = image.shape[:2]
        part = rng.uniform(0.6, 1.0)
        top, left = rng.uniform(0, 1 - part, 2) * (height, width)
        rows = (top + np.arange(height) * part).astype(int)
        columns = (left + np.arange(width) * part).astype(int)
        image = image[rows][:, columns]
        made.append(image[:, ::-1] if rng.random() < 0.5 else image)
    return np.array(made)


def random_model(folder: Path) -> Path:
    code = (
        "import keras, sys; keras.utils.set_random_seed(1); "
        "keras.applications.MobileNetV2(weights=None).save(sys.argv[1])"
    )
    path = folder / "mobilenet_v2.keras"
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=quiet, stderr=-3)
    return path


def arrays(args: argparse.Namespace, floats: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    """Calibration samples, test samples, and the test's labels."""
    inputs = read(floats).inputs
    if args.calibration is None:
        rng = np.random.default_rng(0)
        shape = (args.samples, *(inputs[0].shape or ())[1:])
        noise = rng.uniform(-1, 1, shape).astype(np.float32)
        return noise, noise[:20], None
    steps = Preprocess.parse(args.preprocess or "")
    data = load_dataset(args.calibration, preprocess=steps).match(inputs)
    calibration = np.array([s[0] for s in data.spread(args.samples)])
    test = load_dataset(args.test or args.calibration, preprocess=steps).match(inputs)
    samples, labels = np.array([s[0] for s in test.samples(args.test_samples)]), test.labels
    if len(calibration) < 50 and calibration.ndim == 4:
        return varied(calibration, args.samples, 1), varied(samples, 100, 2), None
    return calibration, samples, None if labels is None else labels[: len(samples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--model", "--calibration", "--test", "--preprocess", "--json", "--job"):
        parser.add_argument(name)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--test-samples", type=int, default=1000)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run_job(json.loads(args.job))))
        return
    with tempfile.TemporaryDirectory() as name:
        report(args, Path(name))


def report(args: argparse.Namespace, folder: Path) -> None:
    source = Path(args.model) if args.model else random_model(folder)
    floats = folder / "float.tflite"
    to_float(source, floats, progress=Silent())
    calibration, test, labels = arrays(args, floats)
    np.save(folder / "calibration.npy", calibration)
    wanted = outputs(floats, test)
    every = processes_for(len(calibration), None)
    rows = []
    for engine, count in (
        ("tflite-converter", 1),
        ("litert-quantizer", 1),
        ("litert-quantizer", every),
    ):
        output = folder / f"{engine}-{count}.tflite"
        job = {"engine": engine, "processes": count, "source": str(source), "float": str(floats),
               "output": str(output), "data": str(folder / "calibration.npy"),
               "samples": len(calibration)}  # fmt: skip
        row = {"engine": engine, "processes": count, **measured(job)}
        rows.append({**row, **worth(outputs(output, test), wanted, labels)})
    base = rows[0]["samples_per_s"]
    print(f"{source.name}: {len(calibration)} samples, {os.cpu_count()} processors, "
          f"load {os.getloadavg()[0]:.1f}; float accuracy "
          f"{worth(wanted, wanted, labels)['accuracy']}")  # fmt: skip
    for row in rows:
        print(
            f"{row['engine']:17} x{row['processes']}  {row['samples_per_s']:8.1f} samples/s "
            f"({row['samples_per_s'] / base:5.2f}x)  whole {row['total_s']:5.1f} s  "
            f"peak {row['peak_bytes'] / 1e6:6.0f} MB  agreement {row['agreement']:.3f}  "
            f"SQNR {row['sqnr_db'] or float('inf'):.1f} dB  accuracy {row['accuracy']}"
        )
    same = (folder / "litert-quantizer-1.tflite").read_bytes()
    print("same bytes from 1 and all processes:",
          same == (folder / f"litert-quantizer-{every}.tflite").read_bytes())  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps({"model": source.name, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
