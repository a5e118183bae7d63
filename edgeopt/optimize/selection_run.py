"""Try the candidates of `selection` in processes, and build the one that is chosen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError
from edgeopt.optimize.calibration import Ranges, processes_for
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.optimize.selection import (
    PLAIN,
    Candidate,
    Trial,
    candidates,
    choose,
    rivals,
    settled,
    why_alone,
    why_chosen,
)
from edgeopt.optimize.selection_bench import Bench
from edgeopt.optimize.statistics import load
from edgeopt.optimize.work import judged_samples
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["Improved", "Jobs", "improve"]

Drawn = Callable[[int], list["NDArray[Any]"]]  # so many samples to fit on, an array an input

_WORKER = "edgeopt.optimize.selection_worker"
_CHILDREN = 4  # each holds the quantizer and two models
_APART = 1e-3  # of the largest answer: float32 sums in another order differ by less
_SEARCHED = 64  # samples that ranges are searched on; more were not seen to help

Jobs = Callable[[Path, Path, Mapping[str, Any]], dict[str, Any]]  # model, output, ranges


@dataclass(frozen=True, kw_only=True)
class Improved:
    """`ranges` are those that `model` was quantized with: the float model with its channels
    equalized and its biases corrected; `widest` are those that clip no value that counts.
    `reference` is the same without correction, whose tensors are what the quantized ones should be.
    `rivals` are other ways that may turn out better further on. `unsplit` are reference and model
    before the tensors named by `held_twice` were, and `single` the int8 file that they gave; None
    where none is."""

    ranges: dict[str, tuple[list[float], list[float]]]
    widest: dict[str, tuple[list[float], list[float]]]
    model: Path
    reference: Path
    quality: dict[str, Any]
    notes: tuple[str, ...] = ()
    rivals: tuple[Improved, ...] = ()
    unsplit: tuple[Path, Path] | None = None
    held_twice: tuple[str, ...] = ()
    single: Path | None = None


def improve(
    float_path: Path,
    request: ConversionRequest,
    result: Path,
    measured: Ranges,
    statistics: Sequence[Path],
    *,
    job: Jobs,
    good: Callable[[], bool],
    drawn: Drawn,
    progress: Progress,
    rounded: bool = False,
) -> Improved | None:
    """Quantize to `result` in the way that loses least; the models between stay beside it.

    `statistics` are the files that `calibrate` left, `job` makes the quantizer's job, and
    weights are to be `rounded` afterwards, so that rivals are wanted. None when
    plain int8 is not `good`: then nothing else would be, and `result` holds that. Raises ModelError
    with the quantizer's reason when it cannot even do plain int8.
    """
    began = time.perf_counter()
    tried = candidates(request.quality, scheme=request.scheme, keep=request.keep)
    whole = Bench(float_path, request, load(statistics, measured.samples, fitted=False), "whole")
    alone = settled(tried, measured.samples)
    run = _Run(whole, result, job, judged_samples(measured.kept, float_path, request.scheme))
    with ExitStack() as stack:
        wanted = processes_for(len(tried), request.processes)
        run.children = [stack.enter_context(Child(_WORKER)) for _ in range(min(wanted, _CHILDREN))]
        run.quantize(PLAIN, whole, result)
        if not good():
            return None
        run.hold(1 if alone else len(run.children))
        if alone:
            why = why_alone(len(tried), measured.samples)
            chosen, trials = run.last_check(tried[0]), []
            run.searched([chosen], whole, drawn, progress)
        else:
            fitted = load(statistics, measured.samples, fitted=True)
            bench = Bench(float_path, request, fitted, "fitted")
            tried = run.searched(run.preserving(tried, bench), bench, drawn, progress)
            trials = run.try_all(tried, bench, progress)
            chosen = run.last_check(choose(trials).candidate)
            why = why_chosen(chosen, trials)
        if chosen != PLAIN:
            run.quantize(chosen, whole, result)
        found = run.outcome(chosen, trials, why, time.perf_counter() - began)
        return replace(found, rivals=run.rivals(chosen, trials)) if rounded else found


@dataclass
class _Run:
    """The processes that try, and what they found."""

    whole: Bench
    result: Path
    job: Jobs
    samples: Sequence[tuple[NDArray[Any], ...]]
    children: list[Child] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.result.parent

    def quantize(self, candidate: Candidate, bench: Bench, output: Path) -> None:
        _ask(self.children[0], self.trial_job(candidate, bench, output))

    def trial_job(self, candidate: Candidate, bench: Bench, output: Path) -> dict[str, Any]:
        model = bench.model(candidate, self.folder)
        return {"do": "try", "job": self.job(model, output, bench.ranges(candidate))}

    def hold(self, count: int) -> None:
        import numpy as np

        arrays = [np.stack(each) for each in zip(*self.samples, strict=True)]
        message = {"do": "hold", "model": str(self.whole.float_path)}
        for child in self.children[:count]:
            _send(child, message, arrays)
        for child in self.children[:count]:
            _answer(child)

    def preserved(self, bench: Bench) -> bool:
        """Whether equalizing changed something, and not the function; why not is noted."""
        even = Candidate(equalization=True)
        if bench.equalized() is None:
            self.dropped.append("equalization: no channels may or need be scaled")
            return False
        path = bench.model(even, self.folder)
        apart = float(_ask(self.children[0], {"do": "compare", "model": str(path)})["apart"])
        if apart > _APART:
            self.dropped.append(f"equalization: answers differ by {apart:.2g} of the largest")
        return apart <= _APART

    def last_check(self, candidate: Candidate) -> Candidate:
        """The candidate as it can be built from all samples."""
        if candidate.equalization and not self.preserved(self.whole):
            self.notes.append(
                f"Channels were not equalized: {self.dropped[-1].partition(': ')[2]}."
            )
            return replace(candidate, equalization=False)
        return candidate

    def preserving(self, tried: Sequence[Candidate], bench: Bench) -> list[Candidate]:
        """`tried`, without equalization where that cannot be."""
        if any(each.equalization for each in tried) and not self.preserved(bench):
            even = [replace(each, equalization=False) for each in tried]
            return list(dict.fromkeys(even))
        return list(tried)

    def searched(
        self, tried: Sequence[Candidate], bench: Bench, drawn: Drawn, progress: Progress
    ) -> list[Candidate]:
        """`tried`, without those whose ranges were to be searched and came out as they were: that
        is, minimum and maximum (unless nothing else is wanted)."""
        kinds = sorted({each.equalization for each in tried if each.ranges == "search"})
        if not kinds:
            return list(tried)
        progress.stage("Searching ranges")
        arrays = drawn(_SEARCHED)
        asked = []
        for number, even in enumerate(kinds):
            candidate = Candidate(equalization=even)
            message = {
                "do": "search",
                "model": str(bench.model(candidate, self.folder)),
                "ranges": bench.ranges(candidate),
                "bits": bench.bits,
            }
            child = self.children[number % len(self.children)]
            _send(child, message, arrays)
            asked.append((even, child))
        for even, child in asked:
            answer = _answer(child)
            shares = {name: (low, high) for name, (low, high) in answer["shares"].items()}
            bench.shares[even] = self.whole.shares[even] = shares
            if not shares:
                why = answer.get("why", "no range is better drawn in, or the model is too large")
                self.dropped.append(f"search{' after equalization' * even}: {why}")
        changed = [c for c in tried if c.ranges != "search" or bench.shares[c.equalization]]
        return changed or list(tried)

    def try_all(self, tried: Sequence[Candidate], bench: Bench, progress: Progress) -> list[Trial]:
        """All trials in the order of `tried`."""
        progress.stage("Trying quantizations", len(tried), "candidates")
        jobs = [
            (i, each, self.trial_job(each, bench, self.folder / f"trial_{i}.tflite"))
            for i, each in enumerate(tried)
        ]
        jobs.reverse()
        found: dict[int, Trial] = {}
        failures: list[BaseException] = []
        lock = threading.Lock()

        def drive(child: Child) -> None:
            while True:
                with lock:
                    if not jobs or failures:
                        return
                    number, candidate, message = jobs.pop()
                try:
                    answer = _ask(child, message)
                except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                    failures.append(error)
                    return
                with lock:
                    found[number] = _trial(candidate, answer)
                    progress.advance(len(found), len(tried))

        threads = [threading.Thread(target=drive, args=(c,), daemon=True) for c in self.children]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.05)
        if failures:
            raise failures[0]
        return [found[number] for number in sorted(found)]

    def rivals(self, chosen: Candidate, trials: Sequence[Trial]) -> tuple[Improved, ...]:
        """What each rival that can be built from all samples would be, not yet quantized."""
        why = f"least loss of {len(trials)} ways tried, once weights are rounded"
        return tuple(
            self.outcome(each, trials, why, 0.0)
            for each in rivals(chosen, trials)
            if chosen.equalization or not each.equalization or self.preserved(self.whole)
        )

    def outcome(
        self, chosen: Candidate, trials: Sequence[Trial], why: str, seconds: float
    ) -> Improved:
        evened = self.whole.evened if chosen.equalization else None
        quality = {
            "chosen": vars(chosen),
            "why": why,
            "candidates": [trial.to_json() for trial in trials],
            "held_out_samples": len(self.samples) if trials else None,
            "equalized": {"tensors": evened.tensors, "spread": evened.spread} if evened else None,
            "corrected_layers": self.whole.corrected if chosen.bias_correction else 0,
            "dropped": self.dropped,
            "seconds": seconds,
        }
        notes = list(self.notes)
        if chosen != PLAIN or not trials:
            notes.append(f"Quantized with {chosen.describe()}: {why}.")
        reference = replace(chosen, bias_correction=False)
        return Improved(
            ranges=self.whole.ranges(chosen),
            widest=self.whole.widest(chosen),
            model=self.whole.model(chosen, self.folder),
            reference=self.whole.model(reference, self.folder),
            quality=quality,
            notes=tuple(notes),
        )


def _trial(candidate: Candidate, answer: Mapping[str, Any]) -> Trial:
    return Trial(
        candidate=candidate,
        noise=tuple(answer["noise"]),
        agrees=tuple(answer.get("agrees", ())),
        margin_lost=tuple(answer.get("margin_lost", ())),
    )


def _send(child: Child, message: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
    try:
        child.send(message, arrays)
    except ChildDied as error:
        raise _crashed(error) from error


def _answer(child: Child) -> dict[str, Any]:
    try:
        return child.answer()
    except ChildDied as error:
        raise _crashed(error) from error


def _ask(child: Child, message: dict[str, Any]) -> dict[str, Any]:
    _send(child, message)
    return _answer(child)


def _crashed(error: ChildDied) -> ModelError:
    return ModelError(
        "The LiteRT quantizer or runtime crashed while quantizing.", details={"log": str(error)}
    )
