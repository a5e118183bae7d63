"""Compile quantized .tflite files for the Edge TPU with Google's edgetpu_compiler.

Success takes three witnesses: the exit code, the text and the files, which must agree. The compiler
works on copies with simple names in a private folder, so the user's paths and names never reach
its command line; what it printed is kept in a log beside each result, whatever the outcome.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeopt.compile.attempts import Run, running
from edgeopt.compile.compiled_check import check_compiled, check_tokens
from edgeopt.compile.compiler_failures import facts
from edgeopt.compile.compiler_host import find_host
from edgeopt.compile.compiler_output import ModelBlock
from edgeopt.compile.contract import CompiledSegment, CompileOptions, CompileResult, OpStatus
from edgeopt.compile.edgetpu_flags import check_request, segments_of, settled, warnings_of
from edgeopt.compile.judge import blocks_of, target_names
from edgeopt.compile.segments import feeds, parts_of
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.model import read
from edgeopt.model.edgetpu_payload import Partition, is_compiled
from edgeopt.progress import Progress

__all__ = ["compile_model", "compile_together"]

_MAX_STEM_BYTES = 200  # file systems allow 255 for a name, and "_edgetpu.tflite" follows


def compile_model(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """Write `<stem>_edgetpu.tflite` and `.log` into `out_dir`, and prove the file.

    With `num_segments` in the options it writes `<stem>_segment_<i>_of_<n>_edgetpu.tflite` for i
    from 0; `segments` of the result names them all and `path` the first.

    Raises ModelError when the model is at fault (only another model can help: unreadable, float,
    operations or versions that the compiler lacks, dynamic or too large tensors), ToolError when
    the compiler is (missing, crashed, out of time, or its files do not match its words),
    InputError for options that make no sense. A failed compile leaves only the log.
    """
    return _compile((source,), out_dir, settled(options), progress)[0]


def compile_together(
    sources: Sequence[Path], out_dir: Path, options: CompileOptions, progress: Progress
) -> tuple[CompileResult, ...]:
    """Compile several models for one Edge TPU, whose parameter cache they share; in this order.

    The compiler fills the cache from the first model on, so the first has the best chance of being
    cached whole. Results are in the order of `sources`; each file is proven against its own
    source, and all must carry one caching token: with others the chip would empty its cache at
    every change of model. Raises as `compile_model` does; then no file is written at all.
    """
    stems = [_stem(source) for source in sources]
    if len(sources) < 2 or len(set(stems)) < len(stems):
        raise InputError(
            "Models that are compiled together need names of their own."
            if len(sources) > 1
            else "Compiling together takes two models or more.",
            "Rename one: the results are called after them.",
        )
    return _compile(tuple(sources), out_dir, settled(options), progress)


def _compile(
    sources: tuple[Path, ...], out_dir: Path, options: CompileOptions, progress: Progress
) -> tuple[CompileResult, ...]:
    models = [_readable_source(source) for source in sources]
    check_request(options, models)
    host = find_host(options)
    out_dir = _folder(out_dir)
    logs = [out_dir / f"{_stem(source)}_edgetpu.log" for source in sources]
    with running(host, sources, logs, options, progress) as run:
        try:
            results = _proved(run, models, sources, options)
        except ToolError as error:
            error.log = logs[0]
            error.details |= {"log": str(logs[0]), "attempts": list(run.attempts)}
            raise
        return tuple(_published(result, out_dir) for result in results)


def _readable_source(source: Path) -> ModelFacts:
    if not source.is_file():
        raise InputError(f"{source} is not a file.", "Name the quantized .tflite to compile.")
    model = read(source)
    if model.format != "tflite":
        raise ModelError(
            f"{source} is a {model.format} model; the Edge TPU compiler takes a quantized .tflite.",
            "Convert it first: edgeopt convert MODEL --target edgetpu --calibration DATA.",
        )
    if is_compiled(model):
        raise ModelError(
            f"{source} is already compiled for an Edge TPU.", "Give the model before compiling."
        )
    return model


def _folder(out_dir: Path) -> Path:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {out_dir} cannot be made: {error.strerror}.", "Give another --output."
        ) from error
    return out_dir


def _stem(source: Path) -> str:
    """The name without its last suffix, cut so that what is added still fits a file name."""
    return source.stem.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore")


def _proved(
    run: Run, models: Sequence[ModelFacts], sources: Sequence[Path], options: CompileOptions
) -> list[CompileResult]:
    """Each file against the model it was made from, with `path` still in the private folder."""
    count = segments_of(options)
    blocks = blocks_of(run.output, target_names(run.models, count), run.models)
    compiled = [_readable_result(path) for path in run.files]
    if count > 1:
        return [_pipeline(run, models[0], compiled, blocks, options)]
    results, partitions = [], []
    for number, (model, made) in enumerate(zip(models, compiled, strict=True)):
        placement, parts, warnings = check_compiled(model, made, blocks[number], options)
        partitions.append(parts)
        results.append(
            replace(
                run.evidence(number),
                placement=placement,
                operations=blocks[number].operations,
                compile_ms=None if run.is_double else blocks[number].compile_ms,
                warnings=(*run.warnings, *warnings_of(options), *warnings),
                details=run.details | _details(blocks[number], parts, options),
            )
        )
    if len(sources) == 1:
        return results
    token = check_tokens([source.name for source in sources], partitions)
    return [
        replace(r, details={**r.details, "caching_token": token, "position": i})
        for i, r in enumerate(results)
    ]


def _readable_result(path: Path) -> ModelFacts:
    try:
        return read(path)
    except EdgeoptError as error:
        raise ToolError(
            f"The Edge TPU compiler wrote a file that cannot be used: {error.message}",
            "Compile again; if it repeats, keep the log.",
        ) from error


def _pipeline(
    run: Run,
    model: ModelFacts,
    compiled: Sequence[ModelFacts],
    blocks: Sequence[ModelBlock],
    options: CompileOptions,
) -> CompileResult:
    parts = parts_of(model, compiled)
    makers = feeds(model, compiled)
    segments: list[CompiledSegment] = []
    rows: list[OpStatus] = []
    warnings = [*run.warnings, *warnings_of(options)]
    for index, (part, made) in enumerate(zip(parts, compiled, strict=True)):
        try:
            placement, partitions, more = check_compiled(part, made, blocks[index], options)
        except ToolError as error:
            error.message = f"Segment {index}: {error.message}"
            raise
        warnings += [f"Segment {index}: {text}" for text in more]
        rows += blocks[index].operations
        segments.append(
            CompiledSegment(
                index=index,
                of=len(compiled),
                path=run.files[index],
                placement=placement,
                operations=blocks[index].operations,
                compile_ms=None if run.is_double else blocks[index].compile_ms,
                inputs=tuple(
                    (t.name, maker) for t, maker in zip(made.inputs, makers[index], strict=True)
                ),
                outputs=tuple(t.name for t in made.outputs),
                details=_details(blocks[index], partitions, options),
            )
        )
    return replace(
        run.evidence(0),
        placement=_summed([s.placement for s in segments]),
        operations=tuple(rows),
        segments=tuple(segments),
        warnings=tuple(warnings),
        details=run.details,
    )


def _summed(placements: Sequence[Placement]) -> Placement:
    """The whole pipeline: every operation of the source once, sizes and partitions added."""
    return Placement(
        source="compiler",
        ops_total=sum(p.ops_total for p in placements),
        ops_mapped=sum(p.ops_mapped for p in placements),
        ops_cpu=sum(p.ops_cpu for p in placements),
        subgraphs=sum(p.subgraphs or 0 for p in placements),
        on_chip_bytes=sum(p.on_chip_bytes or 0 for p in placements),
        off_chip_bytes=sum(p.off_chip_bytes or 0 for p in placements),
        ops=tuple(sorted((op for p in placements for op in p.ops), key=lambda op: op.index)),
    )


def _details(
    block: ModelBlock, partitions: tuple[Partition, ...], options: CompileOptions
) -> dict[str, object]:
    return {
        "printed": replace(block, operations=()).to_json(),
        "partitions": [p.to_json() for p in partitions],
        "runtime_version_offered": options.runtime_version or facts()["runtime_version"],
    }


def _published(result: CompileResult, out_dir: Path) -> CompileResult:
    """The same result with its files in `out_dir`, under the user's names."""
    assert result.log is not None  # every run writes one
    stem = result.log.stem.removesuffix("_edgetpu")
    if not result.segments:
        return replace(result, path=_publish(result.path, out_dir / f"{stem}_edgetpu.tflite"))
    segments = tuple(
        replace(s, path=_publish(s.path, out_dir / f"{stem}{_segment(s)}_edgetpu.tflite"))
        for s in result.segments
    )
    return replace(result, path=segments[0].path, segments=segments)


def _segment(segment: CompiledSegment) -> str:
    return f"_segment_{segment.index}_of_{segment.of}"


def _publish(produced: Path, target: Path) -> Path:
    """Complete or not at all: a copy beside the target, then a rename."""
    handle, name = tempfile.mkstemp(prefix=".edgeopt-", dir=target.parent)
    os.close(handle)
    try:
        shutil.copyfile(produced, name)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise ToolError(
            f"{target} cannot be written: {error.strerror}.", "Is the disk full?"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)
    return target
