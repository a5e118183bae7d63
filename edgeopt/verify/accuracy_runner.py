"""A model over samples: in the interpreter, or by the outputs that a device answered with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeopt.dataset.fitting import plain_name
from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.feed import feed, real_values, typed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Recorder", "Runner", "Together", "in_order_of"]

# Outputs with the samples along the first axis, and what gives the inputs of the one at a position.
Together = tuple[list["NDArray[np.float64]"], Callable[[int], Sequence["NDArray[Any]"]]]


class Runner:
    """Outputs of one sample in real units, without the batch axis, in the order of `like`'s.

    `like` is the model that the user knows (None: this one): inputs come in its order too.
    """

    def __init__(
        self, facts: ModelFacts, like: ModelFacts | None, recorded: Path | None = None
    ) -> None:
        import numpy as np

        self.facts = facts
        self._plain = [  # type and shape of a sample that needs nothing but the batch axis
            (np.dtype(t.dtype), tuple(t.shape[1:]) if t.shape and t.shape[0] == 1 else None)
            for t in facts.inputs
        ]
        self._take = input_order(self.facts, like) if like else ()
        self.order = (
            output_order(self.facts, like) if like else tuple(range(len(self.facts.outputs)))
        )
        self._recorded = _Recorded(recorded) if recorded else None
        self._stacks = recorded is None and all(
            t.shape and t.shape[0] == 1 and min(t.shape) > 0
            for t in (*facts.inputs, *facts.outputs)
        )
        self._interpreter: Any = None
        if self._recorded is None:
            self._start(facts.path)

    def _start(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path.name} cannot run on this machine: {error}") from error
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(
        self, index: int, sample: tuple[Any, ...]
    ) -> tuple[list[NDArray[np.float64]], Callable[[], Sequence[NDArray[Any]]]]:
        """(outputs, what gives the inputs) of sample number `index`.

        Raises ModelError for NaN in an output.
        """
        if self._take:
            sample = tuple(sample[i] for i in self._take)
        fed = self._fed(sample)
        raw = self._recorded.outputs(index) if self._recorded else self._infer(fed)
        arrays = real_values(raw, self.facts.outputs)
        batch = fed[0].shape[0] if fed and fed[0].ndim else 1
        found = [_without_batch(arrays[i], batch) for i in self.order]
        for number, array in enumerate(found):
            if math.isnan(array.sum()) and math.isnan(array.max()):  # the sum: of infinities too
                raise ModelError(
                    f"{self.facts.path.name} answers NaN to sample {index} (output {number}).",
                    "Its weights, or the scaling of its input (--preprocess), are wrong.",
                )
        return found, lambda: self._real(sample, fed)

    def together(self, rows: tuple[NDArray[Any], ...]) -> Together | None:
        """Of samples along the first axis of each array, equal to what calls one by one give: the
        model runs on each by itself, only the arithmetic before and after is for all at once.

        None where that cannot be: open dimensions, a failure, NaN. One by one tells which.
        """
        import numpy as np

        if not self._stacks:
            return None
        rows = tuple(rows[i] for i in self._take) if self._take else rows
        fed = self._fed_together(rows)
        raw = None if fed is None else self._infer_all(fed)
        if fed is None or raw is None:
            self._stacks = False
            return None
        arrays = real_values(raw, self.facts.outputs)
        found = [arrays[i] for i in self.order]
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are no NaN
            if any(math.isnan(array.sum()) for array in found):
                return None

        def given(at: int) -> Sequence[NDArray[Any]]:
            one = tuple(array[at] for array in rows)
            return self._real(one, [array[at : at + 1] for array in fed])

        return found, given

    def _fed_together(self, rows: tuple[NDArray[Any], ...]) -> list[NDArray[Any]] | None:
        import numpy as np

        fed = [typed(array, t) for array, t in zip(rows, self.facts.inputs, strict=False)]
        shapes = [tuple((t.shape or ())[1:]) for t in self.facts.inputs]
        fit = len(fed) == len(rows) and [array.shape[1:] for array in fed] == shapes
        return [np.ascontiguousarray(array) for array in fed] if fit else None

    def _infer_all(self, fed: Sequence[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """The raw outputs of each sample, put together; None where they are not as declared."""
        import numpy as np

        count = len(fed[0])
        set_input, get_output = self._interpreter.set_tensor, self._interpreter.get_tensor
        invoke = self._interpreter.invoke
        made: list[NDArray[Any]] = []
        try:
            for at in range(count):
                for index, array in zip(self._inputs, fed, strict=True):
                    set_input(index, array[at : at + 1])
                invoke()
                outputs = [get_output(index) for index in self._outputs]
                if not made:
                    made = [np.empty((count, *o.shape[1:]), o.dtype) for o in outputs]
                for place, output in zip(made, outputs, strict=True):
                    if output.shape != (1, *place.shape[1:]):
                        return None
                    place[at] = output[0]
        except (RuntimeError, ValueError):
            return None
        return made

    def _fed(self, sample: tuple[Any, ...]) -> Sequence[NDArray[Any]]:
        """`feed`, by the short way for arrays that are as the model wants them."""
        for value, (kind, shape) in zip(sample, self._plain, strict=False):
            if value.dtype != kind or value.shape != shape or not value.flags.c_contiguous:
                return feed(sample, self.facts.inputs)
        if len(sample) != len(self._plain):
            return feed(sample, self.facts.inputs)
        return [value[None] for value in sample]

    def _infer(self, fed: Sequence[Any]) -> list[Any]:
        for index, array in zip(self._inputs, fed, strict=True):
            self._set(index, array)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelError(f"{self.facts.path.name} fails to run: {error}") from error
        answers = [self._interpreter.get_tensor(index) for index in self._outputs]
        self._interpreter.reset_all_variables()  # an LSTM's state is no part of the next sample
        return answers

    def _set(self, index: int, array: Any) -> None:
        try:
            self._interpreter.set_tensor(index, array)
        except ValueError:  # an open dimension
            self._interpreter.resize_tensor_input(index, array.shape)
            self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(index, array)

    def _real(self, sample: tuple[Any, ...], fed: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs in real units: as they were given, or what a quantized one stands for."""
        return tuple(
            real_values([array[0] if array.ndim else array], [tensor])[0]
            if value.dtype == array.dtype and tensor.quantization
            else value
            for value, array, tensor in zip(sample, fed, self.facts.inputs, strict=True)
        )


