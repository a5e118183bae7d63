"""A compiler that this machine cannot start: the reason in words, and where it would run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edgeopt.compile import CompileOptions
from edgeopt.compile.attempts import version_of
from edgeopt.compile.compiler_host import find_host
from edgeopt.compile.platform_check import explained, install_hint, why_not_started
from edgeopt.errors import ToolError

RISCV, ARM64, X86_64 = 243, 183, 62


def elf(machine: int, loader: str = "", *, wide: bool = True) -> bytes:
    """An ELF program of nothing: its header and, with a loader, one PT_INTERP."""
    name = loader.encode() + b"\0"
    if wide:
        head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        part = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1)
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        part = struct.pack("<IIIIIIII", 3, 84, 0, 0, len(name), len(name), 4, 1)
    return b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + b"\0" * 9 + head + part + name


def program(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def failure(path: Path) -> ToolError:
    with pytest.raises(ToolError) as caught:
        version_of(find_host(CompileOptions(compiler=str(path))))
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("riscv", elf(RISCV), "a program for 64-bit RISC-V, and this machine is"),
        ("script", b"#!/no/such/bash\n", "its interpreter /no/such/bash is not on this machine"),
        ("text", b"nothing that runs", "does not start"),
    ],
)
def test_what_the_kernel_refuses_is_told_in_words(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    error = failure(program(tmp_path / name, content))
    assert words in error.message and "container:" in error.hint and error.exit_code == 4


@pytest.mark.parametrize(("wide", "kind"), [(True, "64-bit"), (False, "32-bit")])
def test_a_missing_loader_is_named(tmp_path: Path, wide: bool, kind: str) -> None:
    path = program(tmp_path / "x", elf(X86_64, "/no/ld-linux.so.2", wide=wide))
    said = why_not_started(path, FileNotFoundError(2, "No such file"))
    assert f"its loader /no/ld-linux.so.2 for {kind} x86-64 programs is not on this machine" in said
    assert "Google's wrapper script" in said


@pytest.mark.parametrize("length", [0, 4, 5, 19, 40, 63, 100, 118])
def test_a_torn_program_is_no_reason_to_crash(tmp_path: Path, length: int) -> None:
    path = program(tmp_path / "x", elf(ARM64, "/lib/ld.so")[:length])
    for number in (2, 8):
        assert isinstance(why_not_started(path, OSError(number, "x")), str)


def test_a_wrapper_around_a_foreign_program_is_seen_through(tmp_path: Path) -> None:
    inner = program(tmp_path / "inner", elf(RISCV))
    error = failure(program(tmp_path / "wrapper", f"#!/bin/sh\nexec {inner} $@\n".encode()))
    assert "does not answer --version" in error.message
    assert "edgetpu_compiler_bin" in error.hint or "x86-64 Linux" in error.hint


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Linux", "armv7l")]
)
def test_other_machines_are_told_of_containers_and_other_hosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, machine: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEOPT_EDGETPU_COMPILER", raising=False)
    with pytest.raises(ToolError) as caught:
        find_host(CompileOptions())
    assert f"{system} {machine}" in caught.value.message
    assert "cannot run it itself" in caught.value.hint and "ssh://" in caught.value.hint
    assert "compiler install" not in install_hint()
    said = "line 3: x: cannot execute binary file: Exec format error"
    assert machine in explained(said, "/usr/bin/edgetpu_compiler")
    assert "ssh://pc must be x86-64 Linux" in explained(said, "ssh://pc")
    assert "binfmt" in explained(said, "container:edge")
    assert explained("Edge TPU Compiler", "/usr/bin/edgetpu_compiler") == ""
