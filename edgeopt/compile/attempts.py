"""Run edgetpu_compiler on private copies, once or (when asked) again with fewer operations."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.compile.bounded import Execution
from edgeopt.compile.compiler_failures import facts
from edgeopt.compile.compiler_host import CompilerHost
from edgeopt.compile.compiler_output import CompilerOutput, parse_output, says_double
from edgeopt.compile.contract import CompileOptions, CompileResult
from edgeopt.compile.edgetpu_flags import flags_of, segments_of, wants
from edgeopt.compile.judge import Verdict, judged, target_names
from edgeopt.compile.platform_check import explained, install_hint
from edgeopt.errors import ToolError
from edgeopt.progress import Progress

__all__ = ["Run", "running", "version_of"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A successful run, its files still in the private folder; `models` are the copies' paths.

    `attempts` has one entry for every time the compiler was started: flags, outcome ("compiled",
    or the failure's name in compiler_facts.toml, or "deadline", which is ours), message, exit code
    and seconds.
    """

    host: CompilerHost
    version: str
    is_double: bool
    models: tuple[Path, ...]
    logs: tuple[Path, ...]
    ended: Execution
    output: CompilerOutput
    files: tuple[Path, ...]
    attempts: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]

    @property
    def details(self) -> dict[str, Any]:
        seconds = round(self.ended.seconds, 3)
        return {
            "compiler": self.host.name,
            "seconds": seconds,
            "attempts": [dict(attempt) for attempt in self.attempts],
        }

    def evidence(self, number: int) -> CompileResult:
        """What is the same whatever the file says, for the model at `number`."""
        return CompileResult(
            path=self.files[number],
            log=self.logs[number],
            stdout=self.ended.text,
            compiler_version=self.version,
            compiler_kind=self.host.kind,
            argv=self.ended.argv,
            is_double=self.is_double,
        )


@contextmanager
def running(
    host: CompilerHost,
    sources: Sequence[Path],
    logs: Sequence[Path],
    options: CompileOptions,
    progress: Progress,
) -> Iterator[Run]:
    """The run; its private folder lives as long as the block. Raises the last attempt's error.

    Every attempt's words go to the logs, also when all fail. Each has the whole `timeout_s`.
    """
    progress.stage(f"Edge TPU compiler ({host.name})")
    version_text, version = version_of(host)
    with tempfile.TemporaryDirectory(prefix="edgeopt-compile-", ignore_cleanup_errors=True) as tmp:
        shared = Path(tmp) / "shared"
        shared.mkdir()
        models = _copies(sources, shared)
        attempts: list[Mapping[str, Any]] = []
        texts = [f"# {host.name} ({host.kind}): {' '.join(version_text.split())}"]
        for plan in _plans(options):
            if attempts:
                progress.note(f"{attempts[-1]['message']} Trying again with fewer operations.")
            ended, verdict = _attempt(host, models, plan, version, shared / "out", logs[0])
            attempts.append(_attempt_json(ended, verdict, flags_of(plan, version)))
            texts.append(_text(ended, shared / "out"))
            if verdict.name not in facts()["retry_with_search_delegate"]:
                break
        for source, log in zip(sources, logs, strict=True):
            log.write_text("\n".join([f"# {source}", *texts]), "utf-8")
        if verdict.error is not None:
            verdict.error.details["attempts"] = attempts
            raise verdict.error
        double = host.is_stand_in or verdict.output.is_double or says_double(version_text)
        yield Run(
            host=host,
            version=version,
            is_double=double,
            models=models,
            logs=tuple(logs),
            ended=ended,
            output=verdict.output,
            files=verdict.files,
            attempts=tuple(attempts),
            warnings=(*_warnings(host, double), *_after_retry(attempts)),
        )


def version_of(host: CompilerHost) -> tuple[str, str]:
    """What `--version` printed, and the version in it. Raises ToolError for another program."""
    text = host.version()
    version = parse_output(text).version
    if version is None:
        said = text.strip()[:200] or "nothing"
        why = explained(text, host.name)
        raise ToolError(
            f"{host.name} does not answer --version as edgetpu_compiler does. It says: {said}",
            f"{why} {install_hint()}" if why else "Name Google's edgetpu_compiler with --compiler.",
            argv=[host.name, "--version"],
        )
    return text, version


def _plans(options: CompileOptions) -> Iterator[CompileOptions]:
    yield options
    if wants(options, "retry_search_delegate") and not options.search_delegate:
        yield replace(options, search_delegate=True)


def _copies(sources: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """model.tflite, or model_0.tflite and so on: never the user's names."""
    names = ["model.tflite"]
    if len(sources) > 1:
        names = [f"model_{number}.tflite" for number in range(len(sources))]
    for source, name in zip(sources, names, strict=True):
        shutil.copyfile(source, folder / name)
    return tuple(folder / name for name in names)


def _attempt(
    host: CompilerHost,
    models: tuple[Path, ...],
    plan: CompileOptions,
    version: str,
    out: Path,
    log: Path,
) -> tuple[Execution, Verdict]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    ended = host.compile(flags_of(plan, version), models, out, plan.timeout_s)
    return ended, judged(ended, out, target_names(models, segments_of(plan)), log, plan)


def _attempt_json(ended: Execution, verdict: Verdict, flags: Sequence[str]) -> dict[str, Any]:
    return {
        "flags": list(flags),
        "outcome": verdict.name,
        "message": verdict.error.message if verdict.error else None,
        "exit_code": ended.exit_code,
        "seconds": round(ended.seconds, 3),
    }


def _text(ended: Execution, made: Path) -> str:
    """Everything the compiler said, then its own .log files."""
    end = "killed at the deadline" if ended.timed_out else f"exit code {ended.exit_code}"
    parts = [
        f"# {shlex.join(ended.argv)}\n# {end} after {ended.seconds:.2f} s",
        f"--- stdout ---\n{ended.text}",
        f"--- stderr ---\n{ended.error_text}",
    ]
    for own in sorted(made.glob("*.log")):
        parts.append(f"--- {own.name} ---\n{own.read_text('utf-8', 'replace')}")
    return "\n".join(parts)


def _after_retry(attempts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if len(attempts) < 2:
        return ()
    return (
        f"Compiled at the second attempt, with --search-delegate, which may leave more operations "
        f"on the CPU. The first failed: {attempts[0]['message']}",
    )


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
