"""Hold a final .tflite to what training gave it: every zero and every cluster is still there.

The reference is the float .tflite of the trained model. A weight that is exactly zero there must be
exactly zero in the final file (its code is the zero point), and a channel that has no more than the
asked-for number of distinct values must have no more afterwards. There is no tolerance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.facts import ModelFacts
from edgeopt.verify.preservation_weights import Weights, model_weights

__all__ = ["LayerWeights", "Preservation", "check_preserved", "weight_table"]

# Names that converters count up: they say nothing about which layer it is.
_NUMBERED = re.compile(r"^(arith\.constant|tfl\.pseudo_q?const|StatefulPartitionedCall)?[_:]?\d*$")
# A schedule counts whole weights: of 9 weights, 80% is 7. Of many, a hundredth is a miss.
_SPARSITY_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """A weighted operation of the final file beside the same one of the reference.

    `sparsity` is the share of exact zeros, `distinct` the number of distinct stored values,
    `clusters` the number that a channel may have (None: this layer is not clustered).
    `lost` says what is gone; empty when nothing is.
    """

    layer: str
    op: str
    weights: int
    sparsity: float
    reference_sparsity: float | None = None
    distinct: int
    distinct_per_channel: int
    clusters: int | None = None
    lost: str = ""

    def to_json(self) -> dict[str, Any]:
        fields = (
            "layer", "op", "weights", "sparsity", "reference_sparsity", "distinct",
            "distinct_per_channel", "clusters",
        )  # fmt: skip
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True, kw_only=True)
class Preservation:
    """`kept` is what was to be kept ("zeros", "clusters"); `sparsity` that of all weights
    together. `losses` has a sentence for each layer that lost it, or never had it."""

    kept: tuple[str, ...]
    layers: tuple[LayerWeights, ...]
    sparsity: float
    losses: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.losses

    def to_json(self) -> dict[str, Any]:
        return {
            "kept": list(self.kept),
            "layers": [layer.to_json() for layer in self.layers],
            "sparsity": self.sparsity,
            "passed": self.passed,
        }


def check_preserved(
    final: ModelFacts,
    reference: ModelFacts,
    keep: Sequence[str],
    *,
    clusters: int | None,
    final_sparsity: float | None = None,
    trained: Iterable[Mapping[str, Any]] = (),
) -> Preservation:
    """Compare two .tflite files layer by layer.

    `keep` holds "zeros", "clusters" or both; `clusters` is how many distinct values a clustered
    channel may have. `trained` are the layers that a technique changed, as the report's
    `training.layers` names them ({name, techniques, sparsity, clusters}): each must have reached
    `final_sparsity` or `clusters`, in training and in the reference too.
    Raises ModelError when weights are of a type that cannot be counted.
    """
    known, made = model_weights(reference), model_weights(final)
    limit = clusters if "clusters" in keep else None
    layers = tuple(_compare(a, b, "zeros" in keep, limit) for a, b in _pairs(known, made))
    losses = [f"{layer.layer}: {layer.lost}" for layer in layers if layer.lost]
    if not made:
        losses.append("The final file has no weights that can be read.")
    wanted = final_sparsity if "zeros" in keep else None
    for layer in trained:
        losses += _never_had(layer, known, wanted, limit)
    return Preservation(
        kept=tuple(keep), layers=layers, sparsity=_total_sparsity(made), losses=tuple(losses)
    )


def weight_table(facts: ModelFacts) -> tuple[LayerWeights, ...]:
    """Zeros and distinct values of each weighted operation of one file."""
    return tuple(_compare(None, weights, False, None) for weights in model_weights(facts))


def _pairs(
    reference: tuple[Weights, ...], final: tuple[Weights, ...]
) -> Iterator[tuple[Weights | None, Weights | None]]:
    """The same layer of both files, in the reference's order: by the name of its result where both
    files have it once, the others by their order among layers of the same size."""
    here, there = _by_name(reference), _by_name(final)
    chosen: dict[int, Weights] = {}
    for name, weights in here.items():
        other = there.get(name)
        if other is not None and other.size == weights.size:
            chosen[id(weights)] = other
    taken = {id(weights) for weights in chosen.values()}
    for weights in reference:
        if id(weights) in chosen:
            continue
        free = (w for w in final if id(w) not in taken and w.size == weights.size)
        if (other := next(free, None)) is not None:
            chosen[id(weights)] = other
            taken.add(id(other))
    yield from ((weights, chosen.get(id(weights))) for weights in reference)
    yield from ((None, weights) for weights in final if id(weights) not in taken)


def _by_name(all_weights: tuple[Weights, ...]) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    twice = set()
    for weights in all_weights:
        name = weights.result
        if name in found:
            twice.add(name)
        found[name] = weights
    return {n: w for n, w in found.items() if n not in twice and not _NUMBERED.match(n)}


def _compare(
    reference: Weights | None, final: Weights | None, zeros: bool, clusters: int | None
) -> LayerWeights:
    shown = final or reference
    assert shown is not None
    lost = []
    clustered = (
        reference is not None
        and clusters is not None
        and reference.distinct_per_channel <= clusters < reference.weights_of_channel()
    )
    if reference is not None and final is None:
        if (zeros and reference.zeros.any()) or clustered:
            lost.append("is not in the final file, or not with the same number of weights")
    elif reference is not None and final is not None:
        if zeros and (gone := _zeros_gone(reference, final)):
            count = int(np.count_nonzero(reference.zeros))
            lost.append(
                f"{gone} of its {count} zeros are gone (sparsity {final.sparsity:.2%}, was "
                f"{reference.sparsity:.2%})"
            )
        if clustered and clusters is not None and final.distinct_per_channel > clusters:
            lost.append(
                f"{final.distinct_per_channel} distinct values in a channel, not {clusters}"
            )
    return LayerWeights(
        layer=shown.layer,
        op=shown.op,
        weights=shown.size,
        sparsity=shown.sparsity,
        reference_sparsity=reference.sparsity if reference is not None else None,
        distinct=shown.distinct,
        distinct_per_channel=shown.distinct_per_channel,
        clusters=clusters if clustered else None,
        lost="; ".join(lost),
    )


def _zeros_gone(reference: Weights, final: Weights) -> int:
    """Weights that were zero and are not; where the two are laid out differently, how many fewer
    zeros there are."""
    if reference.codes.shape == final.codes.shape and final.ordered and reference.ordered:
        return int(np.count_nonzero(reference.zeros & ~final.zeros))
    return max(0, int(np.count_nonzero(reference.zeros)) - int(np.count_nonzero(final.zeros)))


def _total_sparsity(found: tuple[Weights, ...]) -> float:
    """Zeros of all kernels, one that several operations share counted once."""
    once = {weights.identity: weights for weights in found}.values()
    size = sum(weights.size for weights in once)
    return sum(int(np.count_nonzero(w.zeros)) for w in once) / size if size else 0.0


def _never_had(
    layer: Mapping[str, Any],
    known: tuple[Weights, ...],
    sparsity: float | None,
    clusters: int | None,
) -> Iterator[str]:
    """What a trained layer did not reach in training, or lost on its way to the float .tflite."""
    name, reached, values = str(layer["name"]), layer.get("sparsity"), layer.get("clusters")
    same = [weights for weights in known if _has_name(weights, name)]
    if sparsity is not None and reached is not None:
        slack = max([_SPARSITY_TOLERANCE, *(1 / weights.size for weights in same)])
        if reached < sparsity - slack:
            yield f"{name}: training reached a sparsity of {reached:.2%}, {sparsity:.2%} was asked"
        elif same and all(weights.sparsity < reached - 1e-9 for weights in same):
            now = max(weights.sparsity for weights in same)
            yield f"{name}: conversion to float left a sparsity of {now:.2%} of {reached:.2%}"
    if clusters is not None and values is not None:
        if values > clusters:
            yield f"{name}: training left {values} distinct values, {clusters} were asked"
        elif same and all(weights.distinct_per_channel > clusters for weights in same):
            now_distinct = min(weights.distinct_per_channel for weights in same)
            yield (
                f"{name}: conversion to float made {now_distinct} distinct values of a channel, "
                f"{clusters} were asked"
            )


def _has_name(weights: Weights, layer: str) -> bool:
    """True when the layer's name is a part of the path that the converter named the result by."""
    return any(layer in re.split(r"[/;:]", name) for name in weights.names)
