"""Say of every operation on the CPU why it is there, and what would map it.

The texts are data (causes.toml). Pure functions of the facts and the placement: nothing is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeopt.facts import ModelFacts, Operator, Subgraph
from edgeopt.findings import OpPlacement, Placement
from edgeopt.profile import HardwareProfile
from edgeopt.repair.activations import suits_prelu
from edgeopt.repair.dense import scaled_by_channel, suits_dense
from edgeopt.repair.figures import figures
from edgeopt.repair.moves import suits_moves
from edgeopt.repair.split import needed_by
from edgeopt.repair.static import computed_shapes
from edgeopt.repair.versions import minimal_version
from edgeopt.toml_file import read_toml

__all__ = ["CONSEQUENCES", "Explanation", "catalogue", "explain", "repairable"]

_KINDS = ("automatic", "cut", "source", "none")
_BLOCKERS_SHOWN = 3
# Causes that lie in other operations, or that are not told: nothing to repair here.
CONSEQUENCES = ("outside_partition", "other_subgraph", "depends_on_uncertain", "left_by_compiler")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One operation on the CPU, or that may be there.

    `repair` says what maps it; `kind` who does it: "automatic" (edgeopt fix, by rewriting), "cut"
    (edgeopt fix, when asked to split), "source" (a person, in the source model) or "none" (follows
    from others: `blocked_by`). `would_map` is by how many operations more the accelerator would
    run, were this one supported and nothing else changed: a prediction; None where that does not
    apply. It can be below 0: the first part of the graph wins, and it may become a smaller one.
    """

    index: int
    op: str
    layer: str | None
    cause: str
    phrase: str | None
    certain: bool
    why: str
    repair: str
    kind: str
    would_map: int | None = None
    blocked_by: tuple[int, ...] = ()

    @property
    def automatic(self) -> bool:
        return self.kind == "automatic"

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "op": self.op,
            "layer": self.layer,
            "cause": self.cause,
            "phrase": self.phrase,
            "certain": self.certain,
            "why": self.why,
            "repair": self.repair,
            "kind": self.kind,
            "automatic": self.automatic,
            "would_map": self.would_map,
            "blocked_by": list(self.blocked_by),
        }


@dataclass(frozen=True, kw_only=True)
class _Entry:
    kind: str
    why: str
    repair: str


@lru_cache(maxsize=1)
def catalogue() -> Mapping[tuple[str, str], _Entry]:
    """The texts by cause and operation ("" for every one). Raises InputError for a broken file."""
    root = read_toml(Path(__file__).with_name("causes.toml"))
    root.value("schema")
    found: dict[tuple[str, str], _Entry] = {}
    causes = root.section("cause")
    for cause in causes.names():
        section = causes.section(cause)
        found[cause, ""] = _entry(section)
        operations = section.section("operations", required=False)
        for op in operations.names():
            found[cause, op] = _entry(operations.section(op))
    return found


def _entry(section: Any) -> _Entry:
    return _Entry(
        kind=section.choice("kind", _KINDS),
        why=section.text("why"),
        repair=section.text("repair"),
    )


def explain(
    facts: ModelFacts,
    placement: Placement,
    profile: HardwareProfile,
    gains: Mapping[int, int | None],
) -> tuple[Explanation, ...]:
    """In file order. `gains` has, by operation of the main subgraph, how many more would map."""
    operators = tuple(facts.operators())
    by_position = list(zip(operators, placement.ops, strict=False))
    main = facts.subgraphs[0]
    placed_main = [p for op, p in by_position if op.subgraph == 0]
    on_cpu = {p.index for p in placed_main if p.placement == "cpu"}
    refused = {i for i in on_cpu if placed_main[i].cause not in CONSEQUENCES}
    before = needed_by(main, {p.index for p in placed_main} - on_cpu)
    around = _Around(
        profile=profile,
        gains=gains,
        main=main,
        shapes=frozenset(op.index for op in computed_shapes(main)),
        blockers=_blockers(main.operators, refused - before),
        names={p.index: p.layer for p in placed_main},
    )
    found = []
    for op, placed in by_position:
        if not _told(placed, profile):
            continue
        found.append(_explanation(op, placed, around))
    return tuple(found)


def _told(placed: OpPlacement, profile: HardwareProfile) -> bool:
    if not profile.accelerated:
        return False
    doubted = not placed.certain and placed.cause not in ("", "depends_on_uncertain")
    return placed.placement == "cpu" or doubted


@dataclass(frozen=True, kw_only=True)
class _Around:
    """What an explanation needs to know of the rest of the model, by operation of `main`."""

    profile: HardwareProfile
    gains: Mapping[int, int | None]
    main: Subgraph
    shapes: frozenset[int]
    blockers: Mapping[int, tuple[int, ...]]
    names: Mapping[int, str | None]


