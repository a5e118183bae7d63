"""To float: any source as a float32 .tflite with a static batch and a signature."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.optimize.checks import check_finite, check_float, open_inputs
from edgeopt.progress import Progress

__all__ = ["FloatModel", "installed", "staged", "to_float"]


@dataclass(frozen=True, kw_only=True)
class FloatModel:
    """`input_names` are in the source's order; TensorFlow's converter may sort them by name.
    `already_quantized`: the file is the source as it was, there was nothing to convert."""

    path: Path
    source_format: str
    input_names: tuple[str, ...] = ()
    already_quantized: bool = False
    engine: str = "copy"  # "copy" or "tflite-converter"
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def installed(*packages: str) -> dict[str, str]:
    """The versions of those of `packages` that are installed, without importing them."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside `output` whose `result.tflite` becomes `output` when the block ends well.

    Nothing is left of it otherwise, whatever ended the block. Raises InputError when the place
    cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".edgeopt-", dir=output.parent))
    except OSError as error:
        raise InputError(
            f"Cannot write to {output.parent}: {error.strerror or error}.",
            "Free some space or choose another place with --output.",
        ) from error
    try:
        yield folder
        (folder / "result.tflite").replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def to_float(
    source: Path,
    output: Path,
    *,
    batch: int = 1,
    legacy_ops: bool = False,
    progress: Progress,
) -> FloatModel:
    """Write `source` (Keras 3, legacy .h5, SavedModel or .tflite) to `output` as a float .tflite.

    `legacy_ops` writes recurrent and resizing layers of Keras 3 as `keras_layers` says.

    A quantized .tflite is copied and flagged. Raises ModelError for a model that cannot be read,
    converted or given a static batch, ToolError without TensorFlow, InputError for a missing file.
    """
    from edgeopt.model import probe, read

    if batch < 1:
        raise InputError(f"The batch must be at least 1, not {batch}.")
    facts = read(source)
    with staged(output) as folder:
        result = folder / "result.tflite"
        if facts.format == "tflite":
            made = _from_tflite(source, facts, result, output, batch)
        else:
            progress.stage(f"Converting {source.name} with TensorFlow")
            made = _from_tensorflow(source, facts, folder, output, batch, legacy_ops)
        if not made.already_quantized:
            done = read(result)
            check_finite(done, source)
            try:
                probe(result)
            except ModelError as error:
                raise _does_not_run(error, done, source) from error
    return replace(made, input_names=tuple(t.name for t in facts.inputs))


def _does_not_run(error: ModelError, made: ModelFacts, source: Path) -> ModelError:
    """The runtime's reason, about the user's file, with the custom operations that it may mean."""
    custom = list(dict.fromkeys(op.where for op in made.operators() if op.custom))
    reason = error.message.replace(str(made.path), source.name)
    if not custom:
        return ModelError(reason, error.hint, details=error.details)
    return ModelError(
        f"{source.name} has custom operations that the LiteRT runtime does not have: "
        f"{', '.join(custom[:5])}.",
        "Replace them in the model with TensorFlow Lite's own operations, then convert it again.",
        details={**error.details, "reason": reason},
    )


def _from_tflite(
    source: Path, facts: ModelFacts, result: Path, output: Path, batch: int
) -> FloatModel:
    from edgeopt.model.edit import ensure_signature
    from edgeopt.model.edit_batch import set_batch

    data = source.read_bytes()
    done = FloatModel(path=output, source_format="tflite", already_quantized=True)
    if facts.weights_reduced:
        result.write_bytes(data)
        return done
    before = [t.shape for t in facts.inputs]
    notes: tuple[str, ...] = ()
    if opened := open_inputs(facts):
        data = set_batch(data, batch)
        notes = (f"The batch was open and is now {batch}: {', '.join(opened)}.",)
    elif any(shape and shape[0] != batch for shape in before) and batch != 1:
        raise ModelError(
            f"{source.name} has a fixed batch of {before[0][0] if before[0] else 0}; {batch} was "
            "asked for.",
            "Export it with that batch, or leave --batch out.",
        )
    result.write_bytes(ensure_signature(data))
    return FloatModel(
        path=output, source_format="tflite", notes=notes, versions=installed("ai-edge-litert")
    )


def _from_tensorflow(
    source: Path, facts: ModelFacts, folder: Path, output: Path, batch: int, legacy_ops: bool
) -> FloatModel:
    from edgeopt.model import read
    from edgeopt.optimize.tf_process import run_tensorflow

    result = folder / "result.tflite"
    job = tensorflow_job(source, facts.format, result, folder / "saved", batch, legacy_ops)
    answer = run_tensorflow(job, source)
    made = read(result)
    check_float(made, facts.parameters, source)
    if opened := open_inputs(made):
        raise ModelError(f"{source.name} still has open dimensions: {', '.join(opened)}.")
    return FloatModel(
        path=output,
        source_format=facts.format,
        engine="tflite-converter",
        versions={**answer["versions"], **installed("keras", "tf-keras")},
    )


def tensorflow_job(
    source: Path, form: str, result: Path, saved: Path, batch: int, legacy_ops: bool
) -> dict[str, object]:
    """The job of tf_worker that converts to float; other schemes change what they need."""
    return {
        "source": str(source.resolve()),
        "format": form,
        "batch": batch,
        "scheme": "float32",
        "output": str(result.resolve()),
        "folder": str(saved.resolve()),
        "per_channel": True,
        "legacy_ops": legacy_ops,
    }
