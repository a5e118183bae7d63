"""The process that measures: it loads the data once, forks to run the models over it, and scores.

Its own process, because a broken model can crash the interpreter, and because forking is safe only
where nothing else runs. A JSON request on stdin, JSON lines out.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import read_message, take_over_stdout
from edgeopt.dataset import Dataset, Preprocess, load_dataset
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.facts import ModelFacts
from edgeopt.model.read import structure
from edgeopt.verify.accuracy_pool import PoolError, share_out
from edgeopt.verify.accuracy_runner import Runner, Together
from edgeopt.verify.decode import Decode, Decoder, Outputs, make_decoder
from edgeopt.verify.metrics import METRICS, PAIR_METRICS, Metric, metric_named, usual_metric
from edgeopt.verify.metrics.metric import Score
from edgeopt.verify.metrics.values import agreement, observe_pair, sqnr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["main"]

Rows = tuple["NDArray[Any]", ...]
_TOGETHER = 64  # samples whose outputs are put together
_PACE_S = 0.05  # and for how long at most: progress shows often enough
_CLASSES_LAST = ("top1", "top5", "auc", "wer", "cer")  # an output's best class means something


class _Evaluation:
    """One request, resolved: what is run, what is compared, how it is scored."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.model = structure(Path(request["model"]))
        self.baseline = structure(Path(request["baseline"])) if request["baseline"] else None
        self.data = self._data()
        self.count = self.data.count(request["limit"])
        if self.count == 0:
            raise InputError("The evaluation data holds no samples.")
        name, _, output = (request["metric"] or "").partition("@")
        decode = Decode.parse(request["decode"])
        if output:
            decode = Decode(name=decode.name, options={**decode.options, "output": output})
        self.targets: Sequence[Any] | None = None
        self.metric, self.name = self._metric(name)
        self.decoder = self._decoder(decode)

    @property
    def known(self) -> ModelFacts:
        """The model whose order of inputs and outputs counts: the float one where there is one."""
        return self.baseline or self.model

    def _data(self) -> Dataset:
        request = self.request
        data = load_dataset(
            request["data"],
            preprocess=Preprocess.from_mapping(request["preprocess"]),
            labels=request["labels"],
        )
        data = data.in_order_of(request["input_names"]).match(self.known.inputs)
        data.stop_at(request["limit"])
        if request["digest"] and data.digest() != request["digest"]:
            raise InputError(
                f"{request['data']} yields other samples every time: what the device answered "
                "cannot be compared.",
                "Seed its random numbers, or store the data as .npz.",
            )
        return data

    def _metric(self, name: str) -> tuple[Metric | None, str]:
        """The metric of labels, and its name; none for those of two models."""
        if name in PAIR_METRICS:
            if self.baseline is None:
                raise InputError(
                    f"The metric {name} compares with a float model, and there is none.",
                    "Give it with --baseline.",
                )
            return None, name
        if name:
            metric_named(name)
        targets = self.data.targets
        if targets is None and (name or self.baseline is None):
            missing = f"for the metric {name}" if name else "and there is no float model"
            raise InputError(
                f"The data has no labels, {missing}."
                if name
                else "The data has no labels, and there is no float model to agree with.",
                "Give labelled data: class subfolders, the arrays x and y (NAME.npz:x,y), or a "
                "file of labels with --labels.",
            )
        if targets is None:
            return None, "agreement"
        if len(targets) < self.count:
            raise InputError(f"{len(targets)} labels are not enough for {self.count} samples.")
        metric = metric_named(name or usual_metric(targets.kind))
        self.targets = targets.of(metric.target)
        return metric, metric.name

    def _decoder(self, decode: Decode) -> Decoder:
        if self.metric is not None:
            return make_decoder(decode, self.metric, self.known)
        if decode.function or decode.name not in ("", "scores", "values"):
            raise InputError(
                f"The metric {self.name} compares outputs as they are.",
                "Name one with --decode values,output=NAME.",
            )
        given = Decode(name="values", options=decode.options)
        return make_decoder(given, METRICS["mae"], self.known)

    def prepare(self) -> Callable[[int, int], Iterator[Any]]:
        """Runs in each fork: the models loaded, ready for one sample after the other."""
        like, recorded = self.baseline, self.request["recorded"]
        run = Runner(self.model, like, Path(recorded) if recorded else None)
        base = Runner(like, None) if like else None

        pace = 1

        def observe(start: int, stop: int) -> Iterator[Any]:
            nonlocal pace
            for first, last, rows in self.data.stacks(start, stop):
                while first < last:
                    until, began = min(last, first + pace), time.perf_counter()
                    yield from self._seen(run, base, first, until, rows)
                    spent = (time.perf_counter() - began) / (until - first)
                    pace = max(1, min(_TOGETHER, int(_PACE_S / max(spent, 1e-9))))
                    if rows is not None:
                        rows = tuple(array[until - first :] for array in rows)
                    first = until

        return observe

    def _seen(
        self, run: Runner, base: Runner | None, first: int, last: int, rows: Rows | None
    ) -> Iterator[Any]:
        """What is observed of samples `first` to `last`, which lie in front in `rows`."""
        if rows is not None:
            several = self._several(run, base, first, tuple(a[: last - first] for a in rows))
            if several is not None:
                yield from several
                return
        for index in range(first, last):
            sample = self.data.sample(index)
            own = self._outputs(run, index, sample)
            yield self._row(own, self._outputs(base, index, sample) if base else None)

    def _several(
        self, run: Runner, base: Runner | None, first: int, rows: Rows
    ) -> list[Any] | None:
        """The same by the short way; None where one of them needs the long one, which then tells
        what is wrong with it."""
        own = run.together(rows)
        other = base.together(rows) if own and base else None
        if own is None or (base and other is None):
            return None
        found = []
        try:
            for at in range(len(rows[0])):
                mine = self._one(own, at, first)
                found.append(self._row(mine, self._one(other, at, first) if other else None))
        except Exception:  # noqa: BLE001 - comes again one by one, and is told with its sample
            return None
        return found

    def _one(self, made: Together, at: int, first: int) -> Outputs:
        return Outputs(
            arrays=[array[at] for array in made[0]],
            given=partial(made[1], at),
            target=None if self.targets is None else self.targets[first + at],
        )

    def _row(self, own: Outputs, other: Outputs | None) -> list[Any]:
        return [
            self._observed(own),
            self._observed(other) if other else None,
            observe_pair(self._compared(own), self._compared(other)) if other else None,
        ]

    def _outputs(self, run: Runner, index: int, sample: tuple[Any, ...]) -> Outputs:
        arrays, given = run(index, sample)
        target = None if self.targets is None else self.targets[index]
        return Outputs(arrays=arrays, given=given, target=target)

    def _observed(self, outputs: Outputs) -> Any:
        if self.metric is None:
            return None
        return self.metric.observe(self.decoder.run(outputs), outputs.target)

    def _compared(self, outputs: Outputs) -> NDArray[np.float64]:
        import numpy as np

        if len(self.decoder.compared) == 1:
            return outputs.arrays[self.decoder.compared[0]]
        return np.concatenate([outputs.arrays[i].ravel() for i in self.decoder.compared])

    def judge(self, seen: Sequence[Any]) -> dict[str, Any]:
        """What the report says: see accuracy.Accuracy."""
        pairs = [row[2] for row in seen] if self.baseline else []
        noise, centred = (sqnr(pairs, centred=c) if pairs else None for c in (False, True))
        agreed = agreement(pairs) if pairs and max(row[5] for row in pairs) > 1 else None
        further = {
            "sqnr_db": noise.value if noise else None,
            "sqnr_centred_db": centred.value if centred else None,
        }
        if self.metric is None:
            return self._judge_pairs(agreed, noise, further)
        own = self.metric.score([row[0] for row in seen])
        base = self.metric.score([row[1] for row in seen]) if self.baseline else None
        compared = agreed if self.metric.name in _CLASSES_LAST else None
        more: dict[str, float | None] = {}
        for name, value in own.more.items():
            more[name] = value
            more[f"baseline_{name}"] = base.more[name] if base else None
        return {
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "baseline": base.value if base else None,
            "optimized": own.value,
            "standard_error": own.standard_error,
            "more": {**more, "agreement": compared.value if compared else None, **further},
            "notes": list(dict.fromkeys((*(base.notes if base else ()), *own.notes))),
        }

    def _judge_pairs(
        self, agreed: Score | None, noise: Score | None, further: dict[str, float | None]
    ) -> dict[str, Any]:
        """One value has no best class: then the noise is what can be said."""
        name = "sqnr_db" if agreed is None else self.name
        chosen = agreed if name == "agreement" else noise
        more: dict[str, float | None] = {"agreement": agreed.value if agreed else None, **further}
        more.pop(name)
        notes = [] if chosen else ["The outputs are those of the float model, without any noise."]
        return {
            "metric": name,
            "higher_is_better": True,
            "baseline": 1.0 if name == "agreement" else None,
            "optimized": chosen.value if chosen else None,
            "standard_error": chosen.standard_error if chosen else None,
            "more": more,
            "notes": notes,
        }


