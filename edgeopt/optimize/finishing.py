"""What a quantized file gets before it is used: its edges, versions that old tools know, a run."""

from __future__ import annotations

from pathlib import Path

from edgeopt.errors import EdgeoptError, ModelError
from edgeopt.optimize.checks import state_notes
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.progress import Progress

__all__ = ["finished"]

# A FlatBuffer ends at 2 GiB. Below, weights stay inside it: older runtimes (tflite-runtime 2.14, a
# board's benchmark_model) do not know the ones that the quantizer stores behind it.
_INLINE_BYTES = 1 << 30


def finished(path: Path, request: ConversionRequest, progress: Progress) -> list[str]:
    """Give the file its edges, make it readable for old tools, then load and run it; what is to be
    said of it. Raises ModelError when it does not run."""
    from edgeopt.model import probe, read
    from edgeopt.model.edit import compact, inline_buffers
    from edgeopt.model.edit_io import with_io
    from edgeopt.optimize.legacy import lower_versions, raise_versions

    data, notes = path.read_bytes(), list[str]()
    if request.scheme == "int8":
        data = with_io(data, request.final_io)
    if request.legacy_ops or len(data) < _INLINE_BYTES:
        data = inline_buffers(data)
    if request.legacy_ops:
        data, changes = lower_versions(raise_versions(data))
        notes += changes
    elif request.scheme not in ("float32", "float16") and len(data) < _INLINE_BYTES:
        data = compact(data)
    path.write_bytes(data)
    progress.stage("Checking that the result runs")
    try:
        probe(path)
    except ModelError as error:
        raise _unloadable(error, request, path) from error
    return notes + state_notes(read(path))


def _unloadable(error: EdgeoptError, request: ConversionRequest, made: Path) -> ModelError:
    if "integer_overflow" in error.message:
        return ModelError(
            "The calibrated ranges overflow the integer arithmetic: the calibration data is too "
            "small or too uniform.",
            "Give 100 to 500 varied samples of real input with --calibration.",
            details=error.details,
        )
    hint = (
        "Check that the float model runs and that its calibration data is what it was trained on."
    )
    return ModelError(
        f"The {request.scheme} model was made but does not run, and was thrown away: "
        f"{error.message.replace(str(made), 'it')}",
        hint if request.calibrated else error.hint,
        details=error.details,
    )
