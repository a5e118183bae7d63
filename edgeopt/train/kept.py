"""What must not be lost: zeros and clusters of kernels, made exact and put back while training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeopt.train.techniques import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "clustered", "described", "kernel_values", "most_values", "projection", "pruned", "sparsity",
    "zeros",
]  # fmt: skip

Weights = list["NDArray[Any]"]


def _places(model: Any) -> dict[str, int]:
    """Where each layer's kernel is in `model.get_weights()`."""
    attributes, places, at = kernels(model), {}, 0
    for layer in model.layers:
        for variable in layer.weights:
            if layer.name in attributes and variable is getattr(layer, attributes[layer.name]):
                places[layer.name] = at
            at += 1
    return places


def kernel_values(model: Any) -> dict[str, NDArray[Any]]:
    """The kernel of each layer that has one."""
    return {name: getattr(model.get_layer(name), at).numpy() for name, at in kernels(model).items()}


def pruned(model: Any, chosen: Sequence[str], weights: Weights, sparsity: float) -> Weights:
    """`weights` with at least that share of zeros in each chosen kernel: the smallest weights."""
    import math

    import numpy as np

    places, made = _places(model), list(weights)
    for name in chosen:
        kernel = made[places[name]]
        wanted = min(math.ceil(kernel.size * sparsity), kernel.size - 1)
        if int((kernel == 0).sum()) >= wanted:
            continue
        flat = kernel.flatten()
        flat[np.argsort(np.abs(flat), kind="stable")[:wanted]] = 0
        made[places[name]] = flat.reshape(kernel.shape)
    return made


def zeros(model: Any, weights: Weights, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Where the kernels of those layers are zero."""
    places = _places(model)
    return {name: weights[places[name]] == 0 for name in names}


def clustered(
    model: Any,
    chosen: Sequence[str],
    weights: Weights,
    clusters: int,
    *,
    zeros: Mapping[str, NDArray[Any]],
) -> Weights:
    """`weights` with at most `clusters` values in each chosen kernel, zero where `zeros` says.

    Should there be more (a zero that tfmot let drift, a layer it left alone), the two closest
    values become their mean until there are not; zero stays zero.
    """
    import numpy as np

    places, made = _places(model), list(weights)
    for name in chosen:
        kernel = made[places[name]].copy()
        if name in zeros:
            kernel[zeros[name]] = 0
        values, member = np.unique(kernel, return_inverse=True)
        member, counts = member.reshape(kernel.shape), np.bincount(member.ravel())
        while (counts > 0).sum() > clusters:
            left = np.flatnonzero(counts)
            first = int(np.argmin(np.diff(values[left])))
            a, b = left[first], left[first + 1]
            if 0 not in (values[a], values[b]):
                values[a] = np.average(values[[a, b]], weights=counts[[a, b]])
            elif values[b] == 0:
                values[a] = 0
            member[member == b] = a
            counts[a] += counts[b]
            counts[b] = 0
        made[places[name]] = values[member].astype(kernel.dtype)
    return made


def projection(
    variables: Mapping[str, Any],
    values: Mapping[str, NDArray[Any]],
    *,
    clustered: frozenset[str],
) -> Callable[[], None]:
    """A step (for a tf.function) that gives each variable the structure of its first `values` back:
    equal weights stay equal, at the mean of where training moved them; zeros stay zero."""
    import numpy as np
    import tensorflow as tf

    steps: list[Callable[[], None]] = []
    for name, variable in variables.items():
        if name in clustered:
            found, member = np.unique(values[name], return_inverse=True)
            steps.append(_means(variable, tf.constant(member.ravel()), found))
        else:
            steps.append(_masked(variable, tf.constant(values[name] != 0)))

    def project() -> None:
        for step in steps:
            step()

    return project


def _means(variable: Any, member: Any, found: NDArray[Any]) -> Callable[[], None]:
    import tensorflow as tf

    moves = tf.constant(found != 0, variable.dtype)

    def step() -> None:
        flat = tf.reshape(variable, [-1])
        means = tf.math.unsorted_segment_mean(flat, member, len(found)) * moves
        variable.assign(tf.reshape(tf.gather(means, member), variable.shape))

    return step


def _masked(variable: Any, mask: Any) -> Callable[[], None]:
    import tensorflow as tf

    return lambda: variable.assign(variable * tf.cast(mask, variable.dtype))


def sparsity(model: Any, weights: Weights, names: Sequence[str]) -> float | None:
    """The share of zeros of those layers' kernels together; None without layers."""
    places = _places(model)
    found = [weights[places[name]] for name in names]
    empty, size = sum(int((k == 0).sum()) for k in found), sum(k.size for k in found)
    return empty / size if size else None


def most_values(model: Any, weights: Weights, names: Sequence[str]) -> int | None:
    """The most distinct values of one of those layers' kernels; None without layers."""
    import numpy as np

    places = _places(model)
    return max((int(np.unique(weights[places[name]]).size) for name in names), default=None)


def described(model: Any, changed: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A row for each layer that a technique changed, with what its kernel has now."""
    import numpy as np

    values, rows = kernel_values(model), []
    for name, techniques in changed.items():
        kernel = values[name]
        rows.append(
            {
                "name": name,
                "techniques": list(techniques),
                "sparsity": float((kernel == 0).mean()) if "prune" in techniques else None,
                "clusters": int(np.unique(kernel).size) if "cluster" in techniques else None,
            }
        )
    return rows
