"""A vendor's compiler as a command line: no Python needed, only an argv template in the target.

The template comes as `CompileOptions.command` (or as one line in `extra["command"]`). In its words
`{input}`, `{output}` and `{report}` stand for absolute paths: the model to compile, the file to
write, and (where the template has it) a JSON file to write. No shell is involved. The command has
succeeded when it exits with 0 and the output is there. The JSON is an object; all keys are optional
and unknown ones are ignored:

    {"schema": "edgeopt.compiler-report/1",
     "version": "1.2.3",                     the compiler's version
     "compile_ms": 12.5,
     "warnings": ["..."],
     "placement": {"ops_total": 10, "ops_mapped": 9, "ops_cpu": 1, "subgraphs": 1,
                   "on_chip_bytes": 1024, "off_chip_bytes": 0},
     "operations": [{"op": "CONV_2D", "count": 9, "status": "on the NPU", "mapped": true,
                     "cause": "", "remedy": ""}]}
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeopt.compile.bounded import Execution, run_bounded
from edgeopt.compile.contract import CompileOptions, CompileResult, OpStatus
from edgeopt.errors import InputError, ToolError
from edgeopt.findings import Placement
from edgeopt.progress import Progress

__all__ = ["SCHEMA", "compile_model"]

SCHEMA = "edgeopt.compiler-report/1"
_PLACEHOLDERS = ("input", "output", "report")
_EXTRA = ("command", "suffix")
_MAX_REPORT_BYTES = 16 << 20
_TAIL_CHARACTERS = 1500


def compile_model(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """Run the target's command; its file becomes `<stem>_compiled<suffix>` in `out_dir`.

    `extra["suffix"]` is the output's ending, by default the source's own. Raises InputError for a
    template that cannot be used, ToolError when the command is missing, fails, runs out of time,
    writes no file or writes a report that breaks the contract above.
    """
    if not source.is_file():
        raise InputError(f"{source} is not a file.", "Name the model file to compile.")
    template = _template(options)
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / f"{source.stem}_compiled{options.extra.get('suffix', source.suffix)}"
    log = target.with_suffix(".log")
    progress.stage(f"Compiling with {template[0]}")
    with tempfile.TemporaryDirectory(prefix=".edgeopt-", dir=out_dir) as tmp:
        output, report = Path(tmp) / f"output{target.suffix}", Path(tmp) / "report.json"
        paths = {
            "input": source.absolute(),
            "output": output.absolute(),
            "report": report.absolute(),
        }
        argv = [_filled(word, paths) for word in template]
        ended = _run(argv, options, Path(tmp))
        log.write_text(f"# {shlex.join(argv)}\n{ended.text}\n{ended.error_text}", "utf-8")
        _judge(ended, output, log)
        wants_report = any("{report}" in word for word in template)
        said = _Report(report, ended, log).values() if wants_report else {}
        output.replace(target)
    return CompileResult(
        path=target,
        log=log,
        stdout=ended.text,
        compiler_kind="command",
        argv=tuple(argv),
        **said,
    )


def _template(options: CompileOptions) -> tuple[str, ...]:
    for name in options.extra:
        if name not in _EXTRA:
            raise InputError(
                f"The command compiler has no option {name!r}.", f"Known: {', '.join(_EXTRA)}."
            )
    try:
        words = options.command or tuple(shlex.split(options.extra.get("command", "")))
    except ValueError as error:
        raise InputError(f"The target's compiler command cannot be read: {error}.") from error
    found = {name for word in words for name in re.findall(r"\{([A-Za-z_]+)\}", word)}
    if unknown := sorted(found.difference(_PLACEHOLDERS)):
        raise InputError(
            f"The compiler command has an unknown placeholder {{{unknown[0]}}}.",
            "Known: {input}, {output}, {report}.",
        )
    if not {"input", "output"} <= found:
        raise InputError(
            "The compiler command must contain {input} and {output}.",
            'For example: argv = ["vendor-compile", "{input}", "-o", "{output}"].',
        )
    return words


def _filled(word: str, paths: Mapping[str, Path]) -> str:
    """The word with its placeholders filled in; a relative file is the user's, not the run's."""
    if "/" in word and "{" not in word and Path(word).is_file():
        return str(Path(word).absolute())
    return re.sub(r"\{(input|output|report)\}", lambda found: str(paths[found[1]]), word)


def _run(argv: Sequence[str], options: CompileOptions, cwd: Path) -> Execution:
    program = shutil.which(argv[0])
    if program is None:
        raise ToolError(
            f"The target's compiler {argv[0]} is not on PATH.",
            "Install it, or give its full path in the target.",
            argv=argv,
        )
    # A relative path in the target means the user's folder, not the private one it runs in.
    try:
        return run_bounded(
            [str(Path(program).absolute()), *argv[1:]], timeout_s=options.timeout_s, cwd=cwd
        )
    except OSError as error:
        raise ToolError(f"{program} does not start: {error.strerror}.", argv=argv) from error


def _judge(ended: Execution, output: Path, log: Path) -> None:
    name = Path(ended.argv[0]).name
    said = f"{ended.error_text}\n{ended.text}".strip()[-_TAIL_CHARACTERS:] or "nothing"
    if ended.timed_out:
        problem = f"{name} did not finish within {ended.seconds:.0f} s and was ended."
    elif ended.flooded:
        problem = f"{name} printed without end and was ended."
    elif ended.exit_code != 0:
        problem = f"{name} failed (exit code {ended.exit_code}). It said: {said}"
    elif not output.is_file() or not output.stat().st_size:
        problem = f"{name} ended without an error but wrote no output. It said: {said}"
    else:
        return
    raise ToolError(problem, f"Log: {log}", argv=ended.argv, returncode=ended.exit_code, log=log)


class _Report:
    """The vendor's JSON, checked value by value: a wrong type is an error and never a guess."""

    def __init__(self, path: Path, ended: Execution, log: Path) -> None:
        self.path, self.ended, self.log = path, ended, log

    def values(self) -> dict[str, Any]:
        data = self._load()
        placement = self._get(data, "placement", dict)
        return {
            "compiler_version": self._get(data, "version", str),
            "compile_ms": self._get(data, "compile_ms", (int, float)),
            "warnings": tuple(self._get(data, "warnings", list, str) or ()),
            "placement": None if placement is None else self._placement(placement),
            "operations": tuple(
                self._operation(row) for row in self._get(data, "operations", list, dict) or ()
            ),
        }

    def _load(self) -> dict[str, Any]:
        try:
            if self.path.stat().st_size > _MAX_REPORT_BYTES:
                raise self._broken("it is larger than 16 MiB")
            data = json.loads(self.path.read_bytes())
        except FileNotFoundError as error:
            raise self._broken("it was not written") from error
        except (OSError, ValueError, RecursionError) as error:
            raise self._broken(f"it is not JSON ({error})") from error
        if not isinstance(data, dict):
            raise self._broken("it is not an object")
        if data.get("schema", SCHEMA) != SCHEMA:
            raise self._broken(f"its schema is {data['schema']!r} and not {SCHEMA!r}")
        return data

    def _get(self, data: Mapping[str, Any], key: str, kind: Any, item: Any = None) -> Any:
        value = data.get(key)
        if value is None:
            return None
        fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
        if fits and item is not None:
            fits = all(isinstance(part, item) for part in value)
        if not fits:
            raise self._broken(f"{key} is {value!r}")
        return value

    def _count(self, data: Mapping[str, Any], key: str, *, required: bool = True) -> Any:
        value = self._get(data, key, int)
        if (value is None and required) or (value is not None and value < 0):
            raise self._broken(f"{key} is {value!r}, not a count")
        return value

    def _placement(self, data: Mapping[str, Any]) -> Placement:
        total, mapped, cpu = (self._count(data, k) for k in ("ops_total", "ops_mapped", "ops_cpu"))
        if total != mapped + cpu:
            raise self._broken(
                f"{mapped} mapped and {cpu} on the CPU do not make {total} operations"
            )
        return Placement(
            source="compiler",
            ops_total=total,
            ops_mapped=mapped,
            ops_cpu=cpu,
            subgraphs=self._count(data, "subgraphs", required=False),
            on_chip_bytes=self._count(data, "on_chip_bytes", required=False),
            off_chip_bytes=self._count(data, "off_chip_bytes", required=False),
        )

    def _operation(self, data: Mapping[str, Any]) -> OpStatus:
        op, mapped = self._get(data, "op", str), self._get(data, "mapped", bool)
        if not op or mapped is None:
            raise self._broken(f"an operation lacks op or mapped: {dict(data)}")
        return OpStatus(
            op=op,
            count=self._count(data, "count"),
            status=self._get(data, "status", str) or ("mapped" if mapped else "not mapped"),
            mapped=mapped,
            cause=self._get(data, "cause", str) or "",
            remedy=self._get(data, "remedy", str) or "",
        )

    def _broken(self, why: str) -> ToolError:
        return ToolError(
            f"The report of {Path(self.ended.argv[0]).name} breaks the contract: {why}.",
            f"The contract is described in edgeopt/compile/command.py. Log: {self.log}",
            argv=self.ended.argv,
            returncode=self.ended.exit_code,
            log=self.log,
        )
