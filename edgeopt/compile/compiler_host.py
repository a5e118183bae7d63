"""Where edgetpu_compiler runs: on this machine, in a container, or on an x86-64 host over SSH.

Each kind answers `compile`: run the compiler on private copies of the models with these flags, and
put what it wrote into a local folder. What a program on this machine is, is told from its bytes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeopt.compile.bounded import Execution, run_bounded
from edgeopt.compile.contract import CompileOptions
from edgeopt.compile.installed import installed
from edgeopt.compile.platform_check import install_hint, why_not_started
from edgeopt.errors import ToolError

__all__ = [
    "VARIABLE",
    "CompilerHost",
    "Found",
    "LocalHost",
    "find_host",
    "kind_of_program",
    "locate",
]

VARIABLE = "EDGEOPT_EDGETPU_COMPILER"
PROGRAM = "edgetpu_compiler"
_VERSION_TIMEOUT_S = 30.0
_STAND_IN = re.compile(rb"\b(test double|recording|recorded)\b", re.IGNORECASE)


class CompilerHost(Protocol):
    """One place that has the compiler. Methods raise ToolError when it cannot be started at all."""

    @property
    def name(self) -> str:
        """For messages: a path, `container:IMAGE`, `ssh://user@host`."""

    @property
    def kind(self) -> str:
        """What sort of program it is, as far as can be seen."""

    @property
    def is_stand_in(self) -> bool:
        """Known to be a double or a recording."""

    def version(self) -> str:
        """What `--version` prints, stdout and stderr together."""

    def compile(
        self, flags: Sequence[str], models: Sequence[Path], out_dir: Path, timeout_s: float
    ) -> Execution:
        """Compile `models`, all of one folder, in this order; files land in `out_dir`, which
        exists inside that folder and is empty."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The compiler that would be used, and what named it: --compiler, the variable, PATH, or
    `edgeopt compiler install`."""

    host: CompilerHost
    origin: str


def find_host(options: CompileOptions) -> CompilerHost:
    """The compiler that was named, else the variable's, else PATH's, else the installed one.

    Raises ToolError for none.
    """
    return locate(options).host


def locate(options: CompileOptions) -> Found:
    """The same, with what named it. Raises ToolError where there is none."""
    spec = options.compiler or os.environ.get(VARIABLE) or ""
    origin = "--compiler" if options.compiler else VARIABLE
    if spec.startswith("container:"):
        from edgeopt.compile.container_host import container_host

        return Found(host=container_host(spec, options), origin=origin)
    if spec.startswith("ssh://"):
        from edgeopt.compile.ssh_host import ssh_host

        return Found(host=ssh_host(spec, options), origin=origin)
    if spec:
        return Found(host=_named(spec, origin), origin=origin)
    if found := shutil.which(PROGRAM):
        return Found(host=LocalHost.of(Path(found)), origin="PATH")
    if present := installed():
        return Found(host=LocalHost.of(present.path), origin="edgeopt compiler install")
    raise ToolError(
        f"There is no {PROGRAM} on this machine ({platform.system()} {platform.machine()}).",
        install_hint(),
        details={
            "compiler": None,
            "searched": ["--compiler", VARIABLE, "PATH", "edgeopt compiler install"],
        },
    )


def _named(spec: str, origin: str) -> LocalHost:
    """A path, or a program's name on PATH."""
    path = Path(spec).expanduser()
    if os.sep not in spec and not path.exists():
        found = shutil.which(spec)
        path = Path(found) if found else path
    if path.is_dir():
        path = path / PROGRAM
    if not path.is_file():
        raise ToolError(f"{origin} names {path}, which is not there.", install_hint())
    if not os.access(path, os.X_OK):
        raise ToolError(
            f"{origin} names {path}, which is not executable.",
            "Name the edgetpu_compiler program itself (chmod +x it if it is).",
        )
    return LocalHost.of(path.absolute())


def kind_of_program(path: Path) -> tuple[str, bool]:
    """What `path` is, and whether it calls itself a stand-in.

    Google ships a shell wrapper around its own loader, or that ELF program. A script that says
    that it is a recording or a double is one, even if its --version does not say so.
    """
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if head.startswith(b"\x7fELF"):
        return "ELF program", bool(re.search(rb"edgeopt test double", head))
    if not head.startswith(b"#!"):
        return "neither a script nor a Linux program", False
    if (
        b"edgetpu_compiler_bin/" in head
        and (path.resolve().parent / "edgetpu_compiler_bin").is_dir()
    ):
        return "Google's wrapper script", False
    return "script, not Google's binary", bool(_STAND_IN.search(head))


@dataclass(frozen=True, kw_only=True)
class LocalHost:
    """A program of this machine."""

    path: Path
    kind: str
    is_stand_in: bool

    @classmethod
    def of(cls, path: Path) -> LocalHost:
        try:
            kind, stand_in = kind_of_program(path)
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror}.", install_hint()) from error
        return cls(path=path, kind=kind, is_stand_in=stand_in)

    @property
    def name(self) -> str:
        return str(self.path)

    def version(self) -> str:
        ended = self._run(["--version"], _VERSION_TIMEOUT_S, None)
        return f"{ended.text}\n{ended.error_text}"

    def compile(
        self, flags: Sequence[str], models: Sequence[Path], out_dir: Path, timeout_s: float
    ) -> Execution:
        words = [*flags, "-o", str(out_dir), *(model.name for model in models)]
        return self._run(words, timeout_s, models[0].parent)

    def _run(self, words: Sequence[str], timeout_s: float, cwd: Path | None) -> Execution:
        argv = [str(self.path), *words]
        try:
            return run_bounded(argv, timeout_s=timeout_s, cwd=cwd)
        except OSError as error:
            why = why_not_started(self.path, error) or str(error.strerror or error)
            raise ToolError(
                f"{self.path} does not start: {why.rstrip('.')}.",
                f"It is {self.kind}. {install_hint()}",
                argv=argv,
            ) from error
