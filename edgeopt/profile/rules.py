"""What a profile may say about one operation: types, versions, and checks by name.

A profile names its checks; `edgeopt.verify.checks` holds one small function for each name here, and
a test keeps the two lists equal. So a TOML file is refused for an unknown rule before any model is
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeopt.toml_file import Section

__all__ = ["RULES", "STAGES", "Check", "OperationRule", "read_operation"]

# What a broken check means. "support_check": the accelerator leaves that operation to the CPU;
# "graph_build": it is found too late, the model fails if the operation is in the partition;
# "not_known": the accelerator has not been seen to take it nor to refuse it; "advice": legal, but
# slow or doubtful otherwise.
STAGES = ("support_check", "graph_build", "not_known", "advice")

# Every rule by name with its parameters: "?" marks one that may be left out.
RULES: Mapping[str, Mapping[str, str]] = {
    "inputs": {"runtime": "ints?", "constant": "ints?", "total": "ints?", "outputs": "ints?"},
    "constant_inputs": {"inputs": "ints"},
    "runtime_inputs": {"inputs": "ints"},
    "distinct_inputs": {},
    "input_types": {"input": "int", "types": "texts"},
    "cast_pairs": {"pairs": "texts"},
    "fused_activation": {"allowed": "texts"},
    "option_equals": {"options": "texts", "value": "scalar"},
    "option_at_least": {"options": "texts", "limit": "int"},
    "not_both": {"options": "texts"},
    "same_dilation": {},
    "rank": {"inputs": "ints?", "outputs": "ints?", "least": "int", "most": "int"},
    "equal_rank": {},
    "constant_rank": {"ranks": "ints", "inputs": "ints?", "scalars": "bool?"},
    "constant_shape": {"input": "int", "shapes": "shapes"},
    "max_elements": {"limit": "int", "refused_from": "int?", "flat": "bool?"},
    "max_scale": {"limit": "number", "refused_from": "number?"},
    "min_scale": {"limit": "number"},
    "max_reduced": {"limit": "int", "refused_from": "int?"},
    "documented_runtime": {"runtime": "int"},
    "spatial_axes": {},
    "spatial_padding": {},
    "constant_input_zero": {},
    "axis_excludes_batch": {},
    "axes_exclude_batch": {},
    "axes_multiple_of": {"multiple": "int"},
    "padding_excludes_batch": {},
    "constant_strides": {"least": "int", "most": "int?"},
    "one_dimensional_alpha": {},
    "alpha_per_channel_or_full": {},
    "same_batch": {},
    "broadcast_ranks": {},
    "depthwise_channels": {},
    "dense_inner_dimension": {},
    "ungrouped_unless_constant": {},
    "unit_multiplier_unless_constant": {},
    "per_tensor": {"inputs": "ints?", "outputs": "ints?", "runtime_only": "bool?"},
    "bool_consumer": {"operations": "texts"},
    "consumers": {"operations": "texts"},
    "bool_source": {},
    "condition_shape": {},
    "branch_shapes": {},
    "single_hot_shape": {},
    "lstm_kernel": {"full_inputs": "ints"},
    "one_dimensional_output": {},
    "stride": {"limit": "int", "free_padding": "text?"},
    "kernel": {"side": "int", "same_side": "int?"},
    "resize_factor": {"factors": "ints", "half_pixel_factors": "ints?"},
    "last_axis": {"most": "int"},
    "same_type": {"types": "texts"},
    "same_shape": {},
    "same_quantization": {"inputs": "ints"},
    "quantized": {},
    "batch_one": {},
    "transposed_stride": {},
    "depth_reduction": {},
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule with its parameters; `source` says who states it, or where it was seen.

    `cause` identifies it in JSON: the rule's own name, where the profile gives none.
    `until_runtime` is the newest device runtime for which it holds (None: every one).
    """

    rule: str
    stage: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    hint: str = ""
    cause: str = ""
    until_runtime: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cause", self.cause or self.rule)

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {"rule": self.rule, "stage": self.stage, "source": self.source}
        content |= {"cause": self.cause, "until_runtime": self.until_runtime}
        return content | dict(self.parameters)


