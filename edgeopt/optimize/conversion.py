"""Convert: which engine, in which order, and what must be true of the result.

The LiteRT quantizer comes first; TensorFlow's converter only where the first cannot, which is said.
A file is put in place only after it was read back, loaded and run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.dataset import Dataset
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.optimize.checks import float_left, heavy_floats
from edgeopt.optimize.finishing import finished
from edgeopt.optimize.float_model import installed, staged, to_float
from edgeopt.optimize.recipes import ConversionRequest
from edgeopt.progress import Progress

if TYPE_CHECKING:
    from edgeopt.optimize.fallback import Fallback
    from edgeopt.optimize.quantizer import Quantized

__all__ = ["Conversion", "convert", "quantize"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """`engine` is "litert-quantizer", "tflite-converter" or "copy". `calibration` has samples,
    seconds and processes, None where nothing was calibrated. `layer_errors` is
    `LayerErrors.to_json()`, None where it was not measured; `fallback` is `Fallback.to_json()`,
    None where none was asked for. `quality` says which ways to quantize were tried, their losses,
    the chosen one and why; None where nothing beyond plain was wanted."""

    path: Path
    engine: str
    float_path: Path
    notes: tuple[str, ...] = ()
    calibration: dict[str, Any] | None = None
    layer_errors: dict[str, Any] | None = None
    fallback: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)


def convert(
    source: Path,
    request: ConversionRequest,
    output: Path,
    *,
    dataset: Dataset | None,
    progress: Progress,
) -> Conversion:
    """`to_float` and `quantize` in one; the float model is kept as `output` with `_float32`."""
    if request.calibrated:
        _need_data(request, dataset)
    between = output.with_name(f"{output.stem}_float32.tflite")
    made = to_float(
        source, between, batch=request.batch, legacy_ops=request.legacy_ops, progress=progress
    )
    if dataset is not None:
        dataset = dataset.in_order_of(made.input_names)
    if made.already_quantized:
        with staged(output) as folder:
            shutil.copyfile(between, folder / "result.tflite")
        note = f"{source.name} is already quantized: nothing to convert."
        return Conversion(path=output, engine="copy", float_path=between, notes=(note,))
    done = quantize(between, request, output, dataset=dataset, progress=progress, source=source)
    return Conversion(
        path=output,
        engine=done.engine,
        float_path=between,
        notes=(*made.notes, *done.notes),
        calibration=done.calibration,
        layer_errors=done.layer_errors,
        fallback=done.fallback,
        quality=done.quality,
        versions={**made.versions, **done.versions},
    )


def _need_data(request: ConversionRequest, dataset: Dataset | None) -> Dataset:
    if dataset is None:
        raise InputError(
            f"{request.scheme} needs a representative dataset to measure ranges with.",
            "Give calibration data with --calibration: 100 to 500 samples of real input.",
        )
    return dataset


def quantize(
    float_path: Path,
    request: ConversionRequest,
    output: Path,
    *,
    dataset: Dataset | None = None,
    progress: Progress,
    source: Path | None = None,
    single: Path | None = None,
) -> Conversion:
    """Write the float .tflite at `float_path` to `output` in the request's scheme.

    `source` is the model that it was made from: TensorFlow's converter needs it for operations that
    the LiteRT quantizer does not have. Where activations are held twice, `single` is the place for
    the same model without copies, to be measured beside it. Raises InputError without calibration
    data where it is needed, ModelError naming the operations that cannot be quantized.
    """
    from edgeopt.model import read

    facts = read(float_path)
    if facts.weights_reduced and request.scheme != "float32":
        raise ModelError(
            f"{float_path.name} is already quantized: it cannot become {request.scheme}.",
            "Give the float model that it was made from.",
        )
    if request.calibrated:
        dataset = _need_data(request, dataset).match(facts.inputs)
    with staged(output) as folder:
        job = _Job(float_path, request, folder, dataset, progress, source)
        engine = job.run()
        job.finish()
        errors = job.layer_errors()
        quality = job.quality(engine)
        if single is not None and job.made and job.made.single:
            job.made.single.replace(single)
    notes = (*(dataset.notes if dataset and request.calibrated else ()), *job.notes)
    return Conversion(
        path=output,
        engine=engine,
        float_path=float_path,
        notes=notes,
        calibration=job.calibration,
        layer_errors=errors,
        fallback=job.fallback.to_json() if job.fallback else None,
        quality=quality,
        versions={**installed("litert-quantizer", "ai-edge-litert"), **job.versions},
    )


@dataclass
class _Job:
    """One quantization on its way: the engine tried, what it said, what was measured."""

    float_path: Path
    request: ConversionRequest
    folder: Path
    dataset: Dataset | None
    progress: Progress
    source: Path | None
    made: Quantized | None = None
    notes: list[str] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    fallback: Fallback | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def result(self) -> Path:
        return self.folder / "result.tflite"

    def run(self) -> str:
        """Make the result, and name the engine that did."""
        if self.request.scheme == "float32":
            shutil.copyfile(self.float_path, self.result)
            return "copy"
        why, cause = self._with_litert()
        if not why:
            self._fall_back()
            return "litert-quantizer"
        if self.request.falls_back:
            raise ModelError(
                f"No single layer can become {self.request.quality.fallback}: {why}, and "
                "TensorFlow's converter knows no layers.",
                "Leave --fallback out.",
            ) from cause
        if not self._has_original():
            return self._accept(why, cause)
        self._with_tensorflow(why)
        return "tflite-converter"

    def _with_litert(self) -> tuple[str, ModelError | None]:
        """Why the LiteRT quantizer's result will not do; empty when it will."""
        from edgeopt.optimize.quantizer import quantize_file

        try:
            made = quantize_file(
                self.float_path,
                self.request,
                self.result,
                dataset=self.dataset,
                progress=self.progress,
                good=lambda: not self._unfinished(),
            )
        except ModelError as error:
            if "exception" not in error.details:
                raise  # the model or the data, not the quantizer
            return error.message, error
        self.made = made
        if made.measured is not None:
            self.calibration = made.measured.to_json()
            self.notes += made.measured.notes
        left = self._unfinished()
        if not left:
            self.notes += made.notes
        return (f"the LiteRT quantizer leaves {_named(left)} in float" if left else ""), None

    def _unfinished(self) -> list[Operator]:
        from edgeopt.model import read

        made = read(self.result)
        if self.request.scheme == "int8":
            return float_left(made)
        if self.request.scheme == "int16x8":
            return [op for op in float_left(made) if not _only_edges(op, made)]
        return heavy_floats(made)

    def _has_original(self) -> bool:
        from edgeopt.model import detect

        return self.source is not None and detect(self.source) != "tflite"

    def _accept(self, why: str, cause: ModelError | None) -> str:
        """Without the original model: weights may stay float, activations may not."""
        if cause is None and not self.request.calibrated:
            self.notes.append(f"Part of the weights stay float32: {why}.")
            return "litert-quantizer"
        raise ModelError(
            f"{self.float_path.name} cannot become {self.request.scheme}: {why}.",
            "Give the Keras model or SavedModel that the .tflite was made from (TensorFlow's "
            "converter knows more operations), or replace those operations in the model.",
        ) from cause

    def _with_tensorflow(self, why: str) -> None:
        from edgeopt.optimize.tflite_converter import convert_with_tensorflow

        assert self.source is not None
        self.notes.append(f"Converted with TensorFlow's converter, since {why}.")
        try:
            answer = convert_with_tensorflow(
                self.source,
                self.float_path,
                self.request,
                self.folder,
                dataset=self.dataset,
                progress=self.progress,
            )
        except ToolError as error:
            raise _beyond_both(error, self.source, self.request, why) from error
        self.versions.update(answer["versions"])
        if self.request.calibrated:
            count = self.dataset.count(self.request.samples) if self.dataset else 0
            self.calibration = {
                "samples": count,
                "seconds": answer["calibration_seconds"],
                "processes": 1,
            }
        left = self._unfinished() if self.request.calibrated else []
        if left:
            raise ModelError(
                f"{self.source.name} cannot become {self.request.scheme}: "
                f"{_named(left)} stay in float with both converters.",
                "Replace those operations in the model, or use a scheme that keeps float parts.",
                details={"operations": [op.where for op in left]},
            )

    def finish(self) -> None:
        """Give the result, and the single one of what is held twice, edges; then run them."""
        self.notes += finished(self.result, self.request, self.progress)
        if self.made and self.made.single:
            finished(self.made.single, self.request, self.progress)

    def _fall_back(self) -> None:
        """Replace the result by one whose worst layers are not int8, where that was asked for."""
        from edgeopt.optimize.fallback import replace_worst

        made = self.made
        if not self.request.falls_back or self.dataset is None:
            return
        if made is None or made.measured is None:
            return
        self.fallback = replace_worst(
            made.model, self.request, self.result, made.measured, self.dataset, self.progress
        )
        self.notes.append(self.fallback.note)

    def quality(self, engine: str) -> dict[str, Any] | None:
        from edgeopt.optimize.selection import plain_quality

        if engine == "litert-quantizer":
            return self._with_sizes(self.made.quality) if self.made else None
        if not self.request.calibrated or self.request.quality.unimproved:
            return None
        return plain_quality("TensorFlow's converter measures ranges itself")

    def _with_sizes(self, quality: dict[str, Any] | None) -> dict[str, Any] | None:
        """What holding activations twice costs in bytes."""
        if not quality or not self.made or not self.made.single:
            return quality
        from edgeopt.artifact import Artifact

        kept = ("sha256", "size_bytes", "gzip_bytes")
        plain = Artifact.of(self.made.single, "optimized").to_json()
        sizes = {"plain_int8": {name: plain[name] for name in kept}}
        return {**quality, "splitting": {**quality["splitting"], **sizes}}

    def _done(self) -> dict[str, tuple[str, ...]]:
        """By result name, what was done for a layer's accuracy."""
        from edgeopt.optimize.layer_errors import what_was_done

        made = self.made
        done = {}
        if made is not None:
            first = made.rewritten or self.float_path
            done = what_was_done(first, *made.edited)
        more = dict.fromkeys(made.held_twice if made else (), ("held twice",))
        for name, kind in (more | (self.fallback.done if self.fallback else {})).items():
            done[name] = (*done.get(name, ()), *kind)
        return done

    def layer_errors(self) -> dict[str, Any] | None:
        """What each operation costs. The model is good without knowing: a failure is noted."""
        from edgeopt.optimize.layer_errors import layer_errors

        if not self.request.calibrated or self.dataset is None:
            return None
        try:
            found = layer_errors(
                self.made.reference if self.made else self.float_path,
                self.result,
                self.dataset,
                progress=self.progress,
                done=self._done(),
            )
        except EdgeoptError as error:
            self.notes.append(f"The error of each layer was not measured: {error.message}")
            return None
        return found.to_json()


