"""The compiler of targets that need none: the file goes to the device as it is."""

from __future__ import annotations

from pathlib import Path

from edgeopt.compile.contract import CompileOptions, CompileResult
from edgeopt.errors import InputError
from edgeopt.progress import Progress

__all__ = ["compile_model"]


def compile_model(
    source: Path, out_dir: Path, options: CompileOptions, progress: Progress
) -> CompileResult:
    """`source` itself, untouched; nothing is written. Raises InputError when it is not there."""
    if not source.is_file():
        raise InputError(f"{source} is not a file.", "Name the model file to compile.")
    return CompileResult(path=source)
