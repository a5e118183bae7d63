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
from edgeopt.dataset.fitting import plain_name
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
        self._order: tuple[int, ...] = ()
        self._output = 0

    def __call__(self, sample: tuple[Any, ...]) -> NDArray[np.float64]:
        """The output of one sample, flat, in real units; its arrays are in the order of `follow`'s
        model, or of this one's inputs."""
        sample = tuple(sample[i] for i in self._order) if self._order else sample
        for index, array in zip(self._inputs, feed(sample, self.facts.inputs), strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        first = self._interpreter.get_tensor(self._outputs[self._output])[:1]
        return real_values([first], [self.facts.outputs[self._output]])[0].ravel()

    def follow(self, other: ModelFacts) -> None:
        """Take samples in the order of `other`'s inputs, and answer with what it has as its first
        output: by name, since two conversions need not agree in order."""
        self._order = _order(self.facts, other)
        outputs = [plain_name(t.name) for t in self.facts.outputs]
        wanted = plain_name(other.outputs[0].name)
        self._output = outputs.index(wanted) if outputs.count(wanted) == 1 else 0


def _order(facts: ModelFacts, other: ModelFacts) -> tuple[int, ...]:
    """Where each input of `facts` is among those of `other`. Raises ModelError when several inputs
    have other names: a guess could compare answers to different questions."""
    mine = [plain_name(t.name) for t in facts.inputs]
    theirs = [plain_name(t.name) for t in other.inputs]
    if len(mine) == len(theirs) == 1:
        return (0,)
    if sorted(mine) != sorted(theirs) or len(set(mine)) < len(mine):
        raise ModelError(
            f"{facts.path.name} has the inputs {', '.join(mine)}, its float model "
            f"{other.path.name} {', '.join(theirs)}: which belong together is not known.",
            "Give the float model that it was made from, or leave --baseline out.",
        )
    return tuple(theirs.index(name) for name in mine)


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
        if out.shape != base.shape:
            raise ModelError(
                f"The model answers with {out.size} values, its float model with {base.size}.",
                "Give the float model that it was made from, or leave --baseline out.",
            )
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
    data = data.in_order_of(request["input_names"]).match((baseline or model).facts.inputs)
    if baseline:
        model.follow(baseline.facts)
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
