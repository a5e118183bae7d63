"""Runs on the device from stdin: which runtimes this Python has installed, importing none of them.

Standard library only, Python 3.7 grammar; one JSON line on stdout. A runtime that is imported may
load libedgetpu, and a wrong pair of the two crashes: their versions must be known before.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

NAMES = ("pycoral", "tflite_runtime", "ai_edge_litert", "numpy")


def version_in(folder: Path, name: str) -> Any:
    """From the metadata folder that pip, or Debian's packages, leave beside a package."""
    for path in sorted(folder.glob(name + "-*-info")):
        found = re.match(r"[^-]+-([^-]+?)(-py3.*)?\.(dist|egg)-info$", path.name)
        if found:
            return found.group(1)
    return "unknown" if (folder / name / "__init__.py").is_file() else None


def main() -> None:
    packages = {}
    for folder in sys.path[1:]:  # the first is where we stand
        for name in NAMES:
            version = version_in(Path(folder), name) if folder else None
            if version and name not in packages:
                packages[name] = version
    print(json.dumps({"packages": packages, "python": platform.python_version()}))


if __name__ == "__main__":
    main()
