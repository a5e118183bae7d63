"""Build an architecture to a Keras file, in a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ToolError
from edgeopt.progress import Progress
from edgeopt.zoo.builders import Builder

__all__ = ["Built", "build"]

_WORKER = "edgeopt.zoo.worker"


@dataclass(frozen=True, kw_only=True)
class Built:
    """`path` is a .keras file, or a SavedModel where the builder is not `plain`.

    Without trained weights it holds random ones, the same for a seed and a version of Keras.
    """

    path: Path
    parameters: int
    versions: Mapping[str, str]


def build(
    builder: Builder,
    options: Mapping[str, float],
    output: Path,
    *,
    weights: Path | None,
    seed: int,
    progress: Progress,
) -> Built:
    """Write the model to `output`, a .keras file or, for a builder that is not `plain`, a folder.

    Raises ToolError without TensorFlow, InputError when `weights` do not fit the architecture.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise ToolError(
            f"Building {builder.title} needs TensorFlow, which is not installed.",
            "pip install 'edgeopt[zoo]'",
        )
    progress.stage(f"Building {builder.title}")
    job: dict[str, Any] = {
        "make": builder.make,
        "options": dict(options),
        "weights": str(weights.resolve()) if weights else None,
        "seed": seed,
        "settle": builder.normalized,
        "output": str(output.resolve()),
    }
    with Child(_WORKER) as child:
        try:
            child.send(job)
            answer = child.answer()
        except ChildDied as error:
            raise ToolError(
                f"TensorFlow crashed while building {builder.title}.",
                "Free some memory and try again.",
                details={"log": str(error)},
            ) from error
    return Built(path=output, parameters=answer["parameters"], versions=answer["versions"])
