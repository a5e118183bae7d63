"""From CompileOptions to edgetpu_compiler's flags; pure. Unknown names are refused."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from edgeopt.compile.compiler_failures import facts
from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import InputError

__all__ = ["flags_of", "settled"]

_EXTRA = (
    "engine",  # docker or podman, for container:
    "intermediate_tensors",  # names, separated by commas, at which to cut (-i)
    "min_runtime_version",
    "search_delegate",
    "search_step",  # operations dropped per attempt (-k)
    "ssh_config",  # another ssh client configuration file (-F)
    "timeout_s",
)
_TRUE, _FALSE = ("1", "true", "yes", "on", ""), ("0", "false", "no", "off")


def settled(options: CompileOptions) -> CompileOptions:
    """The options with those that came as text in `extra` read. Raises InputError."""
    extra = dict(options.extra)
    for name in extra:
        if name not in _EXTRA:
            near = get_close_matches(name, _EXTRA, 1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise InputError(
                f"The edgetpu compiler has no option {name!r}.{guess}",
                f"Known: {', '.join(_EXTRA)}.",
            )
    changes: dict[str, object] = {}
    if "min_runtime_version" in extra:
        changes["min_runtime_version"] = _whole(extra, "min_runtime_version")
    if "timeout_s" in extra:
        changes["timeout_s"] = float(_whole(extra, "timeout_s"))
    if "search_delegate" in extra:
        changes["search_delegate"] = _yes(extra["search_delegate"])
    if "search_step" in extra:
        _whole(extra, "search_step")
        changes["search_delegate"] = True
    return replace(options, **changes)  # type: ignore[arg-type]


def _whole(extra: dict[str, str], name: str) -> int:
    text = extra[name].strip()
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {extra[name]!r}.")
    return int(text)


def _yes(text: str) -> bool:
    if text.strip().lower() in (*_TRUE, *_FALSE):
        return text.strip().lower() in _TRUE
    raise InputError(f"search_delegate is true or false, not {text!r}.")


def flags_of(options: CompileOptions, version: str) -> list[str]:
    """The flags but for -o and the model.

    -t is a little shorter than our own deadline, so that the compiler can still say what it was
    doing. While it searches for a smaller delegate its timer starts anew with each attempt: there
    its default stays, and our deadline bounds the whole.
    """
    flags = ["-s"]
    if options.min_runtime_version is not None:
        flags += ["-m", str(options.min_runtime_version)]
    if options.search_delegate:
        flags += ["-d"]
        if step := options.extra.get("search_step"):
            flags += ["-k", step.strip()]
    elif int(version.split(".")[0]) >= facts()["timeout_flag_since"]:
        flags += ["-t", str(max(1, int(options.timeout_s * 0.95)))]
    if names := options.extra.get("intermediate_tensors"):
        flags += ["-i", names]
    return flags
