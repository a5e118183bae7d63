#!/usr/bin/env python3
"""What post-training int8 is worth: TensorFlow's converter, plain int8, and edgeopt's own choice.

    benchmarks/quality.py [--model NAME]... [--photos FOLDER] [--crops N] [--calibration-crops N]
                          [--test-samples N] [--edgetpu] [--extra RANGES,EQUALIZATION,BIAS]...
                          [--splitting X]...
                          [--json FILE]

The models are the shared ones (in `shared` beside the clone, or EDGEOPT_SHARED). For each, from the
same calibration samples in the same run:

  TFLiteConverter   TensorFlow's int8
  plain             edgeopt --ranges minmax --equalization off --bias-correction off
  auto              edgeopt as it is by default
  extra             edgeopt with what --extra forces, as `mse,on,on`
  split X           edgeopt with activations held twice, for up to X times the multiplications
  8-bit edges       the float model, of which only logits and probabilities are int8 (simulated, in
                    the range of these samples): no int8 model with a last softmax does better but
                    by chance, since logits that are a fraction of a step apart become equal

and on samples that none of them was calibrated with, in real units, each with its standard error:

  top-1       where there are labels
  agreement   share of samples whose largest output is the float model's; of equal ones the first
              counts, as argmax has it, so that half of the ties are lost
  or a tie    the same if any of the largest outputs may be the float model's
  if sure     the same among the samples for which the float model gives one class at least 0.5: a
              crop that shows nothing it knows is a draw between classes, which any noise decides
  SQNR        10 log10 of signal over noise of the logits (what goes into a last SOFTMAX), of each
              sample the mean over its classes taken off, summed over all samples; of C logits
              what lies below -ln(1024 C) then counts as that: no int8 softmax shows it

EfficientNet and ResNet-8 have no labelled photographs here: they see square crops of photographs,
calibration and evaluation from different ones (every second by name). Without --photos these are
the shared ones and those that scikit-image and scikit-learn ship, where they are installed. Crops
of one photograph are alike, so errors are those of a jackknife that leaves out whole photographs
(single samples where there are no photographs). Needs the `tf` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, all_outputs, crops, photographs, shared_case  # first: it finds edgeopt

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.model import read
from edgeopt.model.packing import pack, unpack
from edgeopt.optimize import ConversionRequest, quantize, to_float
from edgeopt.optimize.tflite_converter import convert_with_tensorflow
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest

PHOTOGRAPHIC = ("ic_resnet8", "efficientnet_lite0")
PLAIN = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")


@dataclass(frozen=True)
class Samples:
    """Calibration and evaluation samples as the model takes them; `groups` are those that the
    jackknife leaves out together."""

    calibration: np.ndarray
    evaluation: np.ndarray
    groups: np.ndarray
    labels: np.ndarray | None = None
    photos: int = 0


def with_logits(model: Path, folder: Path) -> Path:
    """A copy whose second output is the input of the last SOFTMAX, or the output again."""
    contents: Any = unpack(model.read_bytes())
    graph = contents.subgraphs[0]
    facts = read(model).subgraphs[0]
    wanted = facts.outputs[0].index
    makers = {op.outputs[0].index: op for op in facts.operators if op.outputs}
    while (op := makers.get(wanted)) and op.op in ("SOFTMAX", "QUANTIZE", "DEQUANTIZE", "RESHAPE"):
        wanted = op.inputs[0].index
        if op.op == "SOFTMAX":
            break
    else:
        wanted = facts.outputs[0].index
    graph.outputs = [int(graph.outputs[0]), wanted]
    contents.signatureDefs = []
    made = folder / f"{model.stem}_logits.tflite"
    made.write_bytes(pack(contents))
    return made


def answers(model: Path, samples: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and logits, a row a sample."""
    found = all_outputs(with_logits(model, folder), samples)
    return found[0], found[-1]


def jackknife(parts: np.ndarray, groups: np.ndarray, figure: Any) -> tuple[float, float]:
    """`figure` of the column sums of `parts` (a row a sample), and its standard error from leaving
    out a group at a time (Efron and Stein, 1981)."""
    names, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), parts.shape[1]))
    np.add.at(sums, places, parts)
    without = np.array([figure(sums.sum(0) - each) for each in sums])
    spread = np.sum((without - without.mean()) ** 2) * (len(names) - 1) / len(names)
    return float(figure(parts.sum(0))), float(np.sqrt(spread))


