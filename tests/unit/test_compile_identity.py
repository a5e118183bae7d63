"""What makes two compilers the same for the cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeopt.compile import CompileOptions
from edgeopt.compile.identity import command, edgetpu
from edgeopt.errors import ToolError

VERSION = "Edge TPU Compiler version 16.0.384591198"


def program(path: Path, text: str) -> CompileOptions:
    path.write_text(f"#!/bin/sh\necho {text}\n")
    path.chmod(0o755)
    return CompileOptions(compiler=str(path))


def test_another_program_of_the_same_version_is_another_compiler(tmp_path: Path) -> None:
    one = edgetpu(program(tmp_path / "edgetpu_compiler", VERSION))
    assert edgetpu(program(tmp_path / "edgetpu_compiler", VERSION)) == one
    assert edgetpu(program(tmp_path / "edgetpu_compiler", f"{VERSION} # x")) != one


def test_a_missing_compiler_has_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError):
        edgetpu(CompileOptions())


def test_a_changed_vendor_script_is_another_compiler(tmp_path: Path) -> None:
    script = tmp_path / "vendor.py"
    script.write_text("1")
    options = CompileOptions(command=(sys.executable, str(script), "{input}", "{output}"))
    one = command(options)
    script.write_text("2")
    assert command(options) != one
