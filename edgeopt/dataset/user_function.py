"""A user's own sample function as a data source: `module:function` or `file.py:function`.

Samples are kept as they are drawn, so that a generator that answers differently every time still
gives one data set: what is hashed is what is used.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Function", "users_code", "users_function"]

_END = object()
_DIGEST_SAMPLES = 200
_LARGEST_BYTES = 2 << 30


class Function:
    """Samples from calling `function()`: arrays, dictionaries by input name, lists or tuples of
    arrays, each alone or as (sample, target): a class number, or what `as_target` reads.

    (array, array) may be two inputs or one and its target: `of_inputs` decides.
    """

    kind = "function"

    def __init__(self, spec: str, base: Path) -> None:
        self.spec = spec
        self._samples: list[tuple[NDArray[Any], ...]] = []
        self._labels: list[Any] = []
        self._inputs: int | None = None  # how many of a sample's arrays are inputs; None: all
        self._bytes = 0
        self.names: tuple[str, ...] = ()
        self._done = False
        self._stream = self._start(base)
        if not self.draw(1):
            raise InputError(f"{spec} yields no samples.", "Give at least 10; 100 are better.")

    def _start(self, base: Path) -> Iterator[Any]:
        function = users_function(self.spec, base)
        with users_code(self.spec), _importable(base):
            result = function()
        if not isinstance(result, Iterable) or isinstance(result, (str, bytes)):
            raise InputError(
                f"{self.spec} returned {type(result).__name__}, which cannot be iterated.",
                "Yield samples: one array per model input, without the batch axis.",
            )
        return iter(result)

    def draw(self, count: int | None) -> int:
        """Draw until `count` samples are kept (None: all). Returns how many there are."""
        while not self._done and (count is None or len(self._samples) < count):
            with users_code(self.spec):
                item = next(self._stream, _END)
            if item is _END:
                self._done = True
            else:
                self._keep(item)
        return len(self._samples)

    def _keep(self, item: Any) -> None:
        index = len(self._samples)
        sample, label = _split(item, f"{self.spec}: sample {index}")
        arrays = tuple(self._array(value, index) for value in self._in_order(sample, index))
        if index and len(arrays) != len(self._samples[0]):
            raise InputError(f"{self.spec}: sample {index} has {len(arrays)} arrays, others "
                             f"{len(self._samples[0])}.")  # fmt: skip
        if (label is not None) != bool(self._labels) and index:
            raise InputError(
                f"{self.spec}: some samples have a label and some do not (see {index})."
            )
        self._samples.append(arrays)
        self._bytes += sum(a.nbytes for a in arrays)
        if label is not None:
            self._labels.append(label)
        if self._bytes > _LARGEST_BYTES:
            raise InputError(
                f"{self.spec} yields more than {_LARGEST_BYTES >> 30} GiB ({index + 1} samples).",
                "Let it end sooner, or store the data as .npy.",
            )

    def _in_order(self, sample: Any, index: int) -> tuple[Any, ...]:
        if isinstance(sample, Mapping):
            names = tuple(map(str, sample))
            self.names = self.names or names
            if set(names) != set(self.names):
                raise InputError(
                    f"{self.spec}: sample {index} has the inputs {names}, others {self.names}."
                )
            return tuple(sample[name] for name in self.names)
        several = isinstance(sample, tuple) or (
            isinstance(sample, list) and all(hasattr(value, "shape") for value in sample)
        )
        return tuple(sample) if several and len(sample) else (sample,)

    def _array(self, value: Any, index: int) -> NDArray[Any]:
        import numpy as np

        try:
            array: NDArray[Any] = np.array(value)
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.spec}: sample {index} is not an array: {error}.") from error
        if array.dtype.kind not in "biuf" or array.size == 0:
            raise InputError(
                f"{self.spec}: sample {index} is {array.dtype} of shape {array.shape}, "
                "not numbers.",
                "Yield numeric arrays, one per model input.",
            )
        return array

    def __len__(self) -> int:
        return self.draw(None)

    @property
    def may_hold_targets(self) -> bool:
        """True for samples of (array, array) by position, without a label."""
        return not self.names and not self._labels and len(self._samples[0]) == 2

    def of_inputs(self, count: int) -> Function:
        """For a model of `count` inputs: the last array is the target where there is one more."""
        if count != 1 or not self.may_hold_targets:
            return self
        chosen = copy(self)  # both draw from one stream: this one is left behind
        chosen._inputs = count
        return chosen

    def stop_at(self, count: int | None) -> None:
        """Draw `count` samples and no more, ever."""
        self._done = self.draw(count) == count or self._done

    def take(self, index: int) -> tuple[Any, ...]:
        if self.draw(index + 1) <= index:
            raise IndexError(index)
        return self._samples[index][: self._inputs]

    def labels(self) -> NDArray[np.int64] | None:
        """Class numbers. Raises InputError for targets of another kind."""
        import numpy as np

        from edgeopt.dataset.targets import Targets

        found = self.targets()
        if found is None:
            return None
        return np.asarray(Targets(found, f"of {self.spec}").of("classes"), dtype=np.int64)

    def targets(self) -> NDArray[Any] | Sequence[Any] | None:
        self.draw(None)
        if self._inputs is not None:
            return [sample[-1] for sample in self._samples]
        return self._labels or None

    def digest(self) -> str:
        """sha256 of the samples drawn so far, at least the first 200."""
        self.draw(_DIGEST_SAMPLES)
        total = hashlib.sha256(f"{self.names} {self._labels}".encode())
        for sample in self._samples:
            for array in sample:
                total.update(f"{array.dtype}{array.shape}".encode())
                total.update(array.tobytes())
        return total.hexdigest()


def _split(item: Any, what: str) -> tuple[Any, Any]:
    """(sample, target) when the item is a pair whose second part is no input: one number, a text,
    a list of texts, a mapping with answers or boxes, or whatever follows a list of inputs."""
    if not (isinstance(item, tuple) and len(item) == 2):
        return item, None
    import numpy as np

    from edgeopt.dataset.targets import as_target

    first, second = item
    texts = isinstance(second, (list, tuple)) and all(isinstance(v, str) for v in second)
    if isinstance(second, (str, Mapping)) or (texts and len(second)):
        return first, as_target(second, what)
    several = isinstance(first, (tuple, Mapping)) or (
        isinstance(first, list) and any(hasattr(value, "shape") for value in first)
    )
    value = np.asarray(second) if not isinstance(second, (list, tuple)) or several else None
    if value is not None and value.ndim == 0 and value.dtype.kind in "iu":
        return first, int(value)
    if value is not None and ((value.ndim == 0 and value.dtype.kind == "f") or several):
        return first, as_target(value, what)
    return item, None


@contextmanager
def users_code(spec: str) -> Iterator[None]:
    """Keep what the code of `spec` prints off our stdout, and name its file and line when it
    fails (InputError)."""
    try:
        with _stdout_to_stderr():
            yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = Path(__file__).name
        theirs = [
            f for f in frames if Path(f.filename).name != ours and "importlib" not in f.filename
        ]
        where = f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
        raise InputError(
            f"{spec} failed{where}: {type(error).__name__}: {error}",
            "Repair the function, or give the data as .npz.",
        ) from error


def users_function(spec: str, base: Path | None = None) -> Callable[..., Any]:
    """The function that `module:function` or `file.py:function` names, imported from `base` (the
    working folder). Raises InputError when it is not there or its module fails."""
    folder = base or Path.cwd()
    module, _, name = spec.rpartition(":")
    with users_code(spec), _importable(folder):
        function = getattr(_module(module, folder), name, None)
    if not callable(function):
        raise InputError(f"{module} has no function named {name!r}.")
    found: Callable[..., Any] = function
    return found


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """stdout carries one JSON document or a worker's answers; libraries print to its descriptor."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _importable(base: Path) -> Iterator[None]:
    sys.path.insert(0, str(base))
    try:
        yield
    finally:
        if str(base) in sys.path:
            sys.path.remove(str(base))


def _module(name: str, base: Path) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, base / name)
    assert spec is not None and spec.loader is not None  # a .py always has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
