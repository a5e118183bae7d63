"""Arm's vela for Ethos-U NPUs (`pip install 'edgeopt[ethos-u]'`), as the program that it is.

It runs in a process of its own with a deadline. It has succeeded when it exits with 0, the file is
there, and what it printed agrees with the file. A file without a part for the NPU is no success: it
would run on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeopt.artifact import hash_path
from edgeopt.compile.bounded import Execution, run_bounded
from edgeopt.compile.contract import CompileOptions, CompileResult
from edgeopt.compile.vela_output import (
    Refusal,
    operator_counts,
    placement_of,
    read_refusals,
    read_summary,
    rows_of,
)
from edgeopt.errors import InputError, ModelError, ToolError
from edgeopt.facts import ModelFacts
from edgeopt.progress import Progress

__all__ = ["compile_model", "find_program", "identity"]

VARIABLE = "EDGEOPT_VELA"
_INSTALL = "pip install 'edgeopt[ethos-u]', or name vela with --compiler."
_VERSION_TIMEOUT_S = 60
_TAIL_CHARACTERS = 1500
_STEM = "model"  # of the copy that vela gets: user's names may hold what its parser trips over

# A target's compiler_options and vela's flags. Which values there are depends on vela's version and
# on the configuration file, so vela judges them.
_FLAGS: Mapping[str, str] = {
    "accelerator_config": "--accelerator-config",
    "config": "--config",
    "system_config": "--system-config",
    "memory_mode": "--memory-mode",
    "optimise": "--optimise",
    "arena_cache_size": "--arena-cache-size",
    "cpu_tensor_alignment": "--cpu-tensor-alignment",
    "tensor_allocator": "--tensor-allocator",
}
_REQUIRED = ("accelerator_config", "system_config", "memory_mode")


def compile_model(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """Compile one quantized .tflite to `<stem>_vela.tflite` in `out_dir`.

    Raises InputError for options that vela has not, ModelError for a model that it cannot take or
    of which nothing maps, ToolError when vela is missing, fails, or contradicts its own file.
    """
    flags = _flags(options)
    program = find_program(options)
    facts = _source(source)
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / f"{source.stem[:200]}_vela.tflite"
    log = target.with_suffix(".log")
    version = _version(program)
    progress.stage(f"Compiling with vela {version}")
    with tempfile.TemporaryDirectory(prefix=".edgeopt-", dir=out_dir) as tmp:
        folder = Path(tmp).absolute()
        shutil.copyfile(source, folder / f"{_STEM}.tflite")
        words = [f"{_STEM}.tflite", "--output-dir", "out", *flags]
        argv = [str(program), *words]
        ended = _run(argv, options.timeout_s, folder)
        log.write_text(f"# {shlex.join(argv)}\n{ended.text}\n{ended.error_text}", "utf-8")
        made = folder / "out" / f"{_STEM}_vela.tflite"
        _judge(ended, made, log, facts)
        summary = read_summary(folder / "out", log)
        refusals = read_refusals(f"{ended.text}\n{ended.error_text}")
        compiled = _read_made(made, log)
        _hold(ended, compiled, log, refusals, facts)
        made.replace(target)
    placement = placement_of(compiled, facts, refusals)
    return CompileResult(
        path=target,
        log=log,
        stdout=ended.text,
        compiler_version=version,
        compiler_kind="vela",
        argv=tuple(argv),
        placement=placement,
        operations=rows_of(placement),
        compile_ms=1e3 * ended.seconds,
        details={"performance": summary},
    )


def find_program(options: CompileOptions) -> Path:
    """What --compiler or EDGEOPT_VELA names, else vela beside this Python, else that on PATH.

    Raises ToolError where there is none.
    """
    asked = options.compiler or os.environ.get(VARIABLE)
    if asked is None:
        own = Path(sys.executable).parent / "vela"
        if os.access(own, os.X_OK):
            return own
    found = shutil.which(asked or "vela")
    if found is None:
        what = f"There is no program {asked}." if asked else "Arm's vela is not installed."
        raise ToolError(what, _INSTALL)
    return Path(found).absolute()


def identity(options: CompileOptions) -> str:
    """vela's place, the bytes of its program and its version, for the cache's key."""
    program = find_program(options)
    return json.dumps(
        {"where": str(program), "version": _version(program), "bytes": hash_path(program)}
    )


def _version(program: Path) -> str:
    ended = _run([str(program), "--version"], _VERSION_TIMEOUT_S, Path.cwd())
    found = re.search(r"\d+(\.\d+)+\S*", ended.text)
    if ended.exit_code != 0 or found is None:
        said = (ended.error_text or ended.text).strip()[-300:] or "nothing"
        raise ToolError(
            f"{program} does not answer --version as vela does. It says: {said}",
            _INSTALL,
            argv=ended.argv,
            returncode=ended.exit_code,
        )
    return found[0]


def _flags(options: CompileOptions) -> list[str]:
    """Raises InputError for what vela has no flag for."""
    if options.min_runtime_version is not None:
        raise InputError(
            "vela has no --min-runtime-version: an Ethos-U's driver has no version to ask for.",
            "Leave it out.",
        )
    unknown = [name for name in options.extra if name not in _FLAGS]
    unknown += ["search_delegate"] if options.search_delegate else []
    if unknown:
        raise InputError(
            f"vela has no option {unknown[0]!r}.", f"It has {', '.join(sorted(_FLAGS))}."
        )
    if missing := [name for name in _REQUIRED if not options.extra.get(name)]:
        raise InputError(
            f"The target does not say vela's {missing[0]}, and vela would guess it.",
            "Write it under [compiler_options]; `vela --list-configs Arm/vela.ini` names them.",
        )
    return [word for name, value in options.extra.items() for word in (_FLAGS[name], value)]


def _source(path: Path) -> ModelFacts:
    from edgeopt.model.compiled import is_compiled
    from edgeopt.model.read import structure

    facts = structure(path)
    if facts.format != "tflite":
        raise InputError(
            f"{path} is a {facts.format} model; vela takes a quantized .tflite.",
            "Convert it first: edgeopt convert MODEL --target ethos-u55 --calibration DATA.",
        )
    if is_compiled(facts):
        raise ModelError(f"{path} is already compiled.", "Give the model before compiling.")
    return facts


def _run(argv: Sequence[str], timeout_s: float, cwd: Path) -> Execution:
    try:
        return run_bounded(argv, timeout_s=timeout_s, cwd=cwd)
    except OSError as error:
        raise ToolError(
            f"{argv[0]} does not start: {error.strerror}.", _INSTALL, argv=argv
        ) from error


def _judge(ended: Execution, made: Path, log: Path, facts: ModelFacts) -> None:
    said = _last_words(ended)
    if ended.timed_out:
        problem = f"vela did not finish within {ended.seconds:.0f} s and was ended."
    elif ended.flooded:
        problem = "vela printed without end and was ended."
    elif ended.exit_code is not None and ended.exit_code < 0:
        problem = f"vela was ended by signal {-ended.exit_code}. It said: {said}"
    elif ended.exit_code != 0:
        problem = f"vela failed on {facts.path.name} (exit code {ended.exit_code}): {said}"
    elif not made.is_file() or not made.stat().st_size:
        problem = f"vela reported success but wrote no file. It said: {said}"
    else:
        return
    raise ToolError(problem, f"Log: {log}", argv=ended.argv, returncode=ended.exit_code, log=log)


def _last_words(ended: Execution) -> str:
    """Of a Python traceback the error itself, else the end of what it printed."""
    lines = [line for line in ended.error_text.splitlines() if line.strip()]
    if "Traceback (most recent call last):" in lines:
        return lines[-1][-_TAIL_CHARACTERS:]
    return f"{ended.error_text}\n{ended.text}".strip()[-_TAIL_CHARACTERS:] or "nothing"


def _read_made(made: Path, log: Path) -> ModelFacts:
    from edgeopt.model.compiled import read_parts
    from edgeopt.model.read import structure

    try:
        facts = structure(made)
        read_parts(facts)
    except ModelError as error:
        raise ToolError(
            f"vela wrote a file that cannot be used: {error.message}", f"Log: {log}", log=log
        ) from error
    return facts


def _hold(
    ended: Execution,
    compiled: ModelFacts,
    log: Path,
    refusals: Mapping[str, Refusal],
    facts: ModelFacts,
) -> None:
    """What it printed must be what the file says, and something must be for the NPU."""
    from edgeopt.model.compiled import is_compiled

    on_cpu, on_npu = operator_counts(ended.text)
    mapped = is_compiled(compiled)
    if on_npu is None or mapped != (on_npu > 0):
        printed = "no count of operators" if on_npu is None else f"{on_npu} operators for the NPU"
        found = "has parts for it" if mapped else "has none"
        raise ToolError(
            f"vela printed {printed}, but its file {found}.",
            f"Do not use it. Log: {log}",
            argv=ended.argv,
            log=log,
        )
    if not mapped:
        first = next(iter(refusals.values()), None)
        why = f" Of {first.op} it says: {first.reason}" if first else ""
        raise ModelError(
            f"vela mapped no operation of {facts.path.name}: it would run on the CPU.{why}",
            "`edgeopt inspect MODEL --target ethos-u55` names what breaks the rules.",
            details={"log": str(log), "cpu_operators": on_cpu},
        )
