"""Compile a quantized .tflite for the Edge TPU with Google's edgetpu_compiler.

Success takes three witnesses: the exit code, the text and the file, which must agree. The compiler
works on a copy with a simple name in a private folder, so the user's paths and names never reach
its command line; what it printed is kept in a log beside the result, whatever the outcome.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from edgeopt.compile.bounded import Execution
from edgeopt.compile.compiled_check import check_compiled
from edgeopt.compile.compiler_failures import diagnose, facts
from edgeopt.compile.compiler_host import MODEL_NAME, CompilerHost, find_host
from edgeopt.compile.compiler_output import CompilerOutput, ModelBlock, parse_output, says_double
from edgeopt.compile.contract import CompileOptions, CompileResult
from edgeopt.compile.edgetpu_flags import flags_of, settled
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.facts import ModelFacts
from edgeopt.model import read
from edgeopt.model.edgetpu_payload import is_compiled
from edgeopt.progress import Progress

__all__ = ["compile_model"]

_TAIL_CHARACTERS = 1500
_MAX_STEM_BYTES = 200  # file systems allow 255 for a name, and "_edgetpu.tflite" follows


def compile_model(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """Write `<stem>_edgetpu.tflite` and `.log` into `out_dir`, and prove the file.

    Raises ModelError when the model is at fault (only another model can help: unreadable, float,
    operations or versions that the compiler lacks, dynamic or too large tensors), ToolError when
    the compiler is (missing, crashed, out of time, or its file does not match its words),
    InputError for options that make no sense. A failed compile leaves only the log.
    """
    options = settled(options)
    model = _readable_source(source)
    host = find_host(options)
    out_dir = _folder(out_dir)
    progress.stage(f"Edge TPU compiler ({host.name})")
    version_text = host.version()
    version = _version(host, version_text)
    with tempfile.TemporaryDirectory(prefix="edgeopt-compile-", ignore_cleanup_errors=True) as tmp:
        shared = Path(tmp) / "shared"
        (shared / "out").mkdir(parents=True)
        shutil.copyfile(source, shared / MODEL_NAME)
        flags = flags_of(options, version)
        ended = host.compile(flags, shared / MODEL_NAME, shared / "out", options.timeout_s)
        log = _write_log(out_dir, source, host, version_text, ended, shared / "out")
        output = _parsed(ended, shared / "out")
        produced = _judged(ended, output, shared / "out", log, options)
        result = _proved(model, produced, output, options, log)
        path = _publish(produced, out_dir / f"{_stem(source)}_edgetpu.tflite")
    double = host.is_stand_in or output.is_double or says_double(version_text)
    return replace(
        result,
        path=path,
        stdout=ended.text,
        compiler_version=version,
        compiler_kind=host.kind,
        argv=ended.argv,
        is_double=double,
        compile_ms=None if double else result.compile_ms,  # a stand-in's figure is made up
        warnings=(*_warnings(host, double), *result.warnings),
        details={**result.details, "compiler": host.name, "seconds": round(ended.seconds, 3)},
    )


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


def _version(host: CompilerHost, text: str) -> str:
    version = parse_output(text).version
    if version is None:
        said = text.strip()[:200] or "nothing"
        raise ToolError(
            f"{host.name} does not answer --version as edgetpu_compiler does. It says: {said}",
            "Name Google's edgetpu_compiler with --compiler.",
            argv=[host.name, "--version"],
        )
    return version


def _stem(source: Path) -> str:
    """The name without its last suffix, cut so that what is added still fits a file name."""
    return source.stem.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore")


def _write_log(
    out_dir: Path, source: Path, host: CompilerHost, version: str, ended: Execution, made: Path
) -> Path:
    """Everything the compiler said, then its own .log, in one file beside the result."""
    path = out_dir / f"{_stem(source)}_edgetpu.log"
    end = "killed at the deadline" if ended.timed_out else f"exit code {ended.exit_code}"
    parts = [
        f"# {source}\n# {host.name} ({host.kind}): {' '.join(version.split())}",
        f"# {shlex.join(ended.argv)}\n# {end} after {ended.seconds:.2f} s",
        f"--- stdout ---\n{ended.text}",
        f"--- stderr ---\n{ended.error_text}",
    ]
    for own in sorted(made.glob("*.log")):
        parts.append(f"--- {own.name} ---\n{own.read_text('utf-8', 'replace')}")
    path.write_text("\n".join(parts), "utf-8")
    return path


def _parsed(ended: Execution, made: Path) -> CompilerOutput:
    """What was printed; the operation table from the .log where stdout has none."""
    output = parse_output(f"{ended.text}\n{ended.error_text}")
    if not output.blocks or output.blocks[0].operations:
        return output
    for own in sorted(made.glob("*.log")):
        rows = [b.operations for b in parse_output(own.read_text("utf-8", "replace")).blocks]
        if rows and rows[0]:
            first = replace(output.blocks[0], operations=rows[0])
            return replace(output, blocks=(first, *output.blocks[1:]))
    return output


def _judged(
    ended: Execution, output: CompilerOutput, made: Path, log: Path, options: CompileOptions
) -> Path:
    """The file that was written, if exit code, text and file all say so."""
    files = [f for f in sorted(made.glob("*_edgetpu.tflite")) if f.is_file() and not f.is_symlink()]
    if ended.exit_code == 0 and output.succeeded and len(files) == 1:
        return files[0]
    if ended.timed_out:
        raise _tool_error(
            f"The Edge TPU compiler did not finish within {options.timeout_s:g} s and was ended.",
            "Raise --timeout, or let it map fewer operations with --search-delegate.",
            ended,
            log,
        )
    if ended.flooded:
        raise _tool_error("The Edge TPU compiler printed without end.", "", ended, log)
    text = f"{ended.text}\n{ended.error_text}"
    if not (ended.exit_code == 0 and output.succeeded) and (
        found := diagnose(text, ended.exit_code)
    ):
        if found.fault == "model":
            raise ModelError(
                found.message, f"{found.hint}\nLog: {log}", details=_details(ended, log)
            )
        raise _tool_error(found.message, found.hint, ended, log)
    raise _tool_error(_unexplained(ended, output, len(files)), "", ended, log)


def _unexplained(ended: Execution, output: CompilerOutput, files: int) -> str:
    if ended.exit_code == 0 and output.succeeded:
        wrote = "no compiled file" if files == 0 else f"{files} files instead of one"
        return f"The Edge TPU compiler reported success but wrote {wrote}."
    said = f"{ended.error_text}\n{ended.text}".strip()[-_TAIL_CHARACTERS:] or "nothing"
    return f"The Edge TPU compiler failed (exit code {ended.exit_code}). It said: {said}"


def _details(ended: Execution, log: Path) -> dict[str, object]:
    """For the JSON document: the log may lie in a folder that does not outlive the error."""
    tail = f"{ended.text}\n{ended.error_text}".strip()[-_TAIL_CHARACTERS:]
    return {
        "argv": list(ended.argv),
        "returncode": ended.exit_code,
        "log": str(log),
        "output": tail,
    }


def _tool_error(message: str, hint: str, ended: Execution, log: Path) -> ToolError:
    return ToolError(
        message,
        f"{hint}\nLog: {log}".strip(),
        argv=ended.argv,
        returncode=ended.exit_code,
        log=log,
        details=_details(ended, log),
    )


def _proved(
    model: ModelFacts, produced: Path, output: CompilerOutput, options: CompileOptions, log: Path
) -> CompileResult:
    block = output.blocks[0] if output.blocks else ModelBlock()
    try:
        placement, partitions, warnings = check_compiled(model, read(produced), block, options)
    except ToolError as error:
        error.log = log
        error.details["log"] = str(log)
        raise
    except EdgeoptError as error:
        raise ToolError(
            f"The Edge TPU compiler wrote a file that cannot be used: {error.message}",
            f"Compile again; if it repeats, keep the log: {log}",
            log=log,
        ) from error
    return CompileResult(
        path=produced,
        log=log,
        placement=placement,
        operations=block.operations,
        compile_ms=block.compile_ms,
        warnings=warnings,
        details={
            "printed": replace(block, operations=()).to_json(),
            "partitions": [p.to_json() for p in partitions],
            "runtime_version_offered": options.runtime_version or facts()["runtime_version"],
        },
    )


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


def _warnings(host: CompilerHost, double: bool) -> tuple[str, ...]:
    if double:
        return (
            f"{host.name} is a stand-in for edgetpu_compiler (a test double or a recording): this "
            "is not a genuine compilation.",
        )
    if host.kind.startswith("script"):
        return (
            f"{host.name} is a script and not Google's binary: the compilation is only as genuine "
            "as what it calls.",
        )
    return ()
