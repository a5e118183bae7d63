"""Hold activations twice where that pays: those with the most noise for the work first, in sets
that grow up to a bound, each set quantized and measured on samples held out. The wider weights are
then rounded anew: two columns that read the same value hold a bit more, too."""

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
from edgeopt.optimize.copies import Copies
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.rounding_run import (
    Way,
    compared,
    fitted_count,
    judged,
    round_weights,
    rounding_wanted,
)
from edgeopt.optimize.selection import Trial, answers_lost
from edgeopt.optimize.selection_run import Drawn, Improved, Jobs
from edgeopt.optimize.splitting import split, work_of
from edgeopt.optimize.splitting_units import Unit, units
from edgeopt.optimize.work import judged_samples
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["gains", "hold_twice", "joining", "sizes"]

_WORKER = "edgeopt.optimize.selection_worker"
_RANKED = 24  # samples that the noise of each activation is measured on
_GAINED = 0.75  # of the noise, where two copies lie half a step apart
_AGAIN = 0.25  # of that, where the copies are held twice again
_DOUBLINGS = 2  # of a unit at most
_FAINT = 0.005  # of all noise: a unit with less is not worth widening
_MORE = 0.97  # of the noise of a smaller set: else the larger one is not worth its work
_CLOSE = 1.1  # of the least loss: within it the simpler way wins
_WORTH = 0.9  # of what was lost without copies: half a decibel, less is not worth any work


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
    """`better` or a rival of it with activations held twice, where the request allows that to cost
    work and where it loses less on the samples held out: `result` is then made anew.

    `drawn` gives samples to fit on, an array an input. What was tried is under `splitting` in the
    quality report, with the multiplications before and after. Raises ModelError when the runtime
    crashes.
    """
    rivals, better = better.rivals, replace(better, rivals=())
    if request.quality.split_limit <= 1:
        return better
    began = time.perf_counter()
    ways = [_Way(way, number, request, result, job) for number, way in enumerate((better, *rivals))]
    first = ways[0]
    if why_not := first.why_not(measured):
        return first.refused(why_not)
    progress.stage("Finding activations to hold twice")
    ranked = drawn(_RANKED)
    for way in ways:
        if why_not := way.rank(ranked):
            return first.refused(why_not)
    progress.stage("Trying activations held twice")
    samples = judged_samples(measured.kept, float_path, request.scheme)
    jobs = [first.unsplit_job(), *(each for way in ways for each in way.jobs())]
    before, *after = judged(float_path, jobs, samples)
    for way in ways:
        after = way.take(after)
    best = _simplest(ways)
    made, trial = best.made, best.trial
    if rounding_wanted(request):
        progress.stage("Rounding the weights that read them")
        made, trial = best.rounded(drawn(fitted_count(float_path)), float_path, samples)
    said = compared(before, trial) | {
        "kept": gains(before, trial),
        "trials": [each for way in ways for each in way.trials_json()],
        "seconds": round(time.perf_counter() - began, 3),
    }
    if not said["kept"]:
        return first.refused(_no_gain(said), said)
    return best.adopted(made, said)


def gains(before: Trial, after: Trial) -> bool:
    """Whether `after` is worth more work: a tenth less noise or loss, and no more of the other.

    The loss counts leads too, and those held out are few: that noise alone falls by so much is
    enough, since two copies holding more than one is no accident."""
    pairs = (
        (math.fsum(before.noise), math.fsum(after.noise)),
        (before.loss, after.loss),
    )
    no_worse = all(new <= old for old, new in pairs) and not answers_lost(before, after)
    return no_worse and any(new <= old * _WORTH for old, new in pairs)


def _no_gain(said: Mapping[str, Any]) -> str:
    figures = [_decibels(said[when]["sqnr_db"]) for when in ("after", "before")]
    return (
        f"{figures[0]} with the best of them against {figures[1]} without, on "
        f"{said['judged_samples']} samples held out, is not worth the work"
    )


def joining(graph: Subgraph, noise: Mapping[Unit, float], limit: float) -> list[Unit]:
    """Units in the order in which they are to be split: the most noise for the work that it adds to
    those before, as long as all together stay within `limit` times the multiplications. A unit may
    come twice: four copies take a quarter of what two do off what is left."""
    least = work_of(graph, ())
    chosen: list[Unit] = []
    floor = _FAINT * math.fsum(noise.values())
    gain = dict(noise)
    left = list(gain)
    while left := [unit for unit in left if gain[unit] > floor]:
        before = work_of(graph, chosen)
        works = {unit: work_of(graph, [*chosen, unit]) for unit in left}
        left = [unit for unit in left if works[unit] <= limit * least]
        if not left:
            break
        best = max(left, key=lambda unit: gain[unit] / max(works[unit] - before, 1))
        chosen.append(best)
        gain[best] *= _AGAIN if chosen.count(best) < _DOUBLINGS else 0.0
    return chosen


