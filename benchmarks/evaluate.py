"""`edgeopt evaluate` against the loop that a user would write, in turns in one run.

The loop: one interpreter with its default settings; decode an image, resize, scale, invoke, argmax.
Images per second are counted twice: over the whole command, with start-up and imports, and over
the samples alone ("steady"), which is what a long evaluation approaches. Both must agree on the
accuracy. Ratios count, and only on a quiet machine: a busy one gives both the same share. The
processor time of an image (whole command) tells the work apart from that.

    .venv/bin/python benchmarks/evaluate.py [--model M --data D --preprocess S] [--rounds 5]

Without --model: the shipped demo model, and where the shared models are beside the clone
(EDGEOPT_SHARED) also EfficientNet-lite0 over a folder of photographs and Fashion-MNIST's test set.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.dataset import Preprocess
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent

SHARED = Path(os.environ.get("EDGEOPT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@dataclass(frozen=True)
class Case:
    name: str
    model: Path
    data: Path
    steps: str


def plain_loop(model: str, data: str, steps: str) -> dict[str, float]:
    """What a user writes in ten lines; seconds of the loop alone are in the answer."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    given = Preprocess.parse(steps)
    mean, scale = np.float32((given.mean or (0.0,))[0]), np.float32(given.scale or 1.0)
    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    feed, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    height, width = feed["shape"][1:3]
    if Path(data).is_dir():
        files = sorted(Path(data).glob("*/*"))
        labels = [int(file.parent.name.split("_")[0]) for file in files]
    else:
        stored = np.load(data)
        files, labels = stored["x"], stored["y"]
    began, right = time.perf_counter(), 0
    for item, label in zip(files, labels, strict=True):
        if isinstance(item, Path):
            image = Image.open(item).convert("RGB").resize((width, height), Image.BILINEAR)
            item = np.asarray(image)
        x = (item[None].astype(np.float32) - mean) * scale
        interpreter.set_tensor(feed["index"], x)
        interpreter.invoke()
        right += int(interpreter.get_tensor(out["index"])[0].argmax() == label)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "samples": len(labels), "accuracy": right / len(labels)}


def process(*words: str) -> tuple[float, float, dict[str, Any]]:
    """(seconds, processor seconds, what it printed)."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    spent, after = time.perf_counter() - began, os.times()
    busy = after.children_user + after.children_system
    return spent, busy - before.children_user - before.children_system, json.loads(done.stdout)


def one_round(case: Case) -> dict[str, float]:
    words = [str(case.model), str(case.data), case.steps]
    loop_s, loop_cpu_s, loop = process(__file__, "--plain", *words)
    command = ["-m", "edgeopt", "evaluate", words[0], "--eval-data", words[1], "--json"]
    whole_s, whole_cpu_s, report = process(*command, "--preprocess", words[2])
    found = report["accuracy"]
    if abs(found["optimized"] - loop["accuracy"]) > 0.02 or found["samples"] != loop["samples"]:
        sys.exit(f"{case.name}: the loop finds {loop}, edgeopt {found}.")
    count = loop["samples"]
    return {
        "loop": count / loop_s,
        "edgeopt": count / whole_s,
        "loop steady": count / loop["seconds"],
        "edgeopt steady": report["run"]["samples_per_second"],
        "loop CPU": loop_cpu_s / count * 1e3,
        "edgeopt CPU": whole_cpu_s / count * 1e3,
    }


def photographs(folder: Path, count: int) -> Path:
    """`count` JPEG crops of the shared photographs, in class folders."""
    from PIL import Image

    sources = sorted((SHARED / "datasets" / "images_imagenet").glob("*/*"))
    for number in range(count):
        source = sources[number % len(sources)]
        image = Image.open(source).convert("RGB")
        step = 1 + (number // len(sources)) % 40
        image = image.crop((step, step, image.width - step, image.height - step))
        place = folder / source.parent.name
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:04d}.jpg", quality=92)
    return folder


def repeated(folder: Path, times: int) -> Path:
    """The demo's 60 samples, `times` over: enough to see a rate."""
    import numpy as np

    stored = np.load(demo_dir() / "samples.npz")
    x, y = np.concatenate([stored["x"]] * times), np.concatenate([stored["y"]] * times)
    np.savez(folder / "demo.npz", x=x, y=y)
    return folder / "demo.npz"


def float_file(model: Path, folder: Path) -> Path:
    from edgeopt.optimize import to_float

    return to_float(model, folder / f"{model.parent.name}.tflite", progress=Silent()).path


def cases(folder: Path, images: int) -> list[Case]:
    demo = demo_dir() / "fashion.tflite"
    found = [Case("demo, 12,000 arrays", demo, repeated(folder, 200), "scale=1/255")]
    if (SHARED / "DATA.md").is_file():
        models, data = SHARED / "models", SHARED / "datasets"
        lite = float_file(models / "efficientnet_lite0" / "model.keras", folder)
        photos = photographs(folder / "photographs", images)
        found.append(Case(f"EfficientNet-lite0, {images} JPEG", lite, photos,
                          "mean=127,scale=1/128"))  # fmt: skip
        small = float_file(models / "fmnist_dscnn" / "model.h5", folder)
        test = data / "fashion_mnist" / "test10k.npz"
        found.append(Case("Fashion-MNIST, 10,000 arrays", small, test, "scale=1/255"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--preprocess", default="")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.plain:
        print(json.dumps(plain_loop(*arguments.plain)))
        return
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        chosen = cases(Path(name), arguments.images)
        if arguments.model:
            chosen = [Case("given", arguments.model, arguments.data, arguments.preprocess)]
        for case in chosen:
            rows = [one_round(case) for _ in range(arguments.rounds)]
            middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            middle["ratio"] = statistics.median(r["edgeopt"] / r["loop"] for r in rows)
            middle["ratio steady"] = statistics.median(
                r["edgeopt steady"] / r["loop steady"] for r in rows
            )
            results[case.name] = middle
            print(f"{case.name} ({os.cpu_count()} cores, median of {len(rows)} rounds)")
            for key, value in middle.items():
                unit = "" if "ratio" in key else " ms/image" if "CPU" in key else " images/s"
                print(f"  {key:<16} {value:>9.2f}{unit}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
