"""Did a run of edgetpu_compiler succeed? Exit code, text and files must all say so.

Each model or segment that was asked for has one file of a known name; fewer, or others, is a
failure whatever was printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from edgeopt.compile.bounded import Execution
from edgeopt.compile.compiler_failures import diagnose
from edgeopt.compile.compiler_output import CompilerOutput, ModelBlock, parse_output
from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import EdgeoptError, ModelError, ToolError

__all__ = ["Verdict", "blocks_of", "judged", "target_names"]

_TAIL_CHARACTERS = 1500


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`name` is "compiled" or that of the failure; `error` is what to raise, None for success.

    `files` holds what was written, in the order asked for.
    """

    name: str
    output: CompilerOutput
    files: tuple[Path, ...] = ()
    error: EdgeoptError | None = field(default=None, repr=False)


def target_names(models: Sequence[Path], segments: int) -> tuple[str, ...]:
    """What the compiler calls its files (seen in google-coral/test_data and in its own text)."""
    if segments > 1:
        stem = models[0].stem
        return tuple(f"{stem}_segment_{i}_of_{segments}_edgetpu.tflite" for i in range(segments))
    return tuple(f"{model.stem}_edgetpu.tflite" for model in models)


def judged(
    ended: Execution, made: Path, targets: Sequence[str], log: Path, options: CompileOptions
) -> Verdict:
    """The verdict on a run whose files are in the folder `made`. Raises nothing of its own."""
    output = _with_tables(parse_output(f"{ended.text}\n{ended.error_text}"), made)
    found = sorted(f.name for f in made.glob("*_edgetpu.tflite") if f.is_file())
    found = [name for name in found if not (made / name).is_symlink()]
    said = ended.exit_code == 0 and output.succeeded
    if said and found == sorted(targets):
        return Verdict(name="compiled", output=output, files=tuple(made / name for name in targets))
    name, error = _failure(ended, said, found, targets, log, options)
    return Verdict(name=name, output=output, error=error)


def _failure(
    ended: Execution,
    said: bool,
    found: Sequence[str],
    targets: Sequence[str],
    log: Path,
    options: CompileOptions,
) -> tuple[str, EdgeoptError]:
    if ended.timed_out:
        return "deadline", _tool_error(
            f"The Edge TPU compiler did not finish within {options.timeout_s:g} s and was ended.",
            "Raise --timeout, or let it map fewer operations with --search-delegate.",
            ended,
            log,
        )
    if ended.flooded:
        message = "The Edge TPU compiler printed without end."
        return "flood", _tool_error(message, "", ended, log)
    known = None if said else diagnose(f"{ended.text}\n{ended.error_text}", ended.exit_code)
    if known and known.fault == "model":
        hint = f"{known.hint}\nLog: {log}"
        return known.name, ModelError(known.message, hint, details=_details(ended, log))
    if known:
        return known.name, _tool_error(known.message, known.hint, ended, log)
    return "unknown", _tool_error(_unexplained(ended, said, found, targets), "", ended, log)


def _unexplained(ended: Execution, said: bool, found: Sequence[str], targets: Sequence[str]) -> str:
    if said and not found:
        return "The Edge TPU compiler reported success but wrote no compiled file."
    if said:
        missing = [name for name in targets if name not in found]
        wrote = f"{len(found)} of {len(targets)} files" if missing else "other files than asked for"
        return f"The Edge TPU compiler reported success but wrote {wrote} ({', '.join(found)})."
    words = f"{ended.error_text}\n{ended.text}".strip()[-_TAIL_CHARACTERS:] or "nothing"
    return f"The Edge TPU compiler failed (exit code {ended.exit_code}). It said: {words}"


def _details(ended: Execution, log: Path) -> dict[str, Any]:
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


def _with_tables(output: CompilerOutput, made: Path) -> CompilerOutput:
    """The operation tables from the .log files, where stdout has none."""
    tables: Mapping[str, Any] = {}
    if any(not block.operations for block in output.blocks):
        logs = {f.stem: parse_output(f.read_text("utf-8", "replace")) for f in made.glob("*.log")}
        tables = {name: log.blocks[0].operations for name, log in logs.items() if log.blocks}
    if len(output.blocks) == 1 and len(tables) == 1:
        tables = {_stem(output.blocks[0]): next(iter(tables.values()))}
    blocks = tuple(
        block if block.operations else replace(block, operations=tables.get(_stem(block), ()))
        for block in output.blocks
    )
    return replace(output, blocks=blocks)


def _stem(block: ModelBlock) -> str:
    """The name that the block's file and log share."""
    if block.output:
        return PurePath(block.output).stem
    return f"{PurePath(block.input or '').stem}_edgetpu"


def blocks_of(
    output: CompilerOutput, targets: Sequence[str], models: Sequence[Path]
) -> tuple[ModelBlock, ...]:
    """What was printed of each target, tied by the names in the text; empty where nothing was.

    Raises ToolError when the text of several speaks of another file, or twice of one. (What it
    says of the whole model, before its segments, is not needed.)
    """
    if len(targets) == 1:  # a search for a smaller delegate may print one for each attempt
        return (output.blocks[-1] if output.blocks else ModelBlock(),)
    whole = {f"{model.stem}_edgetpu.tflite" for model in models}.difference(targets)
    found: dict[str, ModelBlock] = {}
    for block in output.blocks:
        name = f"{_stem(block)}.tflite"
        if name in whole:
            continue
        if name not in targets or name in found:
            raise ToolError(
                f"The Edge TPU compiler printed something of {name}, which "
                + ("was printed before." if name in found else "it was not asked for."),
                "Do not use these files; the log has the compiler's text.",
            )
        found[name] = block
    return tuple(found.get(name, ModelBlock()) for name in targets)
