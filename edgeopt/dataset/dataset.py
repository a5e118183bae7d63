"""Dataset: the user's samples, labels and preprocessing, fitted to a model's inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.dataset.preprocess import Preprocess
from edgeopt.dataset.sources import Arrays, Images, Source
from edgeopt.dataset.targets import Targets
from edgeopt.dataset.user_function import Function
from edgeopt.errors import InputError
from edgeopt.facts import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeopt.dataset.fitting import Fit

__all__ = ["Dataset", "Preprocess", "load_dataset", "match"]

_VALUES_TOGETHER = 1 << 20  # 4 MB of float32: stays in the cache
_KINDS = (
    "DATA is a folder of images, an .npz (NAME.npz:X,Y names its arrays), an .npy or "
    "MODULE:FUNCTION."
)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples of one array per model input, without the batch axis. `names` are the inputs' names
    by position, empty when nothing tells; `notes` are for the user."""

    spec: str
    source: Source = field(repr=False)
    preprocess: Preprocess
    fits: tuple[Fit, ...] = ()
    order: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    beside: Targets | None = field(default=None, repr=False)  # of a file of labels

    def __post_init__(self) -> None:
        if self.preprocess.empty or isinstance(self.source, Images):
            return
        undecided = isinstance(self.source, Function) and self.source.may_hold_targets
        if len(self.source.take(0)) > 1 and not undecided:
            raise InputError(
                f"{self.spec} has several arrays a sample: --preprocess cannot say for which.",
                "Store the arrays as the model takes them, or use MODULE:FUNCTION.",
            )

    def __len__(self) -> int:
        """How many samples there are (a function's are drawn to the end to know)."""
        return len(self.source)

    def samples(self, limit: int | None = None) -> Iterator[tuple[NDArray[Any], ...]]:
        """The first `limit` samples in the order of `labels`, preprocessed.

        Raises InputError for a sample that cannot be read, holds NaN or infinity, or does not fit.
        """
        count = self._count(limit)
        for index in range(count):
            yield self.sample(index)

    def spread(self, limit: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """`limit` samples at even distances over the whole set: what calibration wants, since
        stored sets are often sorted by class. A function gives its first ones."""
        count = self._count(limit)
        total = count if isinstance(self.source, Function) else len(self)
        for step in range(count):
            yield self.sample(step * total // count)

    def stop_at(self, limit: int | None) -> None:
        """Ask a function for `limit` samples and no more: it may never end."""
        if isinstance(self.source, Function):
            self.source.stop_at(limit)

    def count(self, limit: int | None) -> int:
        """How many samples `samples(limit)` and `spread(limit)` yield."""
        return self._count(limit)

    def _count(self, limit: int | None) -> int:
        if isinstance(self.source, Function):
            have = self.source.draw(limit)
        else:
            have = len(self.source)
        return have if limit is None else min(limit, have)

    def sample(self, index: int) -> tuple[NDArray[Any], ...]:
        """One sample, as `samples` yields it."""
        from edgeopt.dataset.fitting import finished

        raw = self.source.take(index)
        raw = tuple(raw[i] for i in self.order) if self.order else raw
        where = f"sample {index} of {self.spec}"
        fits: Sequence[Fit | None] = self.fits or [None] * len(raw)
        return tuple(
            finished(value, self.preprocess, fit, where)
            for value, fit in zip(raw, fits, strict=True)
        )

    def stacks(
        self, start: int, stop: int
    ) -> Iterator[tuple[int, int, tuple[NDArray[Any], ...] | None]]:
        """(first, last, arrays) of pieces of `start` to `stop`: an array an input with the samples
        `first` to `last` along its first axis, equal to what `sample` gives one by one; None where
        they are to be taken one by one. Stored numbers are checked and scaled many at a time,
        which takes a fraction of the time."""
        step = self._together()
        for first in range(start, stop, step):
            last = min(first + step, stop)
            rows = self._scaled(first, last) if step > 1 else None
            yield first, last, None if rows is None else self._placed(rows)

    def _placed(self, rows: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...] | None:
        """The rows in the shapes and types that the model takes; None where one does not fit, which
        `sample` tells with its number."""
        from edgeopt.dataset.fitting import placed_together

        found = []
        for array, fit in zip(rows, self.fits, strict=True):
            placed = placed_together(array, self.preprocess, fit)
            if placed is None:
                return None
            found.append(placed)
        return tuple(found)

    def _together(self) -> int:
        """How many samples are worth scaling at once; 1 where only one by one is right."""
        steps = self.preprocess
        pixels = steps.resize or steps.crop or steps.color
        kinds = {fit.dtype for fit in self.fits}
        if not isinstance(self.source, Arrays) or pixels or not kinds or "float16" in kinds:
            return 1  # float16 overflows, which is checked sample by sample
        size = sum(getattr(array, "size", 1) for array in self.source.take(0))
        return max(1, _VALUES_TOGETHER // max(1, size))

    def _scaled(self, start: int, stop: int) -> tuple[NDArray[Any], ...] | None:
        """The arrays of samples with the value formula applied; None where one needs a closer
        look: a NaN among them, or no axis for values a channel."""
        import numpy as np

        assert isinstance(self.source, Arrays)
        raw = self.source.rows(start, stop)
        raw = tuple(raw[i] for i in self.order) if self.order else raw
        for array in raw:
            if array.ndim < 2 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
                return None
        with np.errstate(over="ignore"):
            scaled = tuple(self.preprocess.values(array) for array in raw)
        whole = all(a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in scaled)
        return scaled if whole else None

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers, one a sample in the order of `samples`, None when there are none.

        Raises InputError when the stored labels are not class numbers.
        """
        if self.beside is not None:
            import numpy as np

            return np.asarray(self.beside.of("classes"), dtype=np.int64)
        return self.source.labels()

    @property
    def targets(self) -> Targets | None:
        """What is right for each sample in the order of `samples`, of whatever kind; None when
        nothing says. Raises InputError when it is stored in a way that cannot be read."""
        if self.beside is not None:
            return self.beside
        raw = self.source.targets()
        return None if raw is None else Targets(raw, f"of {self.spec}")

    def match(self, inputs: Sequence[Tensor]) -> Dataset:
        """This set fitted to a model's inputs; images are resized to the input, which is noted.

        Raises InputError when shapes, types or names cannot be brought together.
        """
        from edgeopt.dataset.fitting import fit_inputs, plain_name

        source = self.source
        if isinstance(source, Arrays):
            source = source.named([plain_name(t.name) for t in inputs])
        if isinstance(source, Function):
            source = source.of_inputs(len(inputs))
        chosen = replace(self, source=source)
        order, fits, notes = fit_inputs(chosen, tuple(inputs))
        notes = tuple(dict.fromkeys((*self.notes, *notes)))
        return replace(chosen, order=order, fits=fits, notes=notes)

    def in_order_of(self, names: Iterable[str]) -> Dataset:
        """Arrays that come by position take the names of these inputs, those of the model as its
        author knows it: `match` then finds them in a conversion that orders inputs otherwise."""
        return replace(self, names=tuple(names))

    def digest(self) -> str:
        """sha256 over the stored content and every step applied to it: a cache key's part."""
        steps = json.dumps(
            [self.preprocess.to_json(), [f.to_json() for f in self.fits], self.order]
        )
        return hashlib.sha256(f"{self.source.digest()} {steps}".encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """For the report: what the data is and what is done to it; plain JSON values."""
        counted = self.source.draw(1) if isinstance(self.source, Function) else None
        labelled = getattr(self.source, "classes", None)
        return {
            "data": self.spec,
            "kind": self.source.kind,
            "samples": None if counted else len(self),
            "classes": len(labelled) if labelled else None,
            "preprocess": self.preprocess.to_json(),
            "fitted": [f.to_json() for f in self.fits],
            "notes": list(self.notes),
        }


def match(dataset: Dataset, inputs: tuple[Tensor, ...]) -> Dataset:
    """`dataset.match(inputs)`."""
    return dataset.match(inputs)


def load_dataset(
    spec: str,
    *,
    preprocess: Preprocess | None = None,
    base: Path | None = None,
    labels: str | None = None,
) -> Dataset:
    """The data set that `spec` names; relative names start at `base` (the working folder).

    `labels` is a file of labels beside it, which then count instead of its own. Raises InputError
    when one is missing, empty, unreadable or hostile.
    """
    source = _source(spec, base or Path.cwd())
    steps, beside = preprocess or Preprocess(), None
    if labels is not None:
        from edgeopt.dataset.label_files import read_labels

        source, beside = read_labels((base or Path.cwd()) / Path(labels).expanduser(), source)
    return Dataset(spec=spec, source=source, preprocess=steps, beside=beside)


def _source(spec: str, base: Path) -> Source:
    if not spec.strip() or "\0" in spec:
        raise InputError("The name of the data is empty.", _KINDS)
    path = base / Path(spec).expanduser()
    if _exists(path):
        return _stored(path, ())
    left, colon, right = spec.rpartition(":")
    if colon and left.lower().endswith(".npz"):
        return _named_arrays(base / Path(left).expanduser(), right)
    if colon and left.lower().endswith(".npy"):
        raise InputError(
            f"{left} holds one array: it has no names to choose from.", "Leave out the colon."
        )
    if colon and right.isidentifier() and (left.endswith(".py") or re.fullmatch(r"[\w.]+", left)):
        return Function(spec, base)
    raise InputError(f"There is no data at {spec}.", _KINDS)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", _KINDS) from error


def _stored(path: Path, names: tuple[str, ...]) -> Source:
    try:
        if path.is_dir():
            return Images(path)
        if path.suffix.lower() in (".npz", ".npy"):
            return Arrays(path, names)
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    raise InputError(f"{path} is not a kind of data that edgeopt reads.", _KINDS)


def _named_arrays(path: Path, names: str) -> Source:
    if not _exists(path):
        raise InputError(f"There is no file {path}.", _KINDS)
    wanted = tuple(name.strip() for name in names.split(","))
    if not all(wanted) or len(wanted) > 2:
        raise InputError(
            f"{path.name}:{names} must name one or two arrays.", f"Write {path.name}:X,Y."
        )
    return _stored(path, wanted)
