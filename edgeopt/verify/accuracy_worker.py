"""The process that runs models over its share of the data: a JSON request in argv, JSON lines out.

Its own process, because a broken model can crash the interpreter.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.errors import EdgeoptError, InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.feed import feed, real_values
from edgeopt.model import read
from edgeopt.verify.accuracy import Totals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["main"]


class _Runner:
    """A model in the LiteRT interpreter; outputs in real units."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.facts: ModelFacts = read(path)
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path.name} cannot run on this machine: {error}") from error
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(self, sample: tuple[Any, ...]) -> NDArray[np.float64]:
        """The first output of one sample, flat, in real units."""
        for index, array in zip(self._inputs, feed(sample, self.facts.inputs), strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        first = self._interpreter.get_tensor(self._outputs[0])[:1]
        return real_values([first], self.facts.outputs[:1])[0].ravel()


def _count(totals: Totals, label: int | None, out: Any, base: Any) -> None:
    import numpy as np

    totals.samples += 1
    totals.classes = max(totals.classes, len(out))
    if label is not None:
        if not 0 <= label < len(out):
            raise InputError(
                f"Label {label} is not one of the model's {len(out)} classes.",
                "Check the data's labels and which output comes first.",
            )
        totals.labelled += 1
        totals.top1 += int(out.argmax() == label)
        totals.top5 += int(label in np.argsort(out)[-5:])
    if base is not None:
        totals.agree += int(out.argmax() == base.argmax())
        totals.signal += float(np.square(base).sum())
        totals.noise += float(np.square(out - base).sum())
        if label is not None:
            totals.base_top1 += int(base.argmax() == label)
            totals.base_top5 += int(label in np.argsort(base)[-5:])


def _work(request: dict[str, Any]) -> Totals:
    model = _Runner(Path(request["model"]))
    baseline = _Runner(Path(request["baseline"])) if request["baseline"] else None
    steps = Preprocess.from_mapping(request["preprocess"])
    data = load_dataset(request["data"], preprocess=steps)
    data = data.match((baseline or model).facts.inputs)
    labels = data.labels
    totals, told = Totals(), time.monotonic()
    shard, shards = int(request["shard"]), int(request["shards"])
    share = itertools.islice(enumerate(data.samples(request["limit"])), shard, None, shards)
    for index, sample in share:
        label = None if labels is None else int(labels[index])
        _count(totals, label, model(sample), baseline(sample) if baseline else None)
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            print(json.dumps({"done": totals.samples}), flush=True)
    return totals


def main() -> int:
    """Exit code 0 with totals, 1 with an error line."""
    try:
        totals = _work(json.loads(sys.argv[1]))
    except EdgeoptError as error:
        problem = {"kind": error.kind, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": problem}), flush=True)
        return 1
    print(json.dumps({"done": totals.samples, "totals": asdict(totals)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
