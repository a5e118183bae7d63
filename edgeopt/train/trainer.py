"""Trainer: the techniques one after the other, each starting from what the last one kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import ModelError
from edgeopt.train import kept
from edgeopt.train.checkpoint import load_state, save_state
from edgeopt.train.loop import Data, Judgement, Loop, answers, judge
from edgeopt.train.objective import Objective, logits_model, objective_for
from edgeopt.train.phase import TITLES, Phase
from edgeopt.train.schedule import Schedule, schedule_for, split
from edgeopt.train.techniques import Wrapped, choose, plain_weights, untouched, wrap
from edgeopt.training import TrainingRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trainer"]

Weights = list["NDArray[Any]"]
Messages = Iterator[dict[str, Any]]


class Trainer:
    """Trains `model` (plain tf_keras layers) as `request` says. `inputs` are arrays of samples."""

    def __init__(
        self,
        model: Any,
        request: TrainingRequest,
        inputs: list[NDArray[Any]],
        labels: NDArray[Any] | None,
        checkpoints: Path,
    ) -> None:
        self.model, self.request, self.checkpoints = model, request, checkpoints
        self._original, ending = logits_model(model)
        self.objective: Objective = objective_for(self._original, ending, labels)
        divided = split(
            labels if self.objective.kind == "classes" else None,
            len(inputs[0]),
            request.validation,
            request.seed,
        )
        self.data = Data(inputs, labels, divided.train, divided.held)
        self._notes = list(divided.notes)
        self.history: list[dict[str, Any]] = []
        self.stopped = ""
        self.resumed_from = 0
        self.before = Judgement(math.nan, None)
        self._changed: dict[str, list[str]] = {}  # techniques by layer
        self._began = time.monotonic()
        self._earlier_s = 0.0  # of the run that was interrupted

    def run(self) -> Messages:
        """Train; yields "stage", "done" and "note" messages. Raises InputError for layers that are
        not there, ModelError where nothing usable came of it."""
        for note in self._notes:
            yield {"note": note}
        yield {"stage": "Asking the float model for its answers", "total": None, "unit": ""}
        teacher = answers(self._original, self.data.inputs)
        _need_finite(teacher)
        self.data = Data(
            self.data.inputs, self.data.labels, self.data.train, self.data.held, teacher
        )
        self.before = judge(self._original, self.objective, self.data)
        if doubt := self.objective.doubt(self.before.accuracy, len(self.data.held), teacher):
            yield {"note": doubt}
        stored = load_state(self.checkpoints) if self.request.resume else None
        first = stored[0]["phase"] if stored else 0
        if stored:
            yield {"note": f"Resumed a training that had come to {_reached(stored, self.request)}."}
        for index, technique in enumerate(self.request.techniques):
            if technique != "prune":
                yield from self._fold()
            chosen = choose(self.model, technique, self.request.layers)
            for name in chosen:
                self._changed.setdefault(name, []).append(technique)
            if index >= first:
                resumed = stored if index == first else None
                yield from self._technique(technique, index, chosen, resumed)
        if stored and first == len(self.request.techniques):  # killed after the last epoch
            self._restore(stored)

    def _fold(self) -> Messages:
        """Batch normalization goes into the weights before it: what is clustered or rounded from
        here on is what ships."""
        from edgeopt.train.rebuild import fold_batch_norm

        if not any(type(layer).__name__ == "BatchNormalization" for layer in self.model.layers):
            return
        yield {"stage": "Folding batch normalization", "total": None, "unit": ""}
        self.model = fold_batch_norm(self.model)

    def _technique(self, technique: str, index: int, chosen: list[str], stored: Any) -> Messages:
        schedule = schedule_for(technique, len(self.data.train), self.request)
        if stored:
            self._restore(stored)
        phase = Phase(technique, index, chosen, self.model.get_weights())
        plain, _ = logits_model(self.model)
        wrapped = self._wrapped(technique, plain, chosen, schedule)
        yield from self._untrained(technique, plain, chosen, wrapped)
        loop = Loop(
            wrapped,
            schedule,
            self.objective,
            self.data,
            seed=self.request.seed,
            project=self._projection(wrapped, technique),
        )
        if stored and stored[0]["epoch"]:
            self._restore_phase(phase, loop, stored)
        else:
            loop.measure_ranges()
            self._begin(phase, wrapped, plain)
        yield {"stage": TITLES[technique], "total": schedule.total, "unit": "batches"}
        yield from self._epochs(phase, loop, plain)
        yield from self._end(phase)

    def _wrapped(
        self, technique: str, plain: Any, chosen: list[str], schedule: Schedule
    ) -> Wrapped:
        import tensorflow as tf

        tf.keras.utils.set_random_seed(self.request.seed)  # of the first centroids
        made = wrap(
            technique,
            plain,
            chosen,
            self.request,
            schedule,
            sparse="prune" in self.request.techniques,
            tensorwise=frozenset(self._layers_of("cluster")),
        )
        self._freeze_normalization(technique, made)
        return made

    def _untrained(
        self, technique: str, plain: Any, chosen: list[str], wrapped: Wrapped
    ) -> Messages:
        """Notes on layers that stay as they are without having been asked to."""
        title = TITLES[technique]
        large = untouched(plain, chosen) if technique != "qat" else []
        if large and not self.request.layers:
            yield {"note": f"{title} leaves these large layers alone: {', '.join(large)}."}
        if wrapped.left_out:
            named = ", ".join(wrapped.left_out)
            yield {"note": f"{title} goes without rounding in {named}: tfmot does not know these."}

    def _freeze_normalization(self, technique: str, wrapped: Wrapped) -> None:
        """Batch statistics follow the data only while pruning, and only where there is enough."""
        if technique == "prune" and len(self.data.train) >= 2000:
            return
        for layer in wrapped.model.layers:
            if type(layer).__name__ == "BatchNormalization":
                layer.trainable = False

    def _projection(self, wrapped: Wrapped, technique: str) -> Callable[[], None]:
        """What puts zeros and clusters back after each step of quantization-aware training; tfmot's
        own schemes lose them where an activation follows in a layer of its own."""
        if technique != "qat":
            return lambda: None
        values = kept.kernel_values(self.model)
        clustered, pruned = self._layers_of("cluster"), self._layers_of("prune")
        return kept.projection(
            {n: v for n, v in wrapped.kernel_of.items() if n in (*clustered, *pruned)},
            values,
            clustered=frozenset(clustered),
        )

    def _layers_of(self, technique: str) -> list[str]:
        return [name for name, made in self._changed.items() if technique in made]

    def _begin(self, phase: Phase, wrapped: Wrapped, plain: Any) -> None:
        """Judge the technique without training."""
        if phase.technique == "prune":
            weights = kept.pruned(
                self.model, phase.chosen, phase.start, self.request.final_sparsity
            )
            plain.set_weights(weights)
            judged = judge(plain, self.objective, self.data)
        else:
            weights = self._tidy(phase, plain_weights(wrapped, plain))
            judged = judge(wrapped.model, self.objective, self.data)
        phase.offer(weights, judged, len(self.data.held))
        self._record(phase, judged, None, weights)

    def _tidy(self, phase: Phase, weights: Weights) -> Weights:
        """The weights with exactly the zeros and clusters that are asked for."""
        if phase.technique == "prune":
            return kept.pruned(self.model, phase.chosen, weights, self.request.final_sparsity)
        if phase.technique == "cluster":
            return kept.clustered(
                self.model, phase.chosen, weights, self.request.clusters,
                zeros=kept.zeros(self.model, phase.start, self._layers_of("prune")),
            )  # fmt: skip
        return weights

    def _epochs(self, phase: Phase, loop: Loop, plain: Any) -> Messages:
        schedule = loop.schedule
        while phase.epoch < schedule.epochs:
            loss = math.nan
            for value in loop.epoch(phase.epoch + 1):
                if isinstance(value, int):
                    yield {"done": value, "total": schedule.total}
                else:
                    loss = value
            phase.epoch += 1
            judged = judge(loop.wrapped.model, self.objective, self.data)
            if not math.isfinite(loss) or not judged.finite:
                yield {"note": self._diverged(phase)}
                return
            weights = plain_weights(loop.wrapped, plain)
            done = phase.epoch * schedule.steps
            ready = phase.technique != "prune" or done >= schedule.ramp_steps
            if ready:
                weights = self._tidy(phase, weights)
                phase.offer(weights, judged, len(self.data.held))
            self._record(phase, judged, loss, weights)
            if ready and phase.reached(
                self.request.max_accuracy_drop, self.before, weights, judged
            ):
                self._stop(phase, f"within the accuracy budget, epoch {phase.epoch}")
                return
            self._save(phase, loop)

    def _diverged(self, phase: Phase) -> str:
        what = phase.diverged
        if phase.best_epoch < 0:
            raise ModelError(
                f"{what}, and no earlier state was usable.", "Lower --learning-rate, for example "
                f"to {(self.request.learning_rate or 1e-3) / 10:g}."
            )  # fmt: skip
        self._stop(phase, f"diverged in epoch {phase.epoch}")
        before = f"after epoch {phase.best_epoch}" if phase.best_epoch else "before training"
        return f"{what}: the state {before} was kept. A lower --learning-rate may help."

    def _stop(self, phase: Phase, why: str) -> None:
        earlier = f"{self.stopped}; " if self.stopped else ""
        self.stopped = f"{earlier}{phase.technique}: {why}"
        phase.stopped = True

    def _end(self, phase: Phase) -> Messages:
        if phase.best_epoch < 0:
            raise ModelError(
                f"{TITLES[phase.technique]} gave no usable model.", "Lower --learning-rate."
            )
        self.model.set_weights(phase.best)
        self.history = [
            {**row, "kept": row["epoch"] == phase.best_epoch}
            if row["technique"] == phase.technique
            else row
            for row in self.history
        ]
        if phase.best_epoch == 0 and phase.epoch > 0 and not phase.stopped:
            yield {"note": phase.without_use(self.before, self.objective.metric)}
        facts = {"phase": phase.index + 1, "epoch": 0, **self._facts()}
        save_state(self.checkpoints, facts, _numbered("p", phase.best))

    def _record(
        self, phase: Phase, judged: Judgement, loss: float | None, weights: Weights
    ) -> None:
        pruned, clustered = self._layers_of("prune"), self._layers_of("cluster")
        self.history.append(
            {
                "technique": phase.technique,
                "epoch": phase.epoch,
                "loss": loss,
                "held_back_loss": judged.loss if judged.finite else None,
                "held_back_accuracy": judged.accuracy,
                "sparsity": kept.sparsity(self.model, weights, pruned),
                "clusters": kept.most_values(self.model, weights, clustered),
                "seconds": round(self._seconds(), 2),
            }
        )

    def _seconds(self) -> float:
        return self._earlier_s + time.monotonic() - self._began

    def _facts(self) -> dict[str, Any]:
        return {"history": self.history, "stopped": self.stopped, "seconds": self._seconds()}

    def _save(self, phase: Phase, loop: Loop) -> None:
        facts = {
            "phase": phase.index,
            "epoch": phase.epoch,
            "best_epoch": phase.best_epoch,
            "best": [phase.judged.loss, phase.judged.accuracy],
            **self._facts(),
        }
        arrays = {
            **_numbered("p", phase.start),
            **_numbered("b", phase.best),
            **_numbered("v", [v.numpy() for v in loop.variables]),
        }
        save_state(self.checkpoints, facts, arrays)

    def _restore(self, stored: Any) -> None:
        facts, arrays = stored
        self.model.set_weights(_listed(arrays, "p"))
        self.history, self.stopped = list(facts["history"]), facts["stopped"]
        self._earlier_s = facts["seconds"]
        self.resumed_from = facts["epoch"]

    def _restore_phase(self, phase: Phase, loop: Loop, stored: Any) -> None:
        facts, arrays = stored
        phase.epoch, phase.best_epoch = facts["epoch"], facts["best_epoch"]
        phase.judged = Judgement(*facts["best"])
        phase.best = _listed(arrays, "b")
        for variable, value in zip(loop.variables, _listed(arrays, "v"), strict=True):
            variable.assign(value)

    def result(self) -> dict[str, Any]:
        """What the parent makes a Trained of; the model is judged as it ships."""
        final, _ = logits_model(self.model)
        after = judge(final, self.objective, self.data)
        return {
            "layers": kept.described(self.model, self._changed),
            "history": self.history,
            "stopped": self.stopped,
            "resumed_from": self.resumed_from,
            "held_back": {
                "samples": len(self.data.held),
                "trained_on": len(self.data.train),
                "metric": self.objective.metric,
                "labels": self.objective.labelled,
                "before": self.before.accuracy,
                "after": after.accuracy,
                "loss_before": self.before.loss,
                "loss_after": after.loss,
            },
            "seconds": round(self._seconds(), 2),
        }


def _reached(stored: Any, request: TrainingRequest) -> str:
    phase, epoch = stored[0]["phase"], stored[0]["epoch"]
    if phase == len(request.techniques):
        return "its end"
    return f"epoch {epoch} of {request.techniques[phase]}"


def _need_finite(outputs: Weights) -> None:
    import numpy as np

    if not all(np.isfinite(array).all() for array in outputs):
        raise ModelError(
            "The model answers NaN or infinity to the training data.",
            "Check its weights and the data's scaling (--preprocess).",
        )


def _numbered(letter: str, arrays: Weights) -> dict[str, NDArray[Any]]:
    return {f"{letter}{index}": array for index, array in enumerate(arrays)}


def _listed(arrays: dict[str, NDArray[Any]], letter: str) -> Weights:
    count = sum(name[0] == letter for name in arrays)
    return [arrays[f"{letter}{index}"] for index in range(count)]