@dataclass(frozen=True, kw_only=True)
class OperationRule:
    """What the accelerator takes of one operation; an operation with no rule is left to the CPU.

    `types` and `output_types` are those of run-time tensors. `max_version` is the newest that the
    accelerator maps (None: any that parses), `min_runtime` the oldest device runtime that can.
    `backends` names the driver interfaces that have a kernel; empty where there is only one.
    `type_causes` gives a wrong type a cause of its own ("float_quantize" rather than "data_type").
    """

    name: str
    types: tuple[str, ...]
    output_types: tuple[str, ...]
    max_version: int | None = None
    min_runtime: int | None = None
    custom: bool = False
    backends: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    type_causes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "types": list(self.types),
            "output_types": list(self.output_types),
            "max_version": self.max_version,
            "min_runtime": self.min_runtime,
            "custom": self.custom,
            "backends": list(self.backends),
            "checks": [check.to_json() for check in self.checks],
            "type_causes": dict(self.type_causes),
            "source": self.source,
        }


def read_operation(section: Section, types: tuple[str, ...], source: str) -> OperationRule:
    """One `[[operation]]`. `types` and `source` are the profile's own, where it names none."""
    name = section.text("name")
    taken = section.texts("types", types)
    rule = OperationRule(
        name=name,
        types=taken,
        output_types=section.texts("output_types", taken),
        max_version=section.optional("max_version", least=1),
        min_runtime=section.optional("min_runtime", least=1),
        custom=section.flag("custom", False),
        backends=section.texts("backends", ()),
        source=section.text("source", source or None),
        type_causes=_texts_by_name(section.section("type_causes", required=False)),
        checks=tuple(_read_check(part, source) for part in section.sections("check")),
    )
    section.finish()
    return rule


def _texts_by_name(section: Section) -> dict[str, str]:
    return {name: section.text(name) for name in section.names()}


def _read_check(section: Section, source: str) -> Check:
    rule = section.choice("rule", RULES)
    parameters = {
        name: _parameter(section, name, kind.rstrip("?"))
        for name, kind in RULES[rule].items()
        if name in section or not kind.endswith("?")
    }
    check = Check(
        rule=rule,
        stage=section.choice("stage", STAGES),
        parameters=parameters,
        source=section.text("source", source or None),
        hint=section.text("hint", ""),
        cause=section.text("cause", ""),
        until_runtime=section.optional("until_runtime", least=1),
    )
    for name in RULES[rule]:
        section.value(name)
    section.finish()
    for low, high in (("least", "most"), ("limit", "refused_from")):
        if parameters.get(high) is not None and parameters.get(low, 0) > parameters[high]:
            raise section.error(low, f"{parameters[low]} is above {high} = {parameters[high]}.")
    return check


def _parameter(section: Section, name: str, kind: str) -> Any:
    if kind == "int":
        return section.integer(name)
    if kind == "number":
        found = section.number(name)
        return int(found) if found.is_integer() else found
    if kind == "bool":
        return section.flag(name)
    if kind == "text":
        return section.text(name)
    if kind == "texts":
        return section.texts(name)
    found = section.value(name)
    if found is None:
        raise section.error(None, f"the key {name!r} is missing for this rule.")
    if kind == "ints" and _whole(found):
        return tuple(found)
    if kind == "shapes" and isinstance(found, list) and all(map(_whole, found)):
        return tuple(tuple(shape) for shape in found)
    if kind == "scalar" and isinstance(found, (str, int, float, bool)):
        return found
    raise section.error(name, f"must be {_KINDS[kind]}, not {found!r}.")


_KINDS = {
    "ints": "a list of whole numbers",
    "shapes": "a list of shapes",
    "scalar": "a string, a number, true or false",
}


def _whole(found: Any) -> bool:
    return isinstance(found, list) and all(type(item) is int for item in found)
