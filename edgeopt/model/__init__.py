"""Read a model without running it: its format, its facts; and edit a .tflite's edges.

`detect` says which format, `read` gives the facts of any of them, `probe` asks the runtime (in a
process of its own) whether a .tflite loads. `edit` changes a .tflite and needs the LiteRT package.
"""

from __future__ import annotations

from edgeopt.model.detect import detect
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.probe import probe
from edgeopt.model.read import read

__all__ = ["CorruptFile", "detect", "probe", "read"]
