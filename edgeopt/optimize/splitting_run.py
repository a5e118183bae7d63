"""Hold activations twice where that pays: those with the most noise for the work first, in sets
that grow up to a bound, each set quantized and measured on samples held out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError
from edgeopt.facts import Subgraph
from edgeopt.optimize.calibration import Ranges
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.rounding_run import compared, judged
from edgeopt.optimize.selection import Trial
from edgeopt.optimize.selection_run import Drawn, Improved, Jobs
from edgeopt.optimize.splitting import left_noise, split, work_of
from edgeopt.optimize.splitting_units import Unit, units
from edgeopt.optimize.work import judged_samples
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["hold_twice", "joining", "sizes"]

_WORKER = "edgeopt.optimize.selection_worker"
_COPIES = 2
_RANKED = 24  # samples that the noise of each activation is measured on
_FAINT = 0.005  # of all noise: a unit with less is not worth widening
_MORE = 0.97  # of the loss of a smaller set: else the larger one is not worth its work
_GAINED = 1 - left_noise([0.0, 0.5], 1.0)  # three quarters


def hold_twice(
    better: Improved,
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges,
    drawn: Drawn,
    *,
    job: Jobs,
    progress: Progress,
) -> Improved:
    """`better` with activations held twice, where the request allows that to cost work and where it
    loses less on the samples held out: `result` is then made anew.

    `drawn` gives samples to fit on, an array an input. What was tried is under `splitting` in the
    quality report, with the multiplications before and after. Raises ModelError when the runtime
    crashes.
    """
    if request.quality.split_limit <= 1:
        return better
    began = time.perf_counter()
    run = _Run(better, float_path, request, result, job)
    why_not = run.why_not(measured)
    if why_not:
        return run.refused(why_not)
    progress.stage("Finding activations to hold twice")
    order, why_not = run.ordered(drawn(_RANKED))
    if why_not:
        return run.refused(why_not)
    progress.stage("Trying activations held twice")
    tried = run.tried(order, judged_samples(measured.kept, float_path, request.scheme))
    before, *after = tried.trials
    best = _best(after)
    said = compared(before, after[best]) | {
        "trials": [
            run.trial_json(order[:size], trial)
            for size, trial in zip(tried.sizes, after, strict=True)
        ],
        "seconds": round(time.perf_counter() - began, 3),
    }
    if not said["kept"]:
        return run.refused(f"it loses no less on {len(before.noise)} samples held out", said)
    return run.adopted(order[: tried.sizes[best]], tried.files[best], said, after[best])


def joining(
    graph: Subgraph, noise: Mapping[Unit, float], limit: float, copies: int = _COPIES
) -> list[Unit]:
    """Units in the order in which they are to be split: the most noise for the work that it adds to
    those before, as long as all together stay within `limit` times the multiplications."""
    least = work_of(graph, {})
    chosen: dict[Unit, int] = {}
    floor = _FAINT * math.fsum(noise.values())
    left = [unit for unit, cost in noise.items() if cost > floor]
    while left:
        before = work_of(graph, chosen)
        works = {unit: work_of(graph, {**chosen, unit: copies}) for unit in left}
        left = [unit for unit in left if works[unit] <= limit * least]
        if not left:
            break
        best = max(left, key=lambda unit: noise[unit] / max(works[unit] - before, 1))
        chosen[best] = copies
        left.remove(best)
    return list(chosen)


def sizes(count: int) -> list[int]:
    """How many of the units to try: 1, 2, 3, 4, 6, 8, 12 ... and all."""
    found = [1, 2, 3]
    while found[-1] < count:
        found.append(found[-2] * 2)
    return sorted({min(size, count) for size in found})


def _best(after: Sequence[Trial]) -> int:
    """The first set that no larger one betters by more than a little."""
    best = 0
    for number, trial in enumerate(after):
        if trial.loss < after[best].loss * _MORE:
            best = number
    return best


def _decibels(found: float | None) -> str:
    return "no noise" if found is None else f"{found:.1f} dB"


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """`trials` begins with nothing split, the others belong to `sizes` and `files`."""

    sizes: list[int]
    files: list[Path]
    trials: list[Trial]


@dataclass
class _Run:
    better: Improved
    float_path: Path
    request: ConversionRequest
    result: Path
    job: Jobs
    graph: Subgraph = field(init=False)
    units: list[Unit] = field(init=False)

    def __post_init__(self) -> None:
        from edgeopt.model.tflite import parse

        self.graph = parse(self.better.model.read_bytes()).subgraphs[0]
        known = {t.index for t in self.graph.tensors if t.name in self.better.ranges}
        self.units = [u for u in units(self.graph) if known.issuperset(u.tensors)]

    def why_not(self, measured: Ranges) -> str:
        if self.request.scheme != "int8":
            return f"{self.request.scheme} activations are fine enough"
        if self.request.keep:
            return f"{' and '.join(self.request.keep)} must stay"
        if not measured.kept:
            return f"only {measured.samples} samples, too few to hold some out"
        return "" if self.units else "none lies between layers that can take it"

    def work(self, chosen: Sequence[Unit]) -> int:
        return work_of(self.graph, dict.fromkeys(chosen, _COPIES))

    def ordered(self, drawn: Sequence[NDArray[Any]]) -> tuple[list[Unit], str]:
        """The units to split, and why there are none."""
        message = {
            "do": "noises", "model": str(self.better.model), "ranges": dict(self.better.ranges)
        }  # fmt: skip
        with Child(_WORKER) as child:
            try:
                child.send(message, drawn)
                answer = child.answer()
            except ChildDied as error:
                raise ModelError(
                    "The runtime crashed while activations were weighed.",
                    details={"log": str(error)},
                ) from error
        if not answer["noises"]:
            return [], str(answer.get("why", "the model is too large"))
        names = {t.index: t.name for t in self.graph.tensors}
        noise = {
            unit: math.fsum(answer["noises"].get(names[i], 0.0) for i in unit.tensors) * _GAINED
            for unit in self.units
        }
        limit = self.request.quality.split_limit
        found = joining(self.graph, noise, limit)
        return found, "" if found else f"each would cost more than {limit:g} times the work"

    def made(self, source: Path, chosen: Sequence[Unit], output: Path) -> Path:
        wanted = dict.fromkeys(chosen, _COPIES)
        output.write_bytes(split(source.read_bytes(), self.better.ranges, wanted).model)
        return output

    def tried(self, order: Sequence[Unit], samples: Sequence[tuple[NDArray[Any], ...]]) -> _Tried:
        counts = sizes(len(order))
        again = self.result.with_name("unsplit_int8.tflite")
        jobs, files = [self.job(self.better.model, again, self.better.ranges)], []
        for count in counts:
            model = self.made(self.better.model, order[:count], self._named("split", count))
            files.append(self._named("split_int8", count))
            jobs.append(self.job(model, files[-1], self.better.ranges))
        trials = judged(self.float_path, jobs, samples)
        return _Tried(sizes=counts, files=files, trials=trials)

    def _named(self, kind: str, count: int) -> Path:
        return self.result.with_name(f"{kind}_{count}.tflite")

    def trial_json(self, chosen: Sequence[Unit], trial: Trial) -> dict[str, Any]:
        figures = {
            k: v for k, v in trial.to_json().items() if k in ("loss", "sqnr_db", "agreement")
        }
        return {"tensors": len(self.names(chosen)), "multiplications": self.work(chosen), **figures}

    def names(self, chosen: Sequence[Unit]) -> list[str]:
        by_index = {t.index: t.name for t in self.graph.tensors}
        return [by_index[index] for unit in chosen for index in unit.tensors]

    def told(
        self, chosen: Sequence[Unit], said: Mapping[str, Any], note: str, **changes: Any
    ) -> Improved:
        """What was tried, in the report and in words."""
        before, after = self.work(()), self.work(chosen)
        quality = {
            "limit": self.request.quality.split_limit,
            "kept": False,
            "tensors": self.names(chosen),
            "multiplications": {"before": before, "after": after},
            "factor": round(after / max(before, 1), 3),
            **said,
        }
        notes = (*self.better.notes, note)
        quality = {**self.better.quality, "splitting": quality}
        return replace(self.better, quality=quality, notes=notes, **changes)

    def refused(self, why: str, said: Mapping[str, Any] | None = None) -> Improved:
        note = f"No activation is held twice: {why}."
        return self.told((), {**(said or {}), "why": why}, note)

    def adopted(
        self, chosen: Sequence[Unit], made: Path, said: dict[str, Any], trial: Trial
    ) -> Improved:
        """The model with these held twice, which becomes the result."""
        better = self.better
        made.replace(self.result)
        reference = self.made(better.reference, chosen, self.result.with_name("split_float.tflite"))
        figures = [_decibels(said[when]["sqnr_db"]) for when in ("after", "before")]
        factor = self.work(chosen) / max(self.work(()), 1)
        note = (
            f"{len(self.names(chosen))} activations are held twice, half a step apart: "
            f"{figures[0]} against {figures[1]} on {len(trial.noise)} samples held out, for "
            f"{factor:.2f} times the multiplications. It is slower than plain int8."
        )
        return self.told(
            chosen, said, note,
            model=self._named("split", len(chosen)), reference=reference,
            unsplit=(better.reference, better.model), held_twice=tuple(self.names(chosen)),
        )  # fmt: skip
