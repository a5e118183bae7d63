"""edgetpu_compiler inside a container image: `container:IMAGE`, through docker or podman.

The container has no network and one shared folder. It runs under a name of ours, since ending the
client does not end the container: at a deadline and after Ctrl-C it is removed by that name.
"""

from __future__ import annotations

import platform
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.compile.bounded import Execution, run_bounded
from edgeopt.compile.compiler_host import PROGRAM
from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import InputError, ToolError

__all__ = ["ContainerHost", "container_host"]

_ENGINES = ("docker", "podman")
# What an image may be called (distribution/reference); above all, nothing that reads as a flag.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_VERSION_TIMEOUT_S = 300.0  # the first use of an image may have to fetch it
_REMOVE_TIMEOUT_S = 20.0


def container_host(spec: str, options: CompileOptions) -> ContainerHost:
    """The host of `container:IMAGE`. Raises InputError for a bad name, ToolError for no engine."""
    image = spec.removeprefix("container:")
    if not _IMAGE.fullmatch(image):
        raise InputError(
            f"{spec!r} does not name a container image.", "Write container:IMAGE[:TAG]."
        )
    wanted = options.extra.get("engine")
    for name in [wanted] if wanted else _ENGINES:
        if found := shutil.which(name):
            return ContainerHost(engine=found, image=image)
    raise ToolError(
        f"{spec} needs {wanted or 'docker or podman'}, which is not on PATH.",
        "Install it, or use --compiler PATH or ssh://user@host.",
    )


@dataclass(frozen=True, kw_only=True)
class ContainerHost:
    engine: str
    image: str
    kind: str = "program in a container image"
    is_stand_in: bool = False

    @property
    def name(self) -> str:
        return f"container:{self.image}"

    def version(self) -> str:
        ended = self._run([], ["--version"], _VERSION_TIMEOUT_S)
        return f"{ended.text}\n{ended.error_text}"

    def compile(
        self, flags: Sequence[str], models: Sequence[Path], out_dir: Path, timeout_s: float
    ) -> Execution:
        # Whatever user the container runs as must be able to write there; the folder around it is
        # private. Files of another owner can still be removed, because the folder is ours.
        shared = models[0].parent
        shared.chmod(0o777)
        out_dir.chmod(0o777)
        for model in models:
            model.chmod(0o644)
        inside = out_dir.relative_to(shared).as_posix()
        mount = ["-v", f"{shared}:/work", "-w", "/work", "--security-opt", "label=disable"]
        return self._run(mount, [*flags, "-o", inside, *(m.name for m in models)], timeout_s)

    def argv(self, name: str, engine_flags: Sequence[str], words: Sequence[str]) -> list[str]:
        """The engine's command line; on another processor the image is run as x86-64."""
        foreign = platform.machine() not in ("x86_64", "AMD64")
        return [
            self.engine,
            *("run", "--rm", "--network", "none", "--name", name),
            *(["--platform", "linux/amd64"] if foreign else []),
            *engine_flags,
            self.image,
            PROGRAM,
            *words,
        ]

    def _run(
        self, engine_flags: Sequence[str], words: Sequence[str], timeout_s: float
    ) -> Execution:
        name = f"edgeopt-{secrets.token_hex(6)}"
        argv = self.argv(name, engine_flags, words)
        ended: Execution | None = None
        try:
            ended = run_bounded(argv, timeout_s=timeout_s)
        except OSError as error:
            raise ToolError(
                f"{self.engine} does not start: {error.strerror}.", argv=argv
            ) from error
        finally:
            if ended is None or ended.exit_code is None:
                self._remove(name)
        self._judge(ended)
        return ended

    def _remove(self, name: str) -> None:
        run_bounded([self.engine, "rm", "-f", name], timeout_s=_REMOVE_TIMEOUT_S)

    def _judge(self, ended: Execution) -> None:
        """The engine's own exit codes: 125 its failure, 126 and 127 no such program."""
        said = ended.error_text.strip()[-800:]
        if ended.exit_code == 125:
            raise ToolError(
                f"{Path(self.engine).name} could not start {self.image}: {said}",
                "Is its daemon running, and is the image there? Try the same command by hand.",
                argv=ended.argv,
                returncode=125,
            )
        if ended.exit_code in (126, 127):
            raise ToolError(
                f"The image {self.image} has no {PROGRAM} that it can run: {said}",
                "Build it from x86-64 Debian with the package edgetpu-compiler.",
                argv=ended.argv,
                returncode=ended.exit_code,
            )