def _beyond_both(
    error: ToolError, source: Path, request: ConversionRequest, why: str
) -> EdgeoptError:
    """TensorFlow's converter dies of some models (recurrent loops under calibration): it is the
    model that must change. Out of memory, or without TensorFlow, it is the machine."""
    ended = error.details.get("ended", "SIGKILL")
    if "SIGKILL" in ended:
        return error
    return ModelError(
        f"{source.name} cannot become {request.scheme}: {why}, and TensorFlow's converter crashes "
        f"on it ({ended}).",
        "Replace those operations in the model (a recurrent layer can be built with unroll=True), "
        "or use a scheme that keeps float parts: float16 or dynamic_int8.",
        details=error.details,
    )


def _named(operators: list[Operator]) -> str:
    names = list(dict.fromkeys(_short(op.where) for op in operators))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _short(where: str) -> str:
    """Fused operators carry the names of all their parts, joined by semicolons: keep the first."""
    head, joined, _ = where.partition(";")
    return f"{head})" if joined else head


def _only_edges(op: Operator, facts: ModelFacts) -> bool:
    """True when the float tensors of `op` are the model's own inputs or outputs."""
    edges = {t.index for t in (*facts.inputs, *facts.outputs)}
    floats = [t for t in (*op.inputs, *op.outputs) if t is not None and t.dtype == "float32"]
    return all(t.index in edges for t in floats)
