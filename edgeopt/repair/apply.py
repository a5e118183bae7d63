"""Apply repairs one at a time: each must help, and each must be proven to change no output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.model.edit import inline_buffers
from edgeopt.model.edit_graph import GraphEdit, dead_operators, unread_bytes
from edgeopt.model.tflite import parse
from edgeopt.repair.activations import leaky_to_prelu
from edgeopt.repair.dense import wrap_dense
from edgeopt.repair.edges import integer_edges
from edgeopt.repair.moves import rewrite_moves
from edgeopt.repair.proof import Proof, Prover
from edgeopt.repair.repair import Need, Repair, Repaired
from edgeopt.repair.static import fix_batch, fold_shapes
from edgeopt.repair.versions import lower_versions

__all__ = ["REPAIRS", "Standing", "Step", "apply"]

_PASSES = 4  # one repair may make room for another; what is left then is not going to change
_SINGLY = 12  # operations tried one by one when they cannot be repaired together
_ALWAYS = ("inline_buffers", "fixed_batch", "integer_io", "dead_parts")  # asked for, or harmless


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a file stands: rules broken, operations refused for a cause of their own, on the CPU."""

    violations: int
    refused: int
    cpu: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One repair that was tried: applied with its proof, or not, with the reason."""

    name: str
    applied: bool
    changes: tuple[str, ...]
    reason: str = ""
    proof: Proof | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "applied": self.applied,
            "changes": list(self.changes),
            "reason": self.reason or None,
            "proof": self.proof.to_json() if self.proof else None,
        }


def _inline(data: bytes, need: Need) -> Repaired | None:
    if not need.profile.inline_buffers:
        return None
    count = parse(data).out_of_line_buffers
    made = inline_buffers(data)
    if made is data:
        return None
    return Repaired(data=made, changes=(f"{count} constants are stored inside the model.",))


def _dead(data: bytes, need: Need) -> Repaired | None:
    """What reaches no output, and constants that nothing reads."""
    edit = GraphEdit(data)
    dead, unread = dead_operators(edit.model), unread_bytes(edit.model)
    if not dead and not unread:
        return None
    changes = [f"{len(dead)} operations that reach no output are removed."] if dead else []
    changes += [f"{unread:,} bytes of constants that nothing reads are removed."] if unread else []
    return Repaired(data=edit.finish(), changes=tuple(changes))


REPAIRS: Mapping[str, Repair | None] = {
    "inline_buffers": _inline,
    "fixed_batch": fix_batch,
    "constant_shapes": None,  # asks the runtime what the shapes are
    "dead_parts": _dead,
    "integer_io": integer_edges,
    "lower_versions": lower_versions,
    "dense": wrap_dense,
    "leaky_relu": leaky_to_prelu,
    "moves": rewrite_moves,
}


def apply(
    data: bytes, judge: Callable[[bytes], tuple[Need, Standing]], prover: Prover
) -> tuple[bytes, list[Step]]:
    """The repaired file (`data` itself when nothing was), and what was tried, in order.

    `judge` says what a file needs and how it stands. Raises ModelError only for a file that cannot
    be read; a repair that cannot be made or proven is a step that was not applied.
    """
    steps: dict[tuple[str, tuple[str, ...]], Step] = {}
    for _ in range(_PASSES):
        before = data
        for name in REPAIRS:
            data = _try(name, data, judge, prover, steps)
        if data is before:
            break
    return data, list(steps.values())


def _try(
    name: str,
    data: bytes,
    judge: Callable[[bytes], tuple[Need, Standing]],
    prover: Prover,
    steps: dict[tuple[str, tuple[str, ...]], Step],
) -> bytes:
    need, standing = judge(data)
    try:
        made = _make(name, data, need, prover)
    except ModelError as error:
        steps.setdefault((name, ()), Step(name=name, applied=False, changes=(), reason=str(error)))
        return data
    if made is None or (name, made.changes) in steps:
        return data
    step = _judged(name, made, standing, judge, prover)
    if not step.applied and len(made.operators) > 1:
        good = list(_singly(name, data, need, made, standing, judge, prover))
        if good:
            steps[name, made.changes] = step
            made = _make(name, data, replace(need, only=frozenset(good)), prover) or made
            step = _judged(name, made, standing, judge, prover)
    steps[name, made.changes] = step
    return made.data if step.applied else data


def _make(name: str, data: bytes, need: Need, prover: Prover) -> Repaired | None:
    repair = REPAIRS[name]
    if repair is not None:
        return repair(data, need)
    from edgeopt.repair.static import computed_shapes

    if not need.profile.static_shapes or not computed_shapes(parse(data).subgraphs[0]):
        return None
    return fold_shapes(data, need, prover.observe(data))


def _singly(
    name: str,
    data: bytes,
    need: Need,
    made: Repaired,
    standing: Standing,
    judge: Callable[[bytes], tuple[Need, Standing]],
    prover: Prover,
) -> Iterator[int]:
    """Those of a repair's operations that can be repaired alone."""
    for index in made.operators[:_SINGLY]:
        one = _make(name, data, replace(need, only=frozenset([index])), prover)
        if one is not None and _judged(name, one, standing, judge, prover).applied:
            yield index


def _judged(
    name: str,
    made: Repaired,
    standing: Standing,
    judge: Callable[[bytes], tuple[Need, Standing]],
    prover: Prover,
) -> Step:
    after = judge(made.data)[1]
    worse = after.violations > standing.violations or after.refused > standing.refused
    better = (
        after.violations < standing.violations
        or after.refused < standing.refused
        or after.cpu < standing.cpu
    )
    if worse or not (better or name in _ALWAYS):
        reason = "it would map no more operations" if not worse else "it would break other rules"
        return Step(name=name, applied=False, changes=made.changes, reason=reason)
    try:
        proof = prover.same(made.data)
    except ModelError as error:
        return Step(name=name, applied=False, changes=made.changes, reason=error.message)
    return Step(
        name=name,
        applied=proof.identical,
        changes=made.changes,
        reason="" if proof.identical else _refused(proof),
        proof=proof,
    )


def _refused(proof: Proof) -> str:
    """Why an output that changed keeps a repair away."""
    failed = next((k for k in proof.kernels if not k["identical"]), None)
    if failed is not None and failed["kernels"] == "xnnpack":
        return (
            "equal to the bit with TensorFlow Lite's own kernels, which define the operation, but "
            f"XNNPACK rounds otherwise ({proof.reason}); --own-kernels is content with the former"
        )
    return f"its outputs are not the same: {proof.reason}"
