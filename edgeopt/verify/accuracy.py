"""Accuracy of a model on data: measured in worker processes, never assumed.

What it means is the metric's to say (edgeopt.verify.metrics): by default top-1 of class numbers,
word errors of texts, mAP of boxes, F1 of answers, the mean absolute error of numbers, and without
labels the agreement with the float model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError

if TYPE_CHECKING:
    from edgeopt.dataset import Preprocess
    from edgeopt.progress import Progress

__all__ = ["Accuracy", "Measuring", "measure_accuracy"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """`metric` is a name of verify.metrics; without labels "agreement" with float (whose own is
    then 1), or for outputs of one value "sqnr_db".

    `baseline` and `optimized` are in the metric's unit. None: there was no baseline to compare
    with, or (sqnr_db) no noise to measure. `standard_error` is that of `optimized`. `more` are
    further figures of the same run; `where` is "host" or "device".
    """

    metric: str
    baseline: float | None
    optimized: float | None
    samples: int
    higher_is_better: bool = True
    standard_error: float | None = None
    more: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decode: str | None = None
    where: str = "host"
    processes: int = field(default=1, compare=False)
    seconds: float = field(default=0.0, compare=False)  # over the samples, without start-up

    @property
    def drop(self) -> float | None:
        """How much worse than the baseline, so above 0 is worse whatever the metric."""
        if self.baseline is None or self.optimized is None:
            return None
        lost = self.baseline - self.optimized
        return lost if self.higher_is_better else -lost

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "baseline": self.baseline,
            "optimized": self.optimized,
            "drop": self.drop,
            "samples": self.samples,
            "standard_error": self.standard_error,
            "where": self.where,
            "decode": self.decode,
            **self.more,
        }


class Measuring:
    """The process that measures, in a `with` block: it starts at once, so that its imports run
    beside those of its parent, and works from `ask` on, whether or not anybody waits."""

    def __init__(self) -> None:
        self._child = Child("edgeopt.verify.accuracy_worker")
        self._asked: tuple[Path, bool, str | None] | None = None

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__(None, None, None)

    def ask(
        self,
        model: Path,
        baseline: Path | None,
        data: str,
        preprocess: Preprocess,
        *,
        processes: int | None = None,
        limit: int | None = None,
        input_names: Iterable[str] = (),
        metric: str | None = None,
        decode: str | None = None,
        labels: str | None = None,
        recorded: Path | None = None,
        digest: str | None = None,
    ) -> None:
        """Have `model` (and `baseline`, its float original) run over all of `data`, or its first
        `limit`.

        `input_names` say which inputs several arrays without names are for; without them they come
        in the order of the baseline's inputs, or the model's where there is none. `metric` (NAME or
        NAME@OUTPUT) and `decode` are those of the flags, `labels` a file beside the data.
        `recorded` is a folder that accuracy_runner.Recorder wrote: the model's outputs come from
        there, for data of this `digest`.
        """
        request = {
            "model": str(model),
            "baseline": str(baseline) if baseline else None,
            "data": data,
            "preprocess": preprocess.to_json(),
            "processes": processes,
            "limit": limit,
            "input_names": list(input_names),
            "metric": metric,
            "decode": decode,
            "labels": labels,
            "recorded": str(recorded) if recorded else None,
            "digest": digest,
        }
        try:
            self._child.send(request)
        except ChildDied as died:
            raise _crashed(model, str(died)) from died
        self._asked = model, recorded is not None, decode

    @property
    def busy(self) -> bool:
        """Whether it was asked."""
        return self._asked is not None

    def answer(self, progress: Progress) -> Accuracy:
        """What was asked for. It does not depend on the number of processes.

        Raises InputError when the data does not fit the model or the metric, or says nothing about
        it, ToolError when a library for the metric is missing, ModelError when a model fails.
        """
        assert self._asked is not None
        model, recorded, decode = self._asked
        try:
            while "done" in (answer := self._child.answer()):
                progress.advance(answer["done"], answer["total"])
        except ChildDied as died:
            raise _crashed(model, str(died)) from died
        if "crash" in answer:
            raise _crashed(model, answer["crash"])
        found: dict[str, Any] = answer["result"]
        notes = tuple(found.pop("notes"))
        where = "device" if recorded else "host"
        return Accuracy(**found, notes=notes, decode=decode, where=where)


def measure_accuracy(
    model: Path,
    baseline: Path | None,
    data: str,
    preprocess: Preprocess,
    progress: Progress,
    **more: Any,
) -> Accuracy:
    """`Measuring.ask` with these and `more`, and its answer. Raises what they raise."""
    with Measuring() as measuring:
        measuring.ask(model, baseline, data, preprocess, **more)
        return measuring.answer(progress)


def _crashed(model: Path, how: str) -> ModelError:
    lines = how.strip().splitlines() or ["no answer"]
    said = lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"
    return ModelError(
        f"{model.name} fails to run: {said}",
        "The file is damaged, or has operations that this runtime does not know.",
    )
