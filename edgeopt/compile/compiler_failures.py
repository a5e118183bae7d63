"""From the compiler's words to a cause, a remedy and who must act. Facts: compiler_facts.toml."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeopt.compile.contract import OpStatus

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Diagnosis", "diagnose", "facts", "op_status"]

_SIGNALS = {134: "SIGABRT", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A failure in plain words. `fault` is "model" (raise ModelError) or "tool" (ToolError)."""

    name: str
    fault: str
    message: str
    hint: str
    source: str = ""


@lru_cache(maxsize=1)
def facts() -> Mapping[str, Any]:
    """compiler_facts.toml, read once."""
    return tomllib.loads(Path(__file__).with_name("compiler_facts.toml").read_text("utf-8"))


def diagnose(text: str, exit_code: int | None) -> Diagnosis | None:
    """The known failure that `text` (stdout and stderr) shows, None where no known text fits.

    What another model alone can mend is the model's fault: operations and versions outside the
    compiler's TensorFlow 2.5, float or dynamic tensors, activations that do not fit. What depends
    on the compiler, its time limit or its machine is the tool's: crashes, time, silence.
    """
    if exit_code in (139, -11):  # whatever it printed before, it crashed
        return _entry("segmentation fault", {})
    for entry in facts()["failure"]:
        if found := re.search(entry["pattern"], text):
            return _diagnosis(entry, found.groupdict())
    if signal := _SIGNALS.get(-exit_code + 128 if exit_code and exit_code < 0 else exit_code or 0):
        return Diagnosis(
            name="signal",
            fault="tool",
            message=f"The Edge TPU compiler was ended by {signal}.",
            hint="SIGKILL usually means that its machine ran out of memory: see the system log.",
        )
    return None


def _entry(name: str, groups: Mapping[str, str]) -> Diagnosis:
    return _diagnosis(next(e for e in facts()["failure"] if e["name"] == name), groups)


def _diagnosis(entry: Mapping[str, Any], groups: Mapping[str, str]) -> Diagnosis:
    values = {**_explain(groups), **groups}
    return Diagnosis(
        name=entry["name"],
        fault=entry["fault"],
        message=entry["message"].format_map(values),
        hint=entry["hint"].format_map(values),
        source=entry["source"],
    )


def _explain(groups: Mapping[str, str]) -> dict[str, str]:
    """What the facts add to an operation's name, version or code."""
    if "code" in groups:
        return {"op": facts()["builtin_codes"].get(groups["code"], "a newer one")}
    if "version" not in groups:
        return {}
    op, version = groups["op"], groups["version"]
    newest = facts()["newest_mapped"].get(op)
    remedy = facts()["version_remedy"].get(f"{op} {version}")
    return {
        "newest": f", and the newest {op} seen on an Edge TPU is version {newest}"
        if newest
        else "",
        "remedy": remedy
        or "Convert so that an older version is used: a simpler layer, or an older TensorFlow.",
    }


def op_status(op: str, count: int, status: str) -> OpStatus:
    """A table row with the cause and remedy of its phrase; both empty for an unknown phrase."""
    for known in facts()["status"]:
        if status == known["text"]:
            return OpStatus(
                op=op,
                count=count,
                status=status,
                mapped=known.get("mapped", False),
                cause=known["cause"],
                remedy=known["remedy"],
            )
    return OpStatus(op=op, count=count, status=status, mapped=False)