def _work(request: Mapping[str, Any], say: Callable[..., None]) -> dict[str, Any]:
    work = _Evaluation(request)
    count = work.count
    wanted = int(request["processes"] or usable_cores())
    say(done=0, total=count)
    gc.freeze()  # what the forks share is not to be touched, which would copy it
    workers, began = min(wanted, count), time.perf_counter()
    seen = share_out(count, workers, work.prepare, lambda done: say(done=done, total=count))
    spent = time.perf_counter() - began
    found = work.judge(seen)
    found["notes"] = [*work.data.notes, *found["notes"]]
    return {**found, "samples": count, "processes": workers, "seconds": spent}


def usable_cores() -> int:
    """Those that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_beside_the_parent() -> None:
    """What every evaluation needs, while the request is not there yet; and once for all forks."""
    import numpy  # noqa: F401

    import edgeopt.dataset.fitting
    import edgeopt.model.tflite  # noqa: F401

    with suppress(ImportError):  # told by who needs it
        import ai_edge_litert.interpreter  # noqa: F401


def main() -> None:
    """Answer one request: {"done", "total"} lines, then {"result"} or {"error", ...}."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before the forks
    pipe = take_over_stdout()
    _import_beside_the_parent()
    received = read_message(sys.stdin.buffer)
    if received is None:  # nobody asks any more
        return

    def say(**message: Any) -> None:
        pipe.write(json.dumps(message).encode() + b"\n")

    try:
        say(result=_work(received[0], say))
    except EdgeoptError as error:
        say(error=error.kind, message=error.message, hint=error.hint)
    except PoolError as error:
        said = error.problem
        if said["kind"] == "crash":
            say(crash=said["message"])
        else:
            say(error=said["kind"], message=said["message"], hint=said["hint"])