def _without_batch(array: NDArray[np.float64], batch: int) -> NDArray[np.float64]:
    """The first of a batch; an output that does not begin with the batch (time first) is whole."""
    return array[0] if array.ndim and array.shape[0] == batch else array


def in_order_of(facts: ModelFacts, order: Sequence[int]) -> ModelFacts:
    """The same facts with the outputs in another order, as a decoder is to see them."""
    from dataclasses import replace

    main = facts.subgraphs[0]
    outputs = tuple(main.outputs[i] for i in order)
    return replace(facts, subgraphs=(replace(main, outputs=outputs), *facts.subgraphs[1:]))


def input_order(facts: ModelFacts, other: ModelFacts) -> tuple[int, ...]:
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


def output_order(facts: ModelFacts, other: ModelFacts) -> tuple[int, ...]:
    """Where each output of `other` is among those of `facts`: by name, since two conversions need
    not agree in order; where names tell nothing by distinct shapes, else as they come."""
    if len(facts.outputs) < len(other.outputs):
        raise ModelError(
            f"{facts.path.name} has {len(facts.outputs)} outputs, its float model "
            f"{len(other.outputs)}.",
            "Give the float model that it was made from, or leave --baseline out.",
        )

    def key(how: int, tensor: Tensor) -> Any:
        return (tensor.name, plain_name(tensor.name), tensor.shape)[how]

    for how in range(3):
        mine = [key(how, t) for t in facts.outputs]
        theirs = [key(how, t) for t in other.outputs]
        if len(set(theirs)) == len(theirs) and all(mine.count(k) == 1 for k in theirs):
            return tuple(mine.index(k) for k in theirs)
    return tuple(range(len(other.outputs)))


class Recorder:
    """Writes the outputs of samples to a folder, one after the other; `_Recorded` reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self._at: list[int] = []
        self._stream: BinaryIO = (folder / "outputs").open("wb")

    def add(self, arrays: Sequence[NDArray[Any]]) -> None:
        """The next sample's outputs, raw, in the order of the model that answered."""
        import numpy as np

        self._at.append(self._stream.tell())
        for array in arrays:
            np.save(self._stream, np.asarray(array), allow_pickle=False)
        self.count += 1

    def close(self) -> None:
        self._stream.close()
        (self.folder / "index.json").write_text(json.dumps(self._at))


class _Recorded:
    def __init__(self, folder: Path) -> None:
        self._at: list[int] = json.loads((folder / "index.json").read_text())
        self._path = folder / "outputs"
        self._stream: BinaryIO | None = None
        self._end = self._path.stat().st_size

    def outputs(self, index: int) -> list[Any]:
        import numpy as np

        if index >= len(self._at):
            raise InputError(f"The device answered {len(self._at)} samples, not {index + 1}.")
        if self._stream is None:
            self._stream = self._path.open("rb")
        self._stream.seek(self._at[index])
        end = self._at[index + 1] if index + 1 < len(self._at) else self._end
        found = []
        while self._stream.tell() < end:
            found.append(np.load(self._stream, allow_pickle=False))
        return found
