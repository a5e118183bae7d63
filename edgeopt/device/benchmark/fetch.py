"""The published benchmark_model: fetched once, its hash kept, a changed one refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeopt import paths
from edgeopt.artifact import hash_path
from edgeopt.errors import ToolError
from edgeopt.fetch import download
from edgeopt.paths import make_private

__all__ = ["PINNED_VERSION", "fetch_benchmark_binary", "platform_of"]

PINNED_VERSION = "2.2.0"  # "latest" and "nightly" change under their name
BASE_URL = "https://storage.googleapis.com/litert/binaries"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}")
_PLATFORMS = {
    ("android", "arm64"): "android_arm64",
    ("linux", "x86_64"): "linux_x86_64",
    ("linux", "arm64"): "linux_arm64",
    ("darwin", "arm64"): "macos_arm64",
}
_ARCH = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}
_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # ELF, Mach-O, universal Mach-O
_MAX_BYTES = 512 << 20
_BY_HAND = "Download or build benchmark_model and give it with --benchmark-binary PATH."


def platform_of(facts: dict[str, Any]) -> str:
    """The published platform for a device's facts. Raises ToolError when there is none."""
    system = "android" if facts.get("android") else str(facts.get("os") or "").lower()
    arch = _ARCH.get(str(facts.get("arch") or "").lower(), "")
    if platform := _PLATFORMS.get((system, arch)):
        return platform
    raise ToolError(
        f"No benchmark_model is published for {system or 'this system'} on"
        f" {facts.get('arch') or 'this processor'}.",
        "Build it for the device and give it with --benchmark-binary PATH.",
    )


def fetch_benchmark_binary(
    version: str,
    platform: str,
    *,
    base_url: str = BASE_URL,
    offline: bool = False,
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> Path:
    """The program in the user's state folder, downloaded when it is not there.

    Its sha256 is kept beside it from the first download on: another file under the same version is
    refused, on disk or from the server. Raises ToolError, also when `offline` and not there.
    """
    if not _VERSION.fullmatch(version) or platform not in _PLATFORMS.values():
        raise ToolError(f"There is no published benchmark_model {version!r} for {platform!r}.", "")
    folder = paths.state_dir() / "benchmark_model" / version / platform
    binary, record = folder / "benchmark_model", folder / "benchmark_model.sha256"
    known = record.read_text(encoding="ascii").split()[0] if record.is_file() else None
    if binary.is_file():
        found = hash_path(binary)
        if found != known:
            raise _changed(str(binary), known, found, folder)
        return binary
    url = f"{base_url}/{version}/{platform}/benchmark_model"
    if offline:
        raise ToolError(
            f"benchmark_model {version} for {platform} is not on this machine, and --offline"
            " forbids to fetch it.",
            _BY_HAND,
        )
    make_private(folder)
    part = folder / "benchmark_model.part"
    try:
        _download(url, part, on_bytes)
        found = hash_path(part)
        if known is not None and found != known:
            raise _changed(url, known, found, folder)
        part.chmod(0o700)
        record.write_text(f"{found}  benchmark_model\n", encoding="ascii")
        part.replace(binary)
    finally:
        part.unlink(missing_ok=True)
    return binary


def _download(url: str, part: Path, on_bytes: Callable[[int, int | None], None] | None) -> None:
    download(
        url,
        part,
        what="benchmark_model",
        by_hand=_BY_HAND,
        max_bytes=_MAX_BYTES,
        on_bytes=on_bytes,
    )
    with part.open("rb") as reader:
        if not reader.read(4).startswith(_MAGIC):
            raise ToolError(f"What {url} gave is no program (a login page?).", _BY_HAND)


def _changed(where: str, known: str | None, found: str, folder: Path) -> ToolError:
    return ToolError(
        f"{where} is not the benchmark_model that was fetched before: its sha256 is {found},"
        f" recorded is {known or 'none'}. It was not used.",
        f"If you trust the new one, delete {folder} and run again; else tell who publishes it.",
    )
