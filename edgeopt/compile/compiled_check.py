"""Is the compiled file what the compiler says it is? The file decides; the text must agree.

Pure: facts of the two files and the parsed text in, placement out. Raises ToolError, since a file
that fails here was written by a tool that claimed success.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from edgeopt.compile.compiler_failures import facts
from edgeopt.compile.compiler_output import ModelBlock
from edgeopt.compile.contract import CompileOptions, OpStatus
from edgeopt.errors import ModelError, ToolError
from edgeopt.facts import ModelFacts, Tensor
from edgeopt.findings import OpPlacement, Placement
from edgeopt.model.compiled import edge
from edgeopt.model.edgetpu_payload import (
    CUSTOM_OP,
    Partition,
    placement_of_compiled,
    read_payload,
)

__all__ = ["check_compiled", "check_tokens"]


def check_compiled(
    source: ModelFacts, compiled: ModelFacts, block: ModelBlock, options: CompileOptions
) -> tuple[Placement, tuple[Partition, ...], tuple[str, ...]]:
    """The placement (its source is "compiler": the file's counts with the text's reasons),
    the partitions, and warnings.

    Checked: there is a partition, the runtime is new enough, inputs and outputs are those of the
    source to the last bit of their quantization, the printed counts are the file's, and so is the
    table. A table that contradicts the text's own total is a flaw of the text: a warning.
    """
    try:
        partitions = read_payload(compiled)
        if not partitions:
            raise _nothing_mapped(block, options)
        _check_runtime(partitions, options)
        _check_edges(source, compiled)
        placement = placement_of_compiled(compiled, source)
    except ModelError as error:
        raise ToolError(
            f"The Edge TPU compiler wrote a file that cannot be used: {error.message}",
            "Compile again; if it repeats, keep the log.",
        ) from error
    warnings = _check_counts(source, compiled, placement, block)
    ops = tuple(_with_reason(op, block.operations) for op in placement.ops)
    return replace(placement, source="compiler", ops=ops), partitions, warnings


def check_tokens(names: Sequence[str], partitions: Sequence[tuple[Partition, ...]]) -> int | None:
    """The caching token that models compiled together share, None where none caches anything.

    The driver keeps what is cached only between models of one token. A model that caches nothing
    (all of it is streamed) has no part in that. Raises ToolError for different tokens.
    """
    tokens = {
        name: {p.parameter_caching_token for p in parts if p.on_chip_bytes}
        for name, parts in zip(names, partitions, strict=True)
    }
    found = set().union(*tokens.values())
    if len(found) > 1 or 0 in found:
        said = ", ".join(f"{name}: {sorted(own)}" for name, own in tokens.items())
        raise ToolError(
            f"The models were compiled together but do not share one caching token ({said}): they "
            "would empty each other's cache.",
            "Do not use these files. Compile them again with edgetpu_compiler 2.0 or newer.",
        )
    return next(iter(found), None)


def _nothing_mapped(block: ModelBlock, options: CompileOptions) -> ToolError:
    if options.min_runtime_version is not None:
        hint = (
            f"--min-runtime-version {options.min_runtime_version} does this to int8 models when it "
            "is 11 or lower (edgetpu issue 358): leave it out, or ask for 13 or 14."
        )
    else:
        reasons = sorted({f"{row.op}: {row.status}" for row in block.operations if not row.mapped})
        hint = f"Compiler's reasons: {'; '.join(reasons[:6])}." if reasons else ""
        hint = (
            f"{hint} `edgeopt inspect MODEL --target edgetpu` names what breaks the rules.".strip()
        )
    return ToolError(
        "The Edge TPU compiler reported success but mapped no operation: the file would run on the "
        "CPU alone.",
        hint,
        details={"operations": [row.to_json() for row in block.operations]},
    )


def _check_runtime(partitions: tuple[Partition, ...], options: CompileOptions) -> None:
    offered = options.runtime_version or int(facts()["runtime_version"])
    needed = max(p.min_runtime_version for p in partitions)
    limit = min(offered, options.min_runtime_version or offered)
    if needed > limit:
        raise ToolError(
            f"The compiled model needs Edge TPU runtime {needed}, and {limit} is what "
            + ("the device offers." if limit == offered else "was asked for."),
            f"Update libedgetpu on the device, or compile with --min-runtime-version {limit}.",
        )


def _check_edges(source: ModelFacts, compiled: ModelFacts) -> None:
    """Inputs and outputs must not change: a program fed for one file is fed for the other."""
    for side, before, after in (
        ("input", source.inputs, compiled.inputs),
        ("output", source.outputs, compiled.outputs),
    ):
        if [edge(t) for t in before] != [edge(t) for t in after]:
            raise ToolError(
                f"The compiled model's {side}s are not the source model's: "
                f"{_listed(after)} instead of {_listed(before)}.",
                "Do not use this file. Check that the compiler was given this model.",
            )


def _listed(tensors: tuple[Tensor, ...]) -> str:
    parts = []
    for tensor in tensors:
        q = tensor.quantization
        scale = f" scale {q.scales[:1]} zero point {q.zero_points[:1]}" if q else ""
        parts.append(f"{tensor.name} {tensor.dtype}{list(tensor.shape or ())}{scale}")
    return ", ".join(parts) or "none"


def _check_counts(
    source: ModelFacts, compiled: ModelFacts, placement: Placement, block: ModelBlock
) -> tuple[str, ...]:
    if len(source.subgraphs) > 1:
        return ()  # whether the text counts the bodies of IF and WHILE has not been seen
    said: dict[str, tuple[int | None, int | None]] = {
        "operations": (block.total_operations, placement.ops_total),
        "operations on the Edge TPU": (block.mapped, placement.ops_mapped),
        "operations on the CPU": (block.cpu, placement.ops_cpu),
        "Edge TPU subgraphs": (block.subgraphs, placement.subgraphs),
    }
    for what, (printed, found) in said.items():
        if printed is not None and printed != found:
            raise _contradiction(f"{printed} {what}", f"{found}")
    total = sum(row.count for row in block.operations)
    if block.operations and total != placement.ops_total:
        return (
            f"The compiler's operation table lists {total} operations and the model has "
            f"{placement.ops_total}: the counts here are those of the compiled file.",
        )
    if block.operations:
        _check_table(source, compiled, block.operations)
    return ()


def _check_table(source: ModelFacts, compiled: ModelFacts, rows: tuple[OpStatus, ...]) -> None:
    """Kind by kind. The compiler prints every custom operation as CUSTOM; others by their name."""
    custom = {op.op for op in source.operators() if op.custom}

    def kinds(names: list[tuple[str, int]]) -> Counter[str]:
        counted: Counter[str] = Counter()
        for name, count in names:
            counted["CUSTOM" if name in custom else name] += count
        return +counted

    left = [(op.op, 1) for op in compiled.operators() if op.op != CUSTOM_OP]
    for what, printed, found in (
        ("in all", [(r.op, r.count) for r in rows], [(op.op, 1) for op in source.operators()]),
        ("on the CPU", [(r.op, r.count) for r in rows if not r.mapped], left),
    ):
        a, b = kinds(printed), kinds(found)
        if a != b:
            name = min((a - b) + (b - a))
            raise _contradiction(f"{a[name]} {name} {what}", f"{b[name]}")


def _contradiction(printed: str, found: str) -> ToolError:
    return ToolError(
        f"The Edge TPU compiler printed {printed}, but its file says {found}.",
        "Do not use this file. Was another file in its place? The log has the compiler's text.",
    )


def _with_reason(op: OpPlacement, rows: tuple[OpStatus, ...]) -> OpPlacement:
    """The compiler's reason, where all refused operations of that kind share one."""
    if op.placement != "cpu":
        return op
    refused = [r for r in rows if not r.mapped and r.op in (op.op, "CUSTOM")]
    refused = [r for r in refused if r.op == op.op] or refused
    if not refused:
        return op
    statuses = " or ".join(dict.fromkeys(r.status for r in refused))
    remedy = refused[0].remedy if len(refused) == 1 else ""
    phrase = statuses if len(refused) == 1 else None  # else it is not known which one is its own
    return replace(op, reason=statuses, hint=remedy, phrase=phrase)
