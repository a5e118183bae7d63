"""The flags of training and of better quantization, and how they become requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.options_base import option, stack
from edgeopt.quality import FALLBACKS, RANGES, SWITCH
from edgeopt.training import CENTROIDS, TECHNIQUES

if TYPE_CHECKING:
    from edgeopt.quality import QualityRequest
    from edgeopt.training import TrainingRequest

__all__ = ["quality", "quality_request", "training", "training_request"]

training = stack(
    option(
        "--technique",
        "techniques",
        multiple=True,
        type=click.Choice(TECHNIQUES),
        help="Train for size or accuracy first (repeatable; they combine).",
    ),
    option("--train-data", env="TRAIN_DATA", metavar="DATA", help="Labelled data to train with."),
    option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the training data."),
    option("--learning-rate", type=float, metavar="X", help="Step size of the optimizer."),
    option("--batch-size", type=click.IntRange(1), metavar="N", help="Samples a training step."),
    option(
        "--final-sparsity", type=float, metavar="X", help="Share of zeros that prune ends with."
    ),
    option("--clusters", type=click.IntRange(2), metavar="N", help="Distinct values a layer."),
    option("--centroids", type=click.Choice(CENTROIDS), help="How cluster finds its first values."),
    option(
        "--layers",
        multiple=True,
        metavar="PATTERN",
        help="Layer names to train so (repeatable; !PATTERN leaves layers out).",
    ),
    option("--seed", type=click.IntRange(0), metavar="N", help="Of shuffling and initial values."),
    option("--fresh", is_flag=True, help="Do not resume an interrupted training."),
)
quality = stack(
    option(
        "--ranges",
        env="RANGES",
        type=click.Choice(RANGES),
        help="How activation ranges are estimated; auto measures which loses least.",
    ),
    option("--equalization", type=click.Choice(SWITCH), help="Even out the ranges of channels."),
    option("--bias-correction", type=click.Choice(SWITCH), help="Undo the mean error of weights."),
    option(
        "--fallback",
        env="FALLBACK",
        type=click.Choice(FALLBACKS),
        help="What the worst layers may become: slower, more accurate.",
    ),
    option(
        "--splitting",
        env="SPLITTING",
        metavar="X",
        help="Hold activations twice, for up to X times the multiplications; off: never. Left out: "
        "4 with --goal accuracy.",
    ),
)

_TRAINING = ("techniques", "epochs", "learning_rate", "batch_size", "final_sparsity", "clusters",
             "centroids", "layers", "seed", "max_accuracy_drop")  # fmt: skip
_QUALITY = ("ranges", "equalization", "bias_correction", "fallback", "splitting")


def training_request(flags: dict[str, Any]) -> TrainingRequest:
    """Takes its flags out of `flags`; the budget stays, others need it too."""
    from edgeopt.training import TrainingRequest

    given = {n: flags[n] for n in _TRAINING if flags.get(n) not in (None, ())}
    for name in _TRAINING:
        if name != "max_accuracy_drop":
            flags.pop(name, None)
    return TrainingRequest(**given, resume=not flags.pop("fresh", False))


def quality_request(flags: dict[str, Any]) -> QualityRequest:
    """Takes its flags out of `flags`."""
    from edgeopt.quality import QualityRequest

    given = {n: flags.pop(n, None) for n in _QUALITY}
    return QualityRequest(**{n: v for n, v in given.items() if v is not None})
