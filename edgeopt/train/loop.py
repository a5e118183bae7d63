"""The training loop: batches in a fixed order, one compiled step, judged after every epoch.

Nothing in it depends on what ran before an epoch but the state that a checkpoint holds: the order
of samples and every random number come from the seed, the technique and the epoch's number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeopt.train.objective import Objective
from edgeopt.train.schedule import Schedule
from edgeopt.train.techniques import Wrapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Data", "Judgement", "Loop", "answers", "judge"]

_JUDGED_AT_ONCE = 256
_REPORT_S = 0.2


@dataclass(frozen=True)
class Data:
    """Samples on disk, an array per input, with labels (or None) and the float model's answers, an
    array per output; `train` and `held` are the samples' numbers."""

    inputs: list[NDArray[Any]]
    labels: NDArray[Any] | None
    train: NDArray[Any]
    held: NDArray[Any]
    teacher: list[NDArray[Any]] = field(default_factory=list)

    def batch(self, chosen: NDArray[Any]) -> tuple[Any, Any, Any]:
        """Inputs, labels (zeros without any) and the float model's answers of those samples."""
        import numpy as np
        import tensorflow as tf

        labels = np.zeros(len(chosen), np.int64) if self.labels is None else self.labels[chosen]
        return (
            [tf.constant(array[chosen]) for array in self.inputs],
            tf.constant(labels),
            [tf.constant(array[chosen]) for array in self.teacher],
        )


@dataclass(frozen=True)
class Judgement:
    """On held-back samples: the objective's loss, and the share answered rightly (None where no
    answer is right or wrong)."""

    loss: float
    accuracy: float | None

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)

    def within(self, budget: float | None, before: Judgement) -> bool:
        """True when at most `budget` (a fraction) of the accuracy before is lost; False without."""
        if budget is None or self.accuracy is None or before.accuracy is None:
            return False
        return before.accuracy - self.accuracy <= budget

    def better_than(self, other: Judgement, samples: int) -> bool:
        """Accuracy decides where it is measured on enough samples, else the finer loss."""
        if self.accuracy is not None and other.accuracy is not None and samples >= 1000:
            return self.accuracy > other.accuracy
        return self.loss < other.loss


def answers(model: Any, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of `model` for all samples, as a list even of one."""
    import numpy as np
    import tensorflow as tf

    run = tf.function(lambda xs: _listed(model(_fed(xs), training=False)))
    count, parts = len(inputs[0]), []
    for start in range(0, count, _JUDGED_AT_ONCE):
        chosen = slice(start, start + _JUDGED_AT_ONCE)
        parts.append([y.numpy() for y in run([tf.constant(a[chosen]) for a in inputs])])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def judge(model: Any, objective: Objective, data: Data) -> Judgement:
    """Judge a model on the samples that were held back."""
    import tensorflow as tf

    def measure(xs: Any, label: Any, teacher: Any) -> Any:
        given = _listed(model(_fed(xs), training=False))
        return objective.loss(given, label, teacher), objective.right(given, label, teacher)

    compiled = tf.function(measure, reduce_retracing=True)
    total, right, count = 0.0, 0, len(data.held)
    for start in range(0, count, _JUDGED_AT_ONCE):
        chosen = data.held[start : start + _JUDGED_AT_ONCE]
        loss, hits = compiled(*data.batch(chosen))
        total += float(loss) * len(chosen)
        right += int(hits)
    share = None if objective.kind == "imitation" else right / count
    return Judgement(total / count, share)


def _listed(outputs: Any) -> list[Any]:
    import tensorflow as tf

    return [tf.convert_to_tensor(y) for y in tf.nest.flatten(outputs)]


def _fed(inputs: list[Any]) -> Any:
    """Inputs as a Keras model takes them: they come in the order of its own."""
    return inputs if len(inputs) > 1 else inputs[0]


class Loop:
    """Trains one wrapped model. `project` puts what must not be lost back after each step."""

    def __init__(
        self,
        wrapped: Wrapped,
        schedule: Schedule,
        objective: Objective,
        data: Data,
        *,
        seed: int,
        project: Callable[[], None],
    ) -> None:
        import tf_keras

        self.wrapped, self.schedule, self.data = wrapped, schedule, data
        self.objective, self.seed = objective, seed
        self.optimizer = tf_keras.optimizers.Adam(schedule.learning_rate)
        self._trained = wrapped.model.trainable_variables
        self.optimizer.build(self._trained)
        self._step = self._compiled(project)

    def _compiled(self, project: Callable[[], None]) -> Any:
        import tensorflow as tf

        model = self.wrapped.model

        def step(xs: Any, label: Any, teacher: Any) -> Any:
            with tf.GradientTape() as tape:
                given = _listed(model(_fed(xs), training=True))
                loss = self.objective.loss(given, label, teacher)
                if model.losses:  # the regularizers that the model was built with
                    loss += tf.add_n(model.losses)
            slopes = tape.gradient(loss, self._trained)
            slopes, _ = tf.clip_by_global_norm(slopes, 5.0)
            self.optimizer.apply_gradients(zip(slopes, self._trained, strict=True))
            project()
            return loss

        return tf.function(step, reduce_retracing=True)

    @property
    def variables(self) -> list[Any]:
        """All that changes while training, in a fixed order."""
        seen, found = set(), []
        own: list[Any] = list(self.wrapped.model.weights)
        for layer in self.wrapped.model.layers:
            own += getattr(layer, "original_clusterable_weights", {}).values()
        for variable in [*own, *self.optimizer.variables]:
            if variable.ref() not in seen:
                seen.add(variable.ref())
                found.append(variable)
        return found

    def measure_ranges(self) -> None:
        """Let quantization-aware training begin with calibrated ranges of activations."""
        import tensorflow as tf

        ranges = self.wrapped.ranges
        if ranges is None:
            return
        ranges.forget()
        run = tf.function(
            lambda xs: self.wrapped.model(_fed(xs), training=True),
            reduce_retracing=True,
        )
        few = self._order(0)[: 16 * self.schedule.batch]
        for start in range(0, len(few), self.schedule.batch):
            run(self.data.batch(few[start : start + self.schedule.batch])[0])
        ranges.measuring = False

    def _order(self, epoch: int) -> NDArray[Any]:
        import numpy as np

        return np.random.default_rng((self.seed, epoch)).permutation(self.data.train)

    def epoch(self, number: int) -> Iterator[float | int]:
        """Run epoch `number` (1 is the first): the steps done so far as integers on the way, then
        the mean loss; NaN as soon as a step's loss is."""
        order, batch = self._order(number), self.schedule.batch
        total, said = 0.0, 0.0
        for index in range(self.schedule.steps):
            step = (number - 1) * self.schedule.steps + index
            self.optimizer.learning_rate.assign(self.schedule.rate(step))
            self.wrapped.step.assign((self.seed * 7919 + step) % 2**31)  # dropout
            chosen = order[index * batch : (index + 1) * batch]
            loss = float(self._step(*self.data.batch(chosen)))
            if not math.isfinite(loss):
                yield math.nan
                return
            total += loss
            if time.monotonic() - said > _REPORT_S:
                said = time.monotonic()
                yield step + 1
        yield total / self.schedule.steps
