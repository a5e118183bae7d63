"""A target and its hardware profile for a person: every rule in words, with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeopt.profile import HardwareProfile
from edgeopt.profile.rules import Check, OperationRule
from edgeopt.target import Target

__all__ = ["target_listing"]

_STAGES = {
    "support_check": "else on the CPU",
    "graph_build": "else the model fails",
    "not_known": "else not known",
    "advice": "advice, not certain",
}


def target_listing(target: Target, requirement: Callable[[Check], str]) -> RenderableType:
    """`requirement` says in words what a check asks for."""
    profile = target.profile
    parts: list[RenderableType] = [_head(target), "", _constraints(profile), "", _schemes(profile)]
    if profile.operations:
        parts += ["", _operations(profile, requirement)]
    parts += ["", _parsed(profile)]
    if profile.remedies:
        parts += ["", _remedies(profile)]
    return Group(*parts)


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(names):
        table.add_column(name, overflow="fold", style="dim" if name == "source" else None)
        if place == 0:
            table.columns[0].style = "cyan"
    return table


def _words(values: Iterable[object], joint: str = ", ") -> str:
    return escape(joint.join(str(value) for value in values)) or "none"


def _head(target: Target) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    profile, transport = target.profile, dict(target.transport)
    grid.add_row("target", f"[bold]{escape(target.name)}[/]  {escape(target.description)}")
    grid.add_row("profile", f"{escape(profile.name)}  {escape(profile.description)}")
    compiler = "none needed" if target.compiler == "passthrough" else escape(target.compiler)
    grid.add_row("compiler", compiler)
    if target.compiler_options:
        grid.add_row("", _words(f"{k} = {v}" for k, v in target.compiler_options.items()))
    how = f"{escape(target.runtime)}, on the {escape(target.accelerator)}"
    grid.add_row("runs through", how if target.runs else "nothing: edgeopt only compiles for it")
    grid.add_row("reached by", _words([transport.pop("kind", "local, or as --device says")]))
    if transport:
        grid.add_row("", _words(f"{key} = {value}" for key, value in transport.items()))
    for path in filter(None, (target.path, profile.path)):
        grid.add_row("file", f"[dim]{escape(str(path))}[/]")
    return grid


def _constraints(profile: HardwareProfile) -> Table:
    table = _table("constraint", "allowed", "source")
    for name, allowed in _allowed(profile):
        table.add_row(name, allowed, escape(profile.sources.get(name, "")))
    part = profile.partition
    if profile.accelerated:
        which = "every supported part" if part.pick == "all" else f"the {part.pick} supported part"
        text = f"{which} of the graph goes to the {part.place}"
        if part.compiled_operation:
            text += f", compiled into {part.compiled_operation}"
        if part.runtime_version is not None:
            text += f"; device runtime {part.runtime_version}"
        table.add_row("partition", escape(text), escape(part.source))
    if profile.computed_shapes:
        text = f"the sizes that these ask for are constants: {_words(profile.computed_shapes)}"
        source = profile.sources.get("computed_shapes", "")
        table.add_row("computed shapes", escape(text), escape(source))
    if profile.tail.roots:
        text = f"may stay in float from {_words(profile.tail.roots)} on: "
        table.add_row("tail", text + _words(profile.tail.operations), escape(profile.tail.source))
    return table


def _allowed(profile: HardwareProfile) -> list[tuple[str, str]]:
    sparse = "" if profile.sparse_tensors else "; not sparse"
    scales = _words(profile.granularity, " or ").replace("_", " ")
    index = f"; {_words(profile.index_types)} for indices" if profile.index_types else ""
    quantized = "; all quantized" if profile.requires_quantization else ""
    only = f"; no 8-bit kernel: {_words(profile.float_only)}" if profile.float_only else ""
    shapes = ["static" if profile.static_shapes else "static or dynamic"]
    for limit, text in (
        (profile.max_batch, "batch at most {}"),
        (profile.max_rank, "rank at most {}"),
        (profile.free_inner_dims, "only the {} inner dimensions above 1"),
    ):
        shapes += [text.format(limit)] if limit is not None else []
    file = "weights inside the FlatBuffer" if profile.inline_buffers else "any buffer layout"
    flow = "" if profile.control_flow else "; no loops, no conditions, one subgraph"
    return [
        ("weights", f"{_words(profile.weight_types)}; scales {scales}{sparse}"),
        ("activations", f"{_words(profile.activation_types)}{quantized}{index}"),
        ("bias", _words(profile.bias_types)),
        ("io", f"{_words(profile.io_types)}; {escape(profile.default_io)} unless asked otherwise"),
        ("float", ("may fall back to float" if profile.float_fallback else "no float") + only),
        ("shapes", ", ".join(shapes)),
        ("file", file + flow),
    ]


def _schemes(profile: HardwareProfile) -> Table:
    table = _table("scheme", "suits", "size", "note", "source")
    ordered = [*profile.preferred, *(n for n in profile.schemes if n not in profile.preferred)]
    for name in ordered:
        scheme = profile.schemes[name]
        suits = ("slow" if scheme.slow else "yes") if scheme.suits else "no"
        size = f"{100 * scheme.expected_size_ratio:.0f}%"
        table.add_row(name, suits, size, escape(scheme.note), escape(scheme.source))
    return table


def _operations(profile: HardwareProfile, requirement: Callable[[Check], str]) -> Table:
    table = _table(f"on the {profile.partition.place}", "rule", "source")
    for rule in profile.operations.values():
        table.add_row(escape(rule.name), _taken(rule), escape(rule.source))
        source = rule.source
        for check in rule.checks:
            text = f"{requirement(check)}{_numbers(check)} ({_STAGES[check.stage]})"
            again = check.source == source  # said on the row above
            table.add_row("", escape(text), "" if again else escape(check.source))
            source = check.source
    return table


def _numbers(check: Check) -> str:
    """What the sentence of a rule leaves out: how many inputs, and where a limit is a bracket."""
    if check.rule == "inputs":
        counts = (f"{name} {_words(n, ' or ')}" for name, n in check.parameters.items())
        return f": {', '.join(counts)}"
    refused = check.parameters.get("refused_from")
    return "" if refused is None else f" are known to work, from {refused} on refused"


def _taken(rule: OperationRule) -> str:
    parts = [_words(rule.types)]
    if rule.output_types != rule.types:
        parts.append(f"gives {_words(rule.output_types)}")
    if rule.max_version is not None:
        parts.append(f"version {rule.max_version} at most")
    if rule.min_runtime is not None:
        parts.append(f"device runtime {rule.min_runtime} or newer")
    if rule.backends:
        parts.append(f"with {_words(rule.backends)}")
    return "; ".join(parts)


def _parsed(profile: HardwareProfile) -> Table:
    """Every builtin of the runtime that reads the file, with the versions it knows."""
    runtime = profile.runtime
    table = _table("read by", "operations and versions", "source")
    spans = (
        f"{name} {low}" if low == high else f"{name} {low} to {high}"
        for name, (low, high) in sorted(runtime.operations.items())
    )
    name = escape(f"{runtime.name} {runtime.version}")
    table.add_row(name, _words([*spans, *runtime.custom]), escape(runtime.source))
    return table


def _remedies(profile: HardwareProfile) -> Table:
    table = _table("instead of", "what to do")
    for name, text in profile.remedies.items():
        table.add_row(escape(name), escape(text))
    return table
