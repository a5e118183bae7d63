"""Zoo: the architectures of the published tables, built in a child that holds TensorFlow."""

from __future__ import annotations

from edgeopt.zoo.build import Built, build
from edgeopt.zoo.builders import BUILDERS, Builder, Input, builder_named
from edgeopt.zoo.samples import write_samples

__all__ = ["BUILDERS", "Builder", "Built", "Input", "build", "builder_named", "write_samples"]
