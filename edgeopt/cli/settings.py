"""edgeopt.toml in the working folder: defaults for flags, and how pixels become input.

Precedence: flags, environment (EDGEOPT_*), edgeopt.toml, devices.toml, built-in defaults.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "default_map", "preprocess_table"]

FILE = Path("edgeopt.toml")

# key in edgeopt.toml: the type it must have
KEYS: dict[str, tuple[type, ...]] = {
    "target": (str,),
    "device": (str,),
    "calibration": (str,),
    "eval_data": (str,),
    "metric": (str,),
    "decode": (str,),
    "labels": (str,),
    "train_data": (str,),
    "scheme": (str,),
    "goal": (str,),
    "io": (str,),
    "max_accuracy_drop": (float, int),
    "runs": (int,),
    "warmup": (int,),
    "precision": (str, float),
    "processes": (int,),
    "max_time_s": (int, float),
    "timeout_s": (int, float),
    "wait_s": (int, float),
    "threshold": (str, float, int),
    "confidence": (str, float),
    "session_noise": (str, float, int),
    "threads": (int,),
    "conditions": (str,),
    "prepare": (bool,),
    "cores": (str,),
    "retries": (int,),
    "cool_down_s": (int, float),
    "output": (str,),
    "report": (str,),
    "compiler": (str,),
    "benchmark_binary": (str,),
    "device_python": (str,),
    "runtime": (str,),
    "native_library": (str,),
    "offline": (bool,),
    "preprocess": (str, dict),
}

_WORDS: dict[type, str] = {
    str: 'a text in "quotes"', int: "a whole number", float: "a number", bool: "true or false",
    dict: "a table",
}  # fmt: skip


@cache
def _content() -> dict[str, Any]:
    if not FILE.is_file():
        return {}
    try:
        content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise InputError(f"{FILE.resolve()} is not valid TOML: {error}.") from error
    for key, value in content.items():
        _check(key, value)
    return content


def _check(key: str, value: Any) -> None:
    where = f"{FILE.resolve()}:{_line(key)}"
    if key not in KEYS:
        near = get_close_matches(key, KEYS, 1)
        guess = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(sorted(KEYS))}."
        raise InputError(f"{where}: unknown key {key!r}.", guess)
    if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and bool not in KEYS[key]):
        wanted = " or ".join(_WORDS[t] for t in KEYS[key])
        given = _WORDS.get(type(value), type(value).__name__)
        raise InputError(f"{where}: {key} must be {wanted}, not {given}.")


def _line(key: str) -> int:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    starts = (key, f'"{key}"', f"[{key}")
    return next((n for n, line in enumerate(lines, 1) if line.strip().startswith(starts)), 1)


def default_map() -> dict[str, Any]:
    """What edgeopt.toml says of the flags, for click. Raises InputError for a wrong file."""
    return {k: v for k, v in _content().items() if not isinstance(v, dict)}


def preprocess_table() -> dict[str, Any] | None:
    """The [preprocess] table, None when there is none."""
    table = _content().get("preprocess")
    return table if isinstance(table, dict) else None