def sizes(count: int) -> list[int]:
    """How many of the units to try: 1, 2, 3, 4, 6, 8, 12 ... and all."""
    found = [1, 2, 3]
    while found[-1] < count:
        found.append(found[-2] * 2)
    return sorted({min(size, count) for size in found})


def _largest_worth(trials: Sequence[Trial]) -> int:
    """The first set that no larger one betters by more than a little. Sets contain those before, so
    more can only help, and noise tells it best."""
    best, least = 0, math.inf
    for number, trial in enumerate(trials):
        noise = math.fsum(trial.noise)
        if noise < least * _MORE:
            best, least = number, noise
    return best


def _simplest(ways: Sequence[_Way]) -> _Way:
    """The way that loses least, or one without equalized channels that loses hardly more."""
    least = min(way.trial.loss for way in ways)
    close = [way for way in ways if way.trial.loss <= least * _CLOSE]
    plain = [way for way in close if not way.better.quality["chosen"]["equalization"]]
    return (plain or close)[0]


@dataclass
class _Way:
    """One way to quantize, with the sets of its activations that may be held twice."""

    better: Improved
    number: int
    request: ConversionRequest
    result: Path
    job: Jobs
    graph: Subgraph = field(init=False)
    units: list[Unit] = field(init=False)
    costs: dict[str, float] = field(default_factory=dict)
    live: dict[str, list[float]] = field(default_factory=dict)
    order: list[Unit] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    size: int = 0  # of the set that rounding weights anew decided for; 0: their trials do

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
        return work_of(self.graph, chosen)

    def rank(self, ranked: Sequence[NDArray[Any]]) -> str:
        """Find the units to split, in their order; why there are none."""
        message = {
            "do": "noises", "model": str(self.better.model), "ranges": dict(self.better.ranges)
        }  # fmt: skip
        with Child(_WORKER) as child:
            try:
                child.send(message, ranked)
                answer = child.answer()
            except ChildDied as error:
                raise ModelError(
                    "The runtime crashed while activations were weighed.",
                    details={"log": str(error)},
                ) from error
        if not answer["noises"]:
            return str(answer.get("why", "the model is too large"))
        self.costs, self.live = dict(answer["noises"]), dict(answer["live"])
        names = {t.index: t.name for t in self.graph.tensors}
        noise = {
            unit: math.fsum(self.costs.get(names[i], 0.0) for i in unit.tensors) * _GAINED
            for unit in self.units
        }
        limit = self.request.quality.split_limit
        self.order = joining(self.graph, noise, limit)
        return "" if self.order else f"each would cost more than {limit:g} times the work"

    def ranges(self, chosen: Sequence[Unit]) -> dict[str, tuple[list[float], list[float]]]:
        """What is held twice has steps fine enough to clip nothing, where no other ranges were
        asked for: values clipped on other data than this cost more."""
        if self.request.quality.ranges != "auto":
            return self.better.ranges
        names = self.names(chosen)
        return self.better.ranges | {name: self.better.widest[name] for name in names}

    def split(
        self, source: Path, chosen: Sequence[Unit], output: Path
    ) -> tuple[Path, Mapping[str, Copies]]:
        """The float model with the copies of the `chosen`, and where they stand."""
        found = split(
            source.read_bytes(), self.ranges(chosen), chosen, costs=self.costs, live=self.live
        )
        output.write_bytes(found.model)
        return output, found.copies

    def unsplit_job(self) -> dict[str, Any]:
        return self.job(self.better.model, _single(self.result), self.better.ranges)

    def jobs(self) -> list[dict[str, Any]]:
        found = []
        for size in sizes(len(self.order)):
            chosen = self.order[:size]
            model, _ = self.split(self.better.model, chosen, self.named("split", size))
            found.append(self.job(model, self.named("split_int8", size), self.ranges(chosen)))
        return found

    def named(self, kind: str, size: int) -> Path:
        return self.result.with_name(f"{kind}_{self.number}_{size}.tflite")

    def take(self, trials: Sequence[Trial]) -> list[Trial]:
        """Keep those of this way, which come first; the others."""
        count = len(sizes(len(self.order)))
        self.trials = list(trials[:count])
        return list(trials[count:])

    @property
    def trial(self) -> Trial:
        return self.trials[_largest_worth(self.trials)]

    @property
    def chosen(self) -> list[Unit]:
        return self.order[: self.size or sizes(len(self.order))[_largest_worth(self.trials)]]

    @property
    def made(self) -> tuple[Path, Path]:
        """The float model that is split, and the int8 one."""
        count = len(self.chosen)
        return self.named("split", count), self.named("split_int8", count)

    @property
    def reference(self) -> Path:
        return self.result.with_name("split_float.tflite")

    def rounded(
        self,
        fitted: list[NDArray[Any]],
        float_path: Path,
        samples: Sequence[tuple[NDArray[Any], ...]],
    ) -> tuple[tuple[Path, Path], Trial]:
        """The chosen set and the largest one with weights rounded anew: the one that loses less
        where it is worth the work, and as it was where neither does.

        What rounding leaves hides what larger sets gain until their own weights are rounded, of
        which they hold more, too."""
        made, trial = self.made, self.trial
        counts = sorted({len(self.chosen), len(self.order)})
        ways = []
        for count in counts:
            whole = self.named("split_float", count)
            model, copies = self.split(self.better.reference, self.order[:count], whole)
            ways.append(Way(model, self.named("rounded", count), copies))
        if not round_weights(self.better.reference, ways, self.request, fitted):
            return made, trial
        outputs = [self.named("rounded_int8", count) for count in counts]
        jobs = [
            self.job(way.output, output, self.ranges(self.order[:count]))
            for way, output, count in zip(ways, outputs, counts, strict=True)
        ]
        for way, output, count, found in zip(
            ways, outputs, counts, judged(float_path, jobs, samples), strict=True
        ):
            less = 1.0 if count == counts[0] else _WORTH
            if math.fsum(found.noise) < math.fsum(trial.noise) * less:
                self.size, made, trial = count, (way.output, output), found
        return made, trial

    def trials_json(self) -> list[dict[str, Any]]:
        shown = ("loss", "sqnr_db", "agreement")
        return [
            {
                "equalization": self.better.quality["chosen"]["equalization"],
                "tensors": len(self.names(self.order[:size])),
                "multiplications": self.work(self.order[:size]),
                **{name: value for name, value in trial.to_json().items() if name in shown},
            }
            for size, trial in zip(sizes(len(self.order)), self.trials, strict=True)
        ]

    def names(self, chosen: Sequence[Unit]) -> list[str]:
        by_index = {t.index: t.name for t in self.graph.tensors}
        return [by_index[index] for unit in dict.fromkeys(chosen) for index in unit.tensors]

    def told(
        self, chosen: Sequence[Unit], said: Mapping[str, Any], note: str, **changes: Any
    ) -> Improved:
        """What was tried, in the report and in words."""
        before, after = self.work(()), self.work(chosen)
        quality = {
            "limit": self.request.quality.split_limit,
            "kept": False,
            "tensors": self.names(chosen),
            "four_times": self.names(_again(chosen)),
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

    def adopted(self, made: tuple[Path, Path], said: dict[str, Any]) -> Improved:
        """The model with the chosen ones held twice, which becomes the result."""
        better, names = self.better, self.names(self.chosen)
        model, int8 = made
        int8.replace(self.result)
        self.split(better.reference, self.chosen, self.reference)
        figures = [_decibels(said[when]["sqnr_db"]) for when in ("after", "before")]
        factor = self.work(self.chosen) / max(self.work(()), 1)
        four = len(self.names(_again(self.chosen)))
        note = (
            f"{len(names)} activations are held twice, half a step apart"
            f"{f' ({four} of them four times)' * bool(four)}: {figures[0]} against "
            f"{figures[1]} on {said['judged_samples']} samples held out, for {factor:.2f} times "
            "the multiplications. It is slower than plain int8."
        )
        return self.told(
            self.chosen, said, note, ranges=self.ranges(self.chosen), model=model,
            reference=self.reference, unsplit=(better.reference, better.model),
            held_twice=tuple(names), single=_single(self.result),
        )  # fmt: skip


def _again(chosen: Sequence[Unit]) -> list[Unit]:
    """Those whose copies are held twice once more."""
    return [unit for unit in dict.fromkeys(chosen) if chosen.count(unit) > 1]


def _single(result: Path) -> Path:
    """The int8 file without copies, from the way that came first."""
    return result.with_name("unsplit_int8.tflite")


def _decibels(found: float | None) -> str:
    return "no noise" if found is None else f"{found:.1f} dB"
