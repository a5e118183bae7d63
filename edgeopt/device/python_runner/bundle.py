"""The agent as the one file that is pushed: a zip that Python runs, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

__all__ = ["SUFFIX", "agent_sha256", "write_agent"]

SUFFIX = ".pyz"
_SOURCE = Path(__file__).parents[1] / "agent"
_NAME = "edgeopt_agent"
_START = f"import sys\n\nfrom {_NAME}.main import main\n\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that zip knows: no clock gets into the hash


@cache
def _content() -> bytes:
    """Stored and not deflated: zlib's versions give other bytes, and the push compresses."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as bundle:
        files = {"__main__.py": _START.encode()}
        for path in sorted(_SOURCE.glob("*.py")):
            files[f"{_NAME}/{path.name}"] = path.read_bytes()
        for name, content in files.items():
            bundle.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return stream.getvalue()


@cache
def agent_sha256() -> str:
    return hashlib.sha256(_content()).hexdigest()


def write_agent(folder: Path) -> Path:
    """The file to push, made in `folder`."""
    path = folder / f"agent{SUFFIX}"
    path.write_bytes(_content())
    return path
