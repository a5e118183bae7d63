"""The calibration child's watch over channels: every float activation after each inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.optimize.statistics import held_out, mean_every, places

__all__ = ["Detailed"]


class Detailed:
    """Minimum, maximum and mean of each channel and some values, kept for `write`.

    XNNPACK stays on: with every tensor preserved its nodes still leave their outputs behind.
    """

    def __init__(self, model: str, total: int) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        from edgeopt.model.tflite import parse

        self._interpreter = Interpreter(
            model_path=model, num_threads=1, experimental_preserve_all_tensors=True
        )
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        graph = parse(Path(model).read_bytes()).subgraphs[0]
        made = [t for op in graph.operators for t in op.outputs]
        seen = {t.index: t for t in (*graph.inputs, *made) if t.dtype == "float32"}
        details = {d["index"]: d for d in self._interpreter.get_tensor_details()}
        self._tensors = [(index, t.name) for index, t in seen.items() if index in details]
        shapes = [[int(side) for side in details[index]["shape"]] for index, _ in self._tensors]
        self._channels = [shape[-1] if shape else 1 for shape in shapes]
        self._sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        self._total = total
        self._every = mean_every(sum(self._channels), total)
        self._low = [np.full((2, count), np.inf) for count in self._channels]
        self._high = [np.full((2, count), -np.inf) for count in self._channels]
        self._means: list[list[Any]] = [[] for _ in self._tensors]
        self._picks: list[list[Any]] = [[] for _ in self._tensors]
        self._numbers: list[int] = []

    def see(self, arrays: list[Any], number: int) -> None:
        for detail, array in zip(self.inputs, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        part = int(held_out(number, self._total))
        for place, (index, _) in enumerate(self._tensors):
            self._note(place, self._interpreter.get_tensor(index), number, part)
        self._numbers.append(number)
        self._interpreter.reset_all_variables()

    def _note(self, place: int, value: Any, number: int, part: int) -> None:
        import numpy as np

        rows = value.reshape(-1, self._channels[place])
        low, high = self._low[place][part], self._high[place][part]
        np.minimum(low, rows.min(axis=0), out=low)  # both keep NaN
        np.maximum(high, rows.max(axis=0), out=high)
        known = number % self._every == 0
        mean = _mean(rows) if known else np.full(rows.shape[1], np.nan, np.float32)
        self._means[place].append(mean)
        spots = places(self._sizes[place], number, self._total, place)
        self._picks[place].append(value.ravel()[spots])

    def ranges(self) -> dict[str, list[list[float]]]:
        return {
            name: [[float(low.min())], [float(high.max())]]
            for (_, name), low, high in zip(self._tensors, self._low, self._high, strict=True)
            if self._numbers
        }

    def write(self, path: str) -> None:
        """Everything seen, as `statistics.load` reads it."""
        import numpy as np

        held: dict[str, Any] = {}
        if self._numbers:
            for place in range(len(self._tensors)):
                held[f"low_{place}"], held[f"high_{place}"] = self._low[place], self._high[place]
                held[f"mean_{place}"] = np.stack(self._means[place])
                held[f"pick_{place}"] = np.stack(self._picks[place])
        names = np.array([name for _, name in self._tensors])
        sizes = np.array(self._sizes, np.int64)
        np.savez(path, names=names, sizes=sizes, numbers=np.array(self._numbers, np.int64), **held)


def _mean(rows: Any) -> Any:
    """By a product with ones: BLAS adds a long, narrow array's rows several times as fast."""
    import numpy as np

    if len(rows) == 1:
        return rows[0].copy()
    return (np.full(len(rows), 1 / len(rows), np.float32) @ rows).astype(np.float32)