def probabilities(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def worth(found: Any, wanted: Any, samples: Samples) -> dict[str, Any]:
    """Figures of one model against the float one, each with its standard error."""
    (made, logits), (real, floats) = found, wanted
    best = made.argmax(1)
    ones = np.ones(len(best))

    def share(hits: np.ndarray) -> tuple[float, float]:
        return jackknife(np.stack([hits, ones], 1), samples.groups, lambda s: s[0] / s[1])

    row: dict[str, Any] = {"samples": len(best)}
    row["agreement"], row["agreement_se"] = share(best == real.argmax(1))
    row["agreement_or_tie"], row["agreement_or_tie_se"] = share(
        made[np.arange(len(best)), real.argmax(1)] == made.max(1)
    )
    sure = probabilities(floats).max(1) >= 0.5
    if sure.any():
        row["sure"] = float(sure.mean())
        hits = np.stack([(best == real.argmax(1))[sure], ones[sure]], 1)
        row["agreement_if_sure"], row["agreement_if_sure_se"] = jackknife(
            hits, samples.groups[sure], lambda s: s[0] / s[1]
        )
    if samples.labels is not None:
        row["top1"], row["top1_se"] = share(best == samples.labels)
        gained = (best == samples.labels).astype(float) - (real.argmax(1) == samples.labels)
        row["drop"], row["drop_se"] = share(-gained)
    floats, logits = (_shown(each) for each in (floats, logits))
    parts = np.stack([(floats**2).sum(1), ((floats - logits) ** 2).sum(1)], 1)
    if parts[:, 1].any():
        decibels = jackknife(parts, samples.groups, lambda s: 10 * np.log10(s[0] / s[1]))
        row["sqnr_db"], row["sqnr_db_se"] = decibels
    return row


def _shown(logits: np.ndarray) -> np.ndarray:
    """Logits less what all classes have in common and what no int8 softmax shows."""
    centred = logits - logits.mean(1, keepdims=True)
    shown = np.maximum(centred, -np.log(1024 * logits.shape[1]))
    return np.asarray(shown - shown.mean(1, keepdims=True))


def edges(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and logits as they are when they alone are int8: 255 steps from the least
    logit that shows to the largest, and the 1/256 of an int8 SOFTMAX."""
    shown = np.maximum(logits - logits.mean(1, keepdims=True), -np.log(1024 * logits.shape[1]))
    step = (shown.max() - shown.min()) / 255
    coarse = np.rint(shown / step) * step
    return np.clip(np.rint(probabilities(coarse) * 256), 0, 255) / 256, coarse


def photographic(name: str, floats: Path, args: argparse.Namespace) -> Samples:
    photos = photographs(args.photos)
    if len(photos) < 4:
        raise SystemExit(
            f"{name} needs at least 4 photographs, and {len(photos)} were found: install "
            "scikit-image or give --photos FOLDER."
        )
    side = (read(floats).inputs[0].shape or ())[1]
    steps = Preprocess.parse(CASES[name].preprocess)
    seen, _ = crops(photos[1::2], args.calibration_crops, side, part=(0.4, 1.0), seed=1)
    other, groups = crops(photos[::2], args.crops, side, part=(0.4, 1.0), seed=2)
    return Samples(
        prepared(seen, floats, steps), prepared(other, floats, steps), groups, photos=len(photos)
    )


def prepared(images: np.ndarray, floats: Path, steps: Preprocess) -> np.ndarray:
    """Through the same steps as a user's data."""
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "x.npy", images)
        data = load_dataset(str(Path(name) / "x.npy"), preprocess=steps)
        return np.array([s[0] for s in data.match(read(floats).inputs).samples()])


def stored(name: str, floats: Path, args: argparse.Namespace) -> Samples:
    case = shared_case(CASES[name])
    steps, inputs = Preprocess.parse(case.preprocess), read(floats).inputs
    assert case.calibration is not None
    assert case.test is not None
    seen = load_dataset(case.calibration, preprocess=steps).match(inputs)
    test = load_dataset(case.test, preprocess=steps).match(inputs)
    values = np.array([s[0] for s in test.samples(args.test_samples)])
    labels = test.labels
    return Samples(
        np.array([s[0] for s in seen.spread(case.samples)]),
        values,
        np.arange(len(values)),
        None if labels is None else labels[: len(values)],
    )


def requests(args: argparse.Namespace) -> dict[str, QualityRequest]:
    found = {"plain": PLAIN, "auto": QualityRequest()}
    for text in args.extra:
        ranges, equalization, bias = text.split(",")
        found[text] = QualityRequest(ranges=ranges, equalization=equalization, bias_correction=bias)
    for factor in args.splitting:
        found[f"split {factor}"] = QualityRequest(splitting=factor)
    return found


def compare(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    floats, source = folder / "float.tflite", Path(shared_case(CASES[name]).source)
    to_float(source, floats, progress=Silent())
    samples = (photographic if name in PHOTOGRAPHIC else stored)(name, floats, args)
    np.save(folder / "calibration.npy", samples.calibration)
    data = load_dataset(str(folder / "calibration.npy")).match(read(floats).inputs)
    count = len(samples.calibration)
    wanted = answers(floats, samples.evaluation, folder)
    rows = [{"engine": "float", **worth(wanted, wanted, samples)}]
    if not np.array_equal(*wanted):
        rows.append({"engine": "8-bit edges", **worth(edges(wanted[1]), wanted, samples)})

    began = time.perf_counter()
    base = ConversionRequest(scheme="int8", calibration_samples=count, legacy_ops=args.edgetpu)
    convert_with_tensorflow(source, floats, base, folder, dataset=data, progress=Silent())
    made = (folder / "result.tflite").replace(folder / "tensorflow.tflite")
    rows.append(_row("TFLiteConverter", made, began, wanted, samples, folder))
    for label, quality in requests(args).items():
        began = time.perf_counter()
        request = ConversionRequest(
            scheme="int8", calibration_samples=count, legacy_ops=args.edgetpu, quality=quality
        )
        made = folder / f"{label}.tflite"
        done = quantize(floats, request, made, dataset=data, progress=Silent(), source=source)
        row = _row(f"edgeopt {label}", made, began, wanted, samples, folder)
        rows.append({**row, "notes": list(done.notes), "quality": getattr(done, "quality", None)})
    return {"model": name, "calibration_samples": count, "photographs": samples.photos or None,
            "edgetpu": args.edgetpu, "load": os.getloadavg()[0], "rows": rows}  # fmt: skip


def _row(
    label: str, made: Path, began: float, wanted: Any, samples: Samples, folder: Path
) -> dict[str, Any]:
    seconds = time.perf_counter() - began
    found = worth(answers(made, samples.evaluation, folder), wanted, samples)
    size = made.stat().st_size
    return {"engine": label, **found, "seconds": seconds, "size_bytes": size}


def show(result: dict[str, Any]) -> None:
    photos = result["photographs"]
    print(
        f"{result['model']}: {result['calibration_samples']} calibration and "
        f"{result['rows'][0]['samples']} other samples"
        + (f" of {photos} photographs" if photos else "")
        + (", for the Edge TPU" if result["edgetpu"] else "")
        + f"; the float model is sure of {100 * result['rows'][0].get('sure', 0):.0f}%"
    )
    print(
        f"  {'':28} {'top-1':>15} {'drop':>15} {'agreement':>15} {'or a tie':>15} "
        f"{'if sure':>15} {'SQNR, dB':>12} seconds"
    )
    for row in result["rows"]:
        spent = f"{row['seconds']:7.1f}" if "seconds" in row else ""
        figures = ("top1", "drop", "agreement", "agreement_or_tie", "agreement_if_sure")
        cells = [_cell(row, figure, 4) for figure in figures]
        print(
            f"  {row['engine']:28} {' '.join(f'{c:>15}' for c in cells)} "
            f"{_cell(row, 'sqnr_db', 1):>12} {spent}",
            flush=True,
        )
        split = (row.get("quality") or {}).get("splitting") or {}
        if split:
            works = split["multiplications"]
            print(
                f"    {len(split['tensors'])} activations held twice: {works['before'] / 1e6:.1f} "
                f"million multiplications became {works['after'] / 1e6:.1f}, "
                f"{_bytes_before(split)}{row['size_bytes'] / 1e3:.0f} kB"
            )


def _bytes_before(split: dict[str, Any]) -> str:
    plain = split.get("plain_int8")
    return f"{plain['size_bytes'] / 1e3:.0f} kB became " if plain else ""


def _cell(row: dict[str, Any], name: str, digits: int) -> str:
    if name not in row:
        return "-"
    return f"{row[name]:.{digits}f} ± {row[f'{name}_se']:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", choices=sorted(CASES))
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--crops", type=int, default=480)
    parser.add_argument("--calibration-crops", type=int, default=200)
    parser.add_argument("--test-samples", type=int, default=10_000)
    parser.add_argument("--edgetpu", action="store_true", help="one scale a dense layer")
    parser.add_argument("--extra", action="append", default=[], metavar="RANGES,EQ,BIAS")
    parser.add_argument("--splitting", action="append", default=[], metavar="X")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        for label in args.model or CASES:
            if not Path(shared_case(CASES[label]).source).exists():
                print(f"{label}: skipped, the shared models are not here (set EDGEOPT_SHARED)")
                continue
            folder = Path(name) / label
            folder.mkdir()
            results.append(compare(label, folder, args))
            show(results[-1])
    if args.json:
        args.json.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
