"""Dataset: the user's samples and labels, and how they become a model's input."""

from __future__ import annotations

from edgeopt.dataset.dataset import Dataset, load_dataset, match
from edgeopt.dataset.preprocess import Preprocess
from edgeopt.dataset.targets import Answer, Boxes, Targets

__all__ = ["Answer", "Boxes", "Dataset", "Preprocess", "Targets", "load_dataset", "match"]
