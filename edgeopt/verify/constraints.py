"""Holds a model file against a hardware profile and lists everything that breaks a rule."""

from __future__ import annotations

from edgeopt.errors import ModelError
from edgeopt.facts import ModelFacts, Operator
from edgeopt.findings import ConstraintReport
from edgeopt.model.compiled import read_parts
from edgeopt.model.schema import BUILTIN_OPERATORS
from edgeopt.profile import FLOATS, HardwareProfile
from edgeopt.verify.collector import Collector
from edgeopt.verify.graph import Graph
from edgeopt.verify.old_compiler import check_arithmetic, check_old_file
from edgeopt.verify.placement import Survey, survey
from edgeopt.verify.tail import Relaxed
from edgeopt.verify.tensors import check_boundary, check_shapes, check_tensors

__all__ = ["check"]

_BUILTINS = frozenset(BUILTIN_OPERATORS)
_CONTROL_FLOW = ("IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE")
_FLEX = "Flex"


def check(
    facts: ModelFacts, profile: HardwareProfile, *, io: str | None = None, stage: str = "optimized"
) -> ConstraintReport:
    """Every violation, tensor by tensor and operation by operation; nothing stops at the first.

    `io` is the input and output type that the file was made for, when one was asked for. `stage` is
    the artifact's: a "compiled" file (one that holds the profile's compiled operation is known for
    one without it) answers to the rules for compiled files, as the compiler judged the rest.
    """
    to = Collector(profile)
    compiled = profile.compiled(facts)
    if compiled or (stage == "compiled" and profile.partition.compiled_operation):
        _check_compiled(facts, to, compiled)
        return to.report()
    _check_file(facts, to)
    graphs = [Graph(subgraph) for subgraph in facts.subgraphs]
    relaxed = [Relaxed(graph, profile) for graph in graphs]
    check_boundary(facts, to, relaxed[0], io)
    check_shapes(facts, to)
    for graph, free in zip(graphs, relaxed, strict=True):
        for op in graph.subgraph.operators:
            _check_runtime(op, facts, to)
            _check_float_only(op, to, free)
        check_tensors(graph, to, free)
    if profile.old_reader and facts.format == "tflite":
        check_old_file(facts, to)
        check_arithmetic(facts, to)
    if profile.accelerated:
        _check_accelerator(facts, to)
    return to.report()


def _check_compiled(facts: ModelFacts, to: Collector, compiled: list[Operator]) -> None:
    """The compiler has spoken: it must have mapped something, and the rest must be known."""
    code = to.profile.partition.compiled_operation
    to.require(
        bool(compiled),
        "compiled.operations",
        facts.path.name,
        f"no {code}",
        f"at least one {code}",
        "Compile it again; nothing of this file would run on the accelerator.",
    )
    _check_payload(facts, to)
    done = {id(op) for op in compiled}
    for op in facts.operators():
        if id(op) not in done:
            _check_runtime(op, facts, to)


def _check_payload(facts: ModelFacts, to: Collector) -> None:
    """The machine code must be whole, and for a device runtime that exists."""
    try:
        parts = read_parts(facts)
    except ModelError as error:
        to.require(
            False,
            "compiled.payload",
            facts.path.name,
            error.message,
            "a payload as the compiler writes it",
            "Compile it again, or copy it again: it is damaged.",
        )
        return
    offered = to.profile.partition.runtime_version
    for part in parts:
        to.require(
            offered is None or (part.min_runtime_version or 0) <= offered,
            "compiled.runtime",
            f"{to.profile.partition.compiled_operation} #{part.operator}",
            f"needs device runtime {part.min_runtime_version}",
            f"runtime {offered} at most",
            "Compile it again with --min-runtime-version.",
        )


def _check_file(facts: ModelFacts, to: Collector) -> None:
    profile, name = to.profile, facts.path.name
    if profile.inline_buffers:
        to.require(
            facts.out_of_line_buffers == 0,
            "file.inline_buffers",
            name,
            f"{facts.out_of_line_buffers} buffers stored behind the model",
            "all buffers inside it",
            "Convert it again with edgeopt, which stores them inside.",
        )
    if not profile.control_flow:
        to.require(
            len(facts.subgraphs) == 1,
            "file.subgraphs",
            name,
            f"{len(facts.subgraphs)} subgraphs",
            "one subgraph",
            "Export one signature, without loops and conditions.",
        )


def _check_runtime(op: Operator, facts: ModelFacts, to: Collector) -> None:
    """The operation must exist, at that version, in the runtime that parses the file."""
    profile = to.profile
    if not profile.control_flow:
        to.require(
            op.op not in _CONTROL_FLOW,
            "operations.control_flow",
            op.where,
            "control flow",
            "a graph without loops and conditions",
            "Unroll the loop, or run it in the application.",
        )
    if op.custom or (op.op not in _BUILTINS and facts.format == "tflite"):
        _check_custom(op, to)
    elif op.op in _BUILTINS:
        _check_version(op, to)