def _explanation(op: Operator, placed: OpPlacement, around: _Around) -> Explanation:
    main, profile, gains = around.main, around.profile, around.gains
    cause = placed.cause or "unknown"
    texts = catalogue()
    entry = texts.get((cause, op.op)) or texts.get((cause, "")) or texts["unknown", ""]
    waits = around.blockers.get(op.index, ()) if cause == "outside_partition" else ()
    values = {**figures(op, profile, cause), "layer": placed.layer or "?"}
    values |= {"reason": _sentence(placed.reason), "hint": placed.hint or "Nothing is known."}
    values |= _waiting(waits, around)
    kind = entry.kind
    refused = placed.placement == "cpu" and op.subgraph == 0 and cause not in CONSEQUENCES
    if refused and op.index in around.shapes:
        entry, kind = texts["computed_shape", ""], "automatic"
    elif op.subgraph == 0 and scaled_by_channel(op, profile) and suits_dense(op):
        entry, kind = texts["scaled_by_channel", ""], "automatic"
    elif refused and _suits(op, cause, main, around.shapes, profile):
        entry, kind = texts.get(("rewritten", op.op), entry), "automatic"
    elif kind == "automatic":
        kind = "source"
    known = _Filled(values)
    return Explanation(
        index=op.index,
        op=op.op,
        layer=placed.layer,
        cause=cause,
        phrase=placed.phrase,
        certain=placed.certain,
        why=_sentence(entry.why.format_map(known)),
        repair=_sentence(entry.repair.format_map(known)),
        kind=kind,
        would_map=gains.get(op.index) if op.subgraph == 0 else None,
        blocked_by=waits,
    )


class _Filled(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _sentence(text: str) -> str:
    return text if text.startswith("edgeopt ") else text[:1].upper() + text[1:]


def _waiting(waits: Sequence[int], around: _Around) -> dict[str, str]:
    """What an operation outside the partition waits for, in words."""
    if not waits:
        return {"blocker": "another part", "blocker_short": "what divides the graph",
                "would_win": "then this may follow"}  # fmt: skip
    first, names = around.main.operators[waits[0]], around.names
    layer = f" ({names[first.index]})" if names.get(first.index) else ""
    more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
    gain = around.gains.get(waits[0])
    if gain is None:
        won = "then this may follow"
    elif gain > 0:
        won = f"that alone is predicted to map {gain} more"
    else:
        won = "by itself it wins nothing, since others are in the way too"
    return {
        "blocker": f"{first.op} #{first.index}{layer}{more}, on the CPU",
        "blocker_short": f"{first.op} #{first.index}{more}",
        "would_win": won,
    }


def _blockers(main: Sequence[Operator], refused: set[int]) -> dict[int, tuple[int, ...]]:
    """For each operation the refused ones before it that no other refused one comes before.

    They end the partition: what follows them is left to the CPU whatever it is.
    """
    makers = {t.index: op.index for op in main for t in op.outputs}
    found: dict[int, frozenset[int]] = {}
    for op in main:
        before: set[int] = set()
        for tensor in op.inputs:
            maker = makers.get(tensor.index) if tensor is not None else None
            if maker is None or maker >= op.index:
                continue
            earlier = found.get(maker, frozenset())
            before |= earlier or (frozenset([maker]) if maker in refused else frozenset())
        found[op.index] = frozenset(before)
    return {index: tuple(sorted(some)[:_BLOCKERS_SHOWN]) for index, some in found.items() if some}


def repairable(
    facts: ModelFacts, refused: Mapping[int, str], profile: HardwareProfile
) -> frozenset[int]:
    """The operations that edgeopt fix has a rewriting for, of those of the main subgraph that are
    `refused` (index to cause)."""
    main = facts.subgraphs[0]
    shapes = frozenset(op.index for op in computed_shapes(main))
    return frozenset(
        index
        for index, cause in refused.items()
        if index in shapes or _suits(main.operators[index], cause, main, shapes, profile)
    )


def _suits(
    op: Operator, cause: str, main: Subgraph, shapes: frozenset[int], profile: HardwareProfile
) -> bool:
    """`shapes` are the operations that only compute shapes."""
    if cause in ("version", "unparsed_version") and op.op != "FULLY_CONNECTED":
        least = minimal_version(op)
        rule = profile.operations.get(op.op)
        limit = rule.max_version if rule else None
        return least is not None and limit is not None and least <= limit
    if cause == "dynamic":
        made = {t.index for i in shapes for t in main.operators[i].outputs}
        return any(t is not None and t.index in made for t in op.inputs)
    if op.op in ("QUANTIZE", "DEQUANTIZE"):
        return _at_edge(op, main)
    if op.op == "LEAKY_RELU":
        return suits_prelu(op) is not None and "PRELU" in profile.operations
    if op.op == "FULLY_CONNECTED":
        return suits_dense(op)
    return suits_moves(op)


def _at_edge(op: Operator, main: Subgraph) -> bool:
    """A QUANTIZE of an input, or a DEQUANTIZE that only an output of the model reads."""
    if op.op == "QUANTIZE":
        first = op.inputs[0] if op.inputs else None
        return first is not None and first in main.inputs
    result = op.outputs[0] if op.outputs else None
    read = any(t is result for other in main.operators for t in other.inputs)
    return result is not None and result in main.outputs and not read
