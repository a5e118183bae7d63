"""Apply repairs one at a time: each must help, and each must be proven to change no output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from edgeopt.repair.split import alone
from edgeopt.repair.static import computed_shapes, fix_batch, fold_shapes
from edgeopt.repair.versions import lower_versions

__all__ = ["REPAIRS", "Standing", "Step", "apply"]

_PASSES = 4  # one repair may make room for another; what is left then is not going to change
_WORTH_REMOVING = 4096  # bytes of unread constants; less is no reason to write another file
_BY_OPERATION = ("lower_versions", "dense", "leaky_relu", "moves")
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
    if not dead and unread < _WORTH_REMOVING:
        return None
    changes = [f"{len(dead)} operations that reach no output are removed."] if dead else []
    changes += (
        [f"{unread:,} bytes of constants that nothing reads are removed."]
        if unread >= _WORTH_REMOVING
        else []
    )
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
    done = {step.name for step in steps.values() if step.applied}
    told = [s for s in steps.values() if s.applied or s.changes or s.name not in done]
    return data, told


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
    bad = _differing(name, data, need, made, prover)
    for reason, operators in bad.items():
        changes = tuple(c for c, i in zip(made.changes, made.operators, strict=False)
                        if i in operators)  # fmt: skip
        steps[name, changes] = Step(name=name, applied=False, changes=changes, reason=reason)
    if bad:
        good = frozenset(made.operators) - frozenset(i for some in bad.values() for i in some)
        found = _make(name, data, replace(need, only=good), prover) if good else None
        if found is None or (name, found.changes) in steps:
            return data
        made = found
    step = _judged(name, made, standing, judge, prover)
    steps[name, made.changes] = step
    return made.data if step.applied else data


def _differing(
    name: str, data: bytes, need: Need, made: Repaired, prover: Prover
) -> dict[str, list[int]]:
    """The operations whose rewriting, alone, gives another output, by the reason.

    A whole model hides a difference of one step; the operation by itself, fed with every value of
    its input type, does not.
    """
    bad: dict[str, list[int]] = {}
    for index in made.operators if name in _BY_OPERATION else ():
        one = alone(data, index)
        cause = need.refused.get(index, "")
        single = _make(name, one, replace(need, refused={0: cause}, only=None), prover)
        if single is None:
            continue
        try:
            proof = prover.same_as(one, single.data)
        except ModelError as error:
            bad.setdefault(error.message, []).append(index)
            continue
        if not proof.identical:
            bad.setdefault(_refused(proof, detailed=False), []).append(index)
    return bad


def _make(name: str, data: bytes, need: Need, prover: Prover) -> Repaired | None:
    repair = REPAIRS[name]
    if repair is not None:
        return repair(data, need)
    if not need.profile.static_shapes or not computed_shapes(parse(data).subgraphs[0]):
        return None
    return fold_shapes(data, need, prover.observe(data))


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


def _refused(proof: Proof, *, detailed: bool = True) -> str:
    """Why an output that changed keeps a repair away."""
    failed = next((k for k in proof.kernels if not k["identical"]), None)
    if failed is not None and failed["kernels"] == "xnnpack":
        where = f" ({proof.reason})" if detailed else ""
        return (
            "with TensorFlow Lite's own kernels, which define the operation, the outputs are equal "
            f"to the bit, but XNNPACK rounds otherwise{where}; --own-kernels is content with that"
        )
    return f"its outputs are not the same: {proof.reason}"