def _check_custom(op: Operator, to: Collector) -> None:
    profile = to.profile
    rule = profile.operations.get(op.op)
    parsed = (*profile.runtime.custom, *profile.tail.roots)
    hint = profile.remedies.get(op.op) or f"Replace {op.op}, or cut it off into the application."
    if op.op.startswith(_FLEX):
        hint = "Convert without SELECT_TF_OPS: replace it by a built-in operation."
    known = op.op in parsed or (rule is not None and rule.custom)
    runtime = f"{profile.runtime.name} {profile.runtime.version}"
    found = f"custom operation {op.op}"
    to.require(known, "operations.custom", op.where, found, f"an operation of {runtime}", hint)
    if known and op.op not in profile.runtime.custom and rule is None:
        to.warn(
            "operations.custom",
            op.where,
            found,
            "a runtime that was built with it",
            "Make sure that the device's runtime registers it.",
            profile.tail.source,
        )


def _check_version(op: Operator, to: Collector) -> None:
    profile = to.profile
    runtime = f"{profile.runtime.name} {profile.runtime.version}"
    span = profile.runtime.operations.get(op.op)
    remedy = profile.remedies.get(op.op)
    if not to.require(
        span is not None,
        "operations.unknown",
        op.where,
        f"{op.op}, which {runtime} does not have",
        f"an operation of {runtime}",
        remedy or f"Replace {op.op}, or use a device with a newer runtime.",
    ):
        return
    if span is None or op.version is None:
        return
    to.require(
        span[0] <= op.version <= span[1],
        "operations.version",
        op.where,
        f"version {op.version}",
        f"version {span[0]}{f' to {span[1]}' if span[1] > span[0] else ''} ({runtime})",
        _version_hint(op, to.profile),
    )


def _version_hint(op: Operator, profile: HardwareProfile) -> str:
    """An operation that the accelerator lacks is better replaced than lowered."""
    if profile.accelerated and op.op not in profile.operations:
        remedy = profile.remedies.get(op.op) or f"Replace {op.op}."
        return f"{profile.partition.place} has no {op.op}. {remedy}"
    return "Avoid what raised the version, or convert with a release as old as that runtime."


def _check_float_only(op: Operator, to: Collector, relaxed: Relaxed) -> None:
    """Operations whose floats no quantization takes away."""
    profile = to.profile
    if op.op not in profile.float_only:
        return
    touched = [t for t in (*op.inputs, *op.outputs) if t is not None]
    floats = sorted({t.dtype for t in touched if t.dtype in FLOATS})
    to.require(
        not floats or relaxed.holds(op),
        "operations.float_only",
        op.where,
        f"{op.op} on {' and '.join(floats)}",
        "an operation with an 8-bit kernel",
        profile.remedies.get(op.op, f"Replace {op.op}, or cut it off into post-processing."),
    )


def _check_accelerator(facts: ModelFacts, to: Collector) -> None:
    """What the accelerator leaves to the CPU is legal and costs time; what breaks it is not."""
    profile = to.profile
    if facts.format != "tflite":
        for op in facts.operators():
            if op.op in _BUILTINS and op.op not in profile.operations:
                _warn_cpu(op, "operation not supported", "", to)
        return
    found = survey(facts, profile)
    quantized = not profile.requires_quantization or facts.quantized
    for index, op in enumerate(found.graph.subgraph.operators):
        verdict = found.judged[index]
        to.checked += verdict.checked
        to.violations.extend(verdict.broken)
        if index in found.chosen:
            to.violations.extend(verdict.fatal)
            to.warnings.extend(verdict.advice)
        elif verdict.broken:
            continue
        elif not verdict.supported and (quantized or "data type" not in verdict.reason):
            _warn_cpu(op, verdict.reason, verdict.hint, to, verdict.source)
        elif verdict.supported:
            _warn_cpu(op, f"outside the {profile.partition.pick} partition", "", to)
    _check_backends(found, to)


def _warn_cpu(op: Operator, reason: str, hint: str, to: Collector, source: str = "") -> None:
    place = to.profile.partition.place
    remedy = hint or to.profile.remedies.get(op.op) or "Expect it on the CPU, which takes longer."
    to.warn(
        "placement", op.where, f"runs on the CPU: {reason}", f"{place} to be fast", remedy, source
    )


def _check_backends(found: Survey, to: Collector) -> None:
    """One partition runs through one driver interface: some kernel must exist for every part."""
    narrow: dict[str, list[Operator]] = {}
    for index in sorted(found.chosen):
        op = found.graph.subgraph.operators[index]
        rule = to.profile.operations.get(op.op)
        if rule is not None and len(rule.backends) == 1:
            narrow.setdefault(rule.backends[0], []).append(op)
    if not narrow:
        return
    names = {backend: sorted({op.op for op in ops}) for backend, ops in narrow.items()}
    shown = "; ".join(f"{' and '.join(ops)} only with {backend}" for backend, ops in names.items())
    first = next(iter(narrow.values()))[0]
    to.require(
        len(narrow) == 1,
        "operations.backends",
        first.where,
        shown,
        "operations that one driver interface has in common",
        "Replace the operations of one side.",
    )
