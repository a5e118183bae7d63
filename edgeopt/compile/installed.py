"""The compiler that `edgeopt compiler install` put into the user's data folder, and its record.

    STATE/edgetpu_compiler/installed.json    which folder holds, and what was checked of it
    STATE/edgetpu_compiler/VERSION-HASH/     the package as it was unpacked

The record appears last, by a rename: a folder that it does not name is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt import paths

__all__ = ["RECORD", "InstalledCompiler", "home", "installed"]

RECORD = "installed.json"
_TEXTS = (
    "version",
    "package_version",
    "package_sha256",
    "program_sha256",
    "source",
    "signature",
)
_PROGRAM = Path("usr/bin/edgetpu_compiler")


@dataclass(frozen=True, kw_only=True)
class InstalledCompiler:
    """What the record says. `path` is the program (a wrapper), `program_sha256` that of what it
    starts, `package_sha256` that of the .deb.
    """

    path: Path
    version: str
    package_version: str
    package_sha256: str
    source: str
    signature: str
    is_double: bool
    program_sha256: str

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "version": self.version,
            "package_version": self.package_version,
            "package_sha256": self.package_sha256,
            "source": self.source,
            "signature": self.signature,
            "program_sha256": self.program_sha256,
            "is_double": self.is_double,
        }


def home() -> Path:
    """The folder of installed compilers; EDGEOPT_STATE moves it."""
    return paths.state_dir() / "edgetpu_compiler"


def installed() -> InstalledCompiler | None:
    """The installed compiler, None where there is none (or its folder is gone)."""
    try:
        record: Mapping[str, Any] = json.loads((home() / RECORD).read_text("utf-8"))
        texts = {key: str(record[key]) for key in _TEXTS}
        path = home() / Path(str(record["folder"])).name / _PROGRAM
        double = bool(record["is_double"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return InstalledCompiler(path=path, is_double=double, **texts) if path.is_file() else None
