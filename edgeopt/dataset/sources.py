"""Where a data set's samples come from: a folder of images, stored arrays, or a user's function.

A source gives raw samples, one array per model input and no batch axis, and knows nothing of
models. Images are streamed, arrays are read when first asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeopt.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Arrays", "Images", "Source"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_LARGEST_MEMBER_BYTES = 8 << 30


class Source(Protocol):
    """`names` are the input names of dictionary-like samples, empty when they go by position."""

    kind: str
    names: tuple[str, ...]

    def __len__(self) -> int: ...

    def take(self, index: int) -> tuple[Any, ...]: ...

    def labels(self) -> NDArray[np.int64] | None: ...

    def targets(self) -> NDArray[Any] | Sequence[Any] | None:
        """What is right for each sample, as it is stored: numbers, texts, Boxes or Answers."""

    def digest(self) -> str: ...


class Images:
    """A folder of images, or of class folders. Classes take turns, so any start is fair."""

    kind = "images"
    names: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        top = _images(folder.iterdir())
        classes = {d.name: _images(d.rglob("*")) for d in sorted(_folders(folder))}
        classes = {name: files for name, files in classes.items() if files}
        if top and classes:
            raise InputError(
                f"{folder} holds images both directly and in subfolders "
                f"({', '.join(classes)[:80]}).",
                "Move them: all in one folder, or all in class subfolders.",
            )
        if not top and not classes:
            raise InputError(
                f"{folder} holds no images.", f"Known endings: {', '.join(sorted(_ENDINGS))}."
            )
        self.classes = tuple(classes)
        numbers = class_numbers(self.classes)
        groups = [
            [(f, n) for f in files] for files, n in zip(classes.values(), numbers, strict=True)
        ]
        self._items = _take_turns(groups) if classes else [(f, -1) for f in top]

    def __len__(self) -> int:
        return len(self._items)

    def take(self, index: int) -> tuple[Any, ...]:
        """The image opened as RGB or gray, its orientation tag applied (PIL image)."""
        return (_open(self._items[index][0]),)

    def labels(self) -> NDArray[np.int64] | None:
        import numpy as np

        if not self.classes:
            return None
        return np.asarray([label for _, label in self._items], dtype=np.int64)

    def targets(self) -> NDArray[np.int64] | None:
        return self.labels()

    def only(self, names: Sequence[str], by: str) -> Images:
        """The images of these names, in their order: paths from the folder, or file names alone
        where they are unique. Raises InputError for one that is not there; `by` is who names it."""
        found: dict[str, tuple[Path, int] | None] = {}
        for item in self._items:
            for key in {item[0].relative_to(self.folder).as_posix(), item[0].name}:
                found[key] = None if key in found else item
        chosen = []
        for name in names:
            one = found.get(name) or found.get(name.rpartition("/")[2])
            if one is None:
                raise InputError(
                    f"{by} names {name!r}, which is not in {self.folder}, or is there twice."
                )
            chosen.append(one)
        made = copy(self)
        made._items, made.classes = chosen, ()
        return made

    def digest(self) -> str:
        total = hashlib.sha256()
        for file, label in self._items:
            total.update(f"{label} ".encode() + hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()


def class_numbers(names: tuple[str, ...]) -> list[int]:
    """Labels from folder names: their leading integers if all have one, else the sorted order."""
    leading = [re.match(r"\d+", name) for name in names]
    if names and all(leading):
        return [int(m.group()) for m in leading if m]
    return list(range(len(names)))


def _folders(folder: Path) -> list[Path]:
    return [d for d in folder.iterdir() if d.is_dir() and not d.name.startswith((".", "__"))]


def _images(files: Any) -> list[Path]:
    return sorted(
        f
        for f in files
        if f.suffix.lower() in _ENDINGS and not f.name.startswith(".") and f.is_file()
    )


def _take_turns(groups: list[list[tuple[Path, int]]]) -> list[tuple[Path, int]]:
    longest = max(map(len, groups))
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def _open(file: Path) -> Any:
    import warnings

    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
                    raise InputError(
                        f"{file} stores more than 8 bits a channel ({opened.mode}).",
                        "Convert it to an 8-bit image, or give the data as .npz.",
                    )
                ImageOps.exif_transpose(opened, in_place=True)
                opened.load()
                mode = "L" if opened.mode in ("1", "L") else "RGB"
                return opened if opened.mode == mode else opened.convert(mode)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as e:
        raise InputError(
            f"{file} cannot be read as an image: {e}.", "Remove it, or save it again."
        ) from e


class Arrays:
    """Arrays of an .npz or .npy, the first axis counting samples. Never unpickles."""

    def __init__(self, file: Path, wanted: tuple[str, ...] = ()) -> None:
        self.file, self.kind = file, file.suffix.lower().lstrip(".")
        self._wanted = wanted
        self._loaded: dict[str, NDArray[Any]] = {}
        self._y: str | None = None
        self._boxed = False  # the labels are boxes and their classes
        self.names: tuple[str, ...] = ()
        if self.kind == "npy":
            self._x: tuple[str, ...] = ("",)
        else:
            self._x = self._choose(wanted)
        self._check()

    def _choose(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        present = self._present()
        listed = f"It holds: {', '.join(present) or 'nothing'}."
        for name in wanted:
            if name not in present:
                raise InputError(f"{self.file} has no array named {name!r}.", listed)
        if wanted:
            self._y = wanted[1] if len(wanted) > 1 else None
            return (wanted[0],)
        self._y = "y" if "y" in present else None
        self._boxed = self._y is None and {"boxes", "classes"} <= set(present)
        if "x" in present:
            return ("x",)
        labels = {"y", "boxes", "classes"} if self._boxed else {"y"}
        named = tuple(name for name in present if name not in labels)
        counts = {self._array(name).shape[:1] for name in named}
        if len(named) > 1 and len(counts) == 1 and counts != {()}:
            self.names = named  # one array per named model input; `match` checks the names
            return named
        raise InputError(
            f"{self.file} has no array named 'x'.",
            f"{listed} Name the arrays: --calibration {self.file.name}:X or {self.file.name}:X,Y.",
        )

    def named(self, names: Sequence[str]) -> Arrays:
        """The same file, one array for each of a model's several inputs when it has them all: then
        "x" and "y" are names like others. This very set otherwise, or when the user chose."""
        if self.kind == "npy" or self._wanted or len(names) < 2:
            return self
        present = self._present()
        if self.names == tuple(names) or any(name not in present for name in names):
            return self
        chosen = copy(self)
        chosen.names = chosen._x = tuple(names)
        chosen._y = "y" if "y" in present and "y" not in names else None
        chosen._boxed = self._boxed and not {"boxes", "classes"} & set(names)
        chosen._check()
        return chosen

    def _present(self) -> list[str]:
        import zipfile

        try:
            with zipfile.ZipFile(self.file) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise self._unreadable(error) from error
        for member in members:
            if member.file_size > _LARGEST_MEMBER_BYTES:
                raise InputError(
                    f"{self.file}: {member.filename} unpacks to {member.file_size >> 30} GiB.",
                    "Store it as .npy, which is read piece by piece.",
                )
        return [m.filename.removesuffix(".npy") for m in members if m.filename.endswith(".npy")]

    def _array(self, name: str) -> NDArray[Any]:
        import zipfile
        import zlib

        import numpy as np

        if name not in self._loaded:
            broken = (
                OSError,
                ValueError,
                EOFError,
                MemoryError,
                KeyError,
                zipfile.BadZipFile,
                zlib.error,
            )
            try:
                if self.kind == "npy":
                    value: NDArray[Any] = np.load(self.file, mmap_mode="r", allow_pickle=False)
                else:
                    with np.load(self.file, allow_pickle=False) as archive:
                        value = archive[name]
            except broken as error:
                raise self._unreadable(error, name) from error
            self._loaded[name] = value
        return self._loaded[name]

    def _unreadable(self, error: Exception, name: str = "") -> InputError:
        which = f"{self.file}, array {name!r}," if name else f"{self.file}"
        return InputError(
            f"{which} cannot be read: {error}.".replace("..", "."),
            "It must hold plain numeric arrays (no pickled objects), as numpy.savez writes them.",
        )

    def _check(self) -> None:
        for name in self._x:
            array = self._array(name)
            label = f"array {name!r} of {self.file}" if name else str(self.file)
            if array.dtype.kind not in "biuf":
                raise InputError(
                    f"The {label} holds {array.dtype}, not numbers.".replace("The /", "/")
                )
            if array.ndim == 0 or len(array) == 0:
                raise InputError(
                    f"The {label} is empty.", "Give at least 10 samples; 100 are better."
                )
            if len(array) != len(self):
                raise InputError(
                    f"{self.file} has {len(self)} samples in {self._x[0]!r} but {len(array)} in "
                    f"{name!r}."
                )
        for label in ("boxes", "classes") if self._boxed else filter(None, (self._y,)):
            y = self._array(label)
            if y.ndim == 0 or len(y) != len(self):
                raise InputError(
                    f"{self.file} has {len(self)} samples in {self._x[0]!r} but "
                    f"{len(y) if y.ndim else 1} labels in {label!r}.",
                    "Store one label a sample, in the order of the samples.",
                )

    def __len__(self) -> int:
        return len(self._array(self._x[0]))

    def take(self, index: int) -> tuple[Any, ...]:
        return tuple(self._array(name)[index] for name in self._x)

    def rows(self, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Samples `start` to `stop`, an array for each input."""
        return tuple(self._array(name)[start:stop] for name in self._x)

    def labels(self) -> NDArray[np.int64] | None:
        if self._y is None:
            return None
        return as_labels(self._array(self._y), f"{self._y!r} of {self.file}")

    def targets(self) -> NDArray[Any] | Sequence[Any] | None:
        from edgeopt.dataset.targets import checked_numbers, padded_boxes

        if self._boxed:
            return padded_boxes(self._array("boxes"), self._array("classes"), str(self.file))
        if self._y is None:
            return None
        return checked_numbers(self._array(self._y), f"{self._y!r} of {self.file}")

    def digest(self) -> str:
        from edgeopt.artifact import hash_path

        return hashlib.sha256(f"{hash_path(self.file)} {self._x} {self._y}".encode()).hexdigest()


def as_labels(array: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Class numbers of shape (N,): from integers, whole floats, (N, 1), or one row of 0/1 each."""
    import numpy as np

    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        return np.asarray(array.argmax(axis=1), dtype=np.int64)
    whole = array.dtype.kind in "biu" or (
        array.dtype.kind == "f"
        and bool(np.isfinite(array).all() and (array == np.rint(array)).all())
    )
    if array.ndim != 1 or not whole:
        raise InputError(
            f"The labels {what} are {array.dtype} of shape {array.shape}, not class numbers.",
            "Give one integer a sample, or one-hot rows.",
        )
    return array.astype(np.int64)


def iterate(source: Source, indices: range | list[int]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(index, raw sample) for each index."""
    for index in indices:
        yield index, source.take(index)
