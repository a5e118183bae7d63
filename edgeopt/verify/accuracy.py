"""Accuracy of a model on data: measured in worker processes, never assumed.

Labelled data gives top-1 and top-5; any data gives agreement with the float model and the
signal-to-quantization-noise ratio of its outputs.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgeopt.dataset import Preprocess
from edgeopt.errors import InputError, ModelError
from edgeopt.progress import Progress

__all__ = ["Accuracy", "Totals", "measure_accuracy"]


@dataclass(kw_only=True)
class Totals:
    """What workers count over their samples; `signal` and `noise` are sums of squares of outputs
    in real units, of the float model and of the difference to it."""

    samples: int = 0
    labelled: int = 0
    classes: int = 0
    top1: int = 0
    top5: int = 0
    base_top1: int = 0
    base_top5: int = 0
    agree: int = 0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, other: Totals) -> None:
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            merged = max(mine, theirs) if item.name == "classes" else mine + theirs
            setattr(self, item.name, merged)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """`metric` is "top1" or, without labels, "agreement" with float (whose own is then 1).

    `drop` is baseline minus optimized, a fraction. None: there was no baseline to compare with.
    """

    metric: str
    baseline: float | None
    optimized: float
    samples: int
    more: Mapping[str, float | None]

    @property
    def drop(self) -> float | None:
        return None if self.baseline is None else self.baseline - self.optimized

    @property
    def standard_error(self) -> float:
        """Of `optimized`, a share of independent samples: sqrt(p (1 - p) / n)."""
        return math.sqrt(self.optimized * (1 - self.optimized) / self.samples)

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "optimized": self.optimized,
            "drop": self.drop,
            "samples": self.samples,
            "standard_error": self.standard_error,
            **self.more,
        }


def measure_accuracy(
    model: Path,
    baseline: Path | None,
    data: str,
    preprocess: Preprocess,
    progress: Progress,
    *,
    processes: int | None = None,
    limit: int | None = None,
    input_names: Iterable[str] = (),
) -> Accuracy:
    """Run `model` (and `baseline`, its float original) over all of `data`.

    `input_names` say which inputs several arrays without names are for; without them they come in
    the order of the baseline's inputs, or the model's where there is none. The result does not
    depend on the number of processes. Raises InputError when the data does not fit the model or
    says nothing about it, ModelError when a model fails to run.
    """
    count = processes or os.cpu_count() or 1
    request = {
        "model": str(model),
        "baseline": str(baseline) if baseline else None,
        "data": data,
        "preprocess": preprocess.to_json(),
        "shards": count,
        "limit": limit,
        "input_names": list(input_names),
    }
    workers = [_Worker(request | {"shard": shard}) for shard in range(count)]
    try:
        totals = Totals()
        for worker in workers:
            worker.start(lambda: progress.advance(sum(w.done for w in workers)))
        for worker in workers:
            totals.add(worker.result())
    finally:
        for worker in workers:
            worker.stop()
    return _judge(totals, baseline is not None)


def _judge(totals: Totals, has_baseline: bool) -> Accuracy:
    if totals.samples == 0:
        raise InputError("The evaluation data holds no samples.")
    count, labelled = totals.samples, totals.labelled
    agreement = totals.agree / count if has_baseline and totals.classes > 1 else None
    noise = None
    if has_baseline and totals.signal > 0 and totals.noise > 0:
        noise = 10 * math.log10(totals.signal / totals.noise)
    if labelled:
        five = totals.classes > 5
        return Accuracy(
            metric="top1",
            baseline=totals.base_top1 / labelled if has_baseline else None,
            optimized=totals.top1 / labelled,
            samples=labelled,
            more={
                "top5": totals.top5 / labelled if five else None,
                "baseline_top5": totals.base_top5 / labelled if five and has_baseline else None,
                "agreement": agreement,
                "sqnr_db": noise,
            },
        )
    if agreement is None:
        raise InputError(
            "The data has no labels, and there is no float model to agree with.",
            "Give labelled data: class subfolders, or the arrays x and y (NAME.npz:x,y).",
        )
    return Accuracy(
        metric="agreement",
        baseline=1.0,
        optimized=agreement,
        samples=count,
        more={"sqnr_db": noise},
    )


class _Worker:
    """One process over every `shards`-th sample."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._answer: dict[str, Any] = {}
        self.done = 0

    def start(self, moved: Any) -> None:
        command = [
            sys.executable,
            "-m",
            "edgeopt.verify.accuracy_worker",
            json.dumps(self._request),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._listen, args=(moved,), daemon=True)
        self._thread.start()

    def _listen(self, moved: Any) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._answer = json.loads(line)
                self.done = int(self._answer.get("done", self.done))
                moved()

    def result(self) -> Totals:
        assert self._process is not None and self._thread is not None
        assert self._process.stderr is not None
        noise = self._process.stderr.read()
        self._process.wait()
        self._thread.join()
        if problem := self._answer.get("error"):
            kind = InputError if problem["kind"] == "input" else ModelError
            raise kind(problem["message"], problem["hint"])
        if "totals" not in self._answer:
            tail = noise.strip().splitlines()[-1:] or [f"exit code {self._process.returncode}"]
            raise ModelError(f"{Path(str(self._request['model'])).name} fails to run: {tail[0]}")
        return Totals(**self._answer["totals"])

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._thread is not None:
            self._thread.join()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
