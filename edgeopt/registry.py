"""The built-ins by name, and the plug-ins that entry points add to them.

Groups are the keys of BUILTINS with `edgeopt.` before ("edgeopt.compilers", "edgeopt.targets").
Nothing is imported until it is asked for; a plug-in that breaks is an error naming its
distribution.
"""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgeopt.errors import InputError

__all__ = ["BUILTINS", "MAKES", "load", "names"]

BUILTINS: dict[str, dict[str, str]] = {
    "compilers": {
        "passthrough": "edgeopt.compile.passthrough:compile_model",
        "edgetpu": "edgeopt.compile.edgetpu:compile_model",
        "command": "edgeopt.compile.command:compile_model",
        "vela": "edgeopt.compile.vela:compile_model",
    },
    # Those that take several models, which share one chip.
    "joint_compilers": {
        "edgetpu": "edgeopt.compile.edgetpu:compile_together",
    },
    # What besides model and options decides a compiler's output: a text for the cache's key.
    "compiler_identities": {
        "edgetpu": "edgeopt.compile.identity:edgetpu",
        "command": "edgeopt.compile.identity:command",
        "vela": "edgeopt.compile.vela:identity",
    },
    # By compiler: what `edgeopt doctor` says of it, and how to read its own estimates.
    "compiler_checks": {
        "edgetpu": "edgeopt.compile.installed_check:edgetpu",
        "vela": "edgeopt.compile.installed_check:vela",
    },
    "compiler_estimates": {"vela": "edgeopt.estimate.vela:of_compiled"},
    # By the custom operator that stands for machine code: how to read it (edgeopt.model.compiled).
    "compiled_formats": {
        "edgetpu-custom-op": "edgeopt.model.edgetpu_format:FORMAT",
        "ethos-u": "edgeopt.model.ethosu_payload:FORMAT",
    },
    "transports": {
        "local": "edgeopt.device.local:connect",
        "ssh": "edgeopt.device.ssh.transport:connect",
        "adb": "edgeopt.device.adb.transport:connect",
    },
    "runtimes": {
        "litert": "edgeopt.device.python_runner.runner:run",
        "edgetpu": "edgeopt.device.python_runner.runner:run",
        "native": "edgeopt.device.native.runner:run",
        "benchmark_model": "edgeopt.device.benchmark.runner:run",
        "none": "edgeopt.device.no_runtime:run",
    },
    # By compiler: what its output will need and take, before it runs (edgeopt.estimate.contract).
    "estimators": {"edgetpu": "edgeopt.estimate.edgetpu:estimate"},
    "targets": {},
}

# The custom operator that a compiler leaves in its files, where it is always the same one.
MAKES = {"edgetpu": "edgetpu-custom-op", "vela": "ethos-u"}


def _plugins(group: str) -> dict[str, EntryPoint]:
    return {p.name: p for p in _all_entry_points(tuple(sys.path)).select(group=f"edgeopt.{group}")}


@lru_cache(maxsize=4)
def _all_entry_points(path: tuple[str, ...]) -> Any:
    """Of everything that is installed on `path`: a scan reads a file a package."""
    return entry_points()


def names(group: str) -> list[str]:
    """The built-in and plugged-in names of a group, sorted."""
    return sorted({*BUILTINS[group], *_plugins(group)})


def load(group: str, name: str) -> Any:
    """The object registered as `name`. Raises InputError for an unknown or a broken one."""
    if path := BUILTINS[group].get(name):
        module, _, attribute = path.partition(":")
        return getattr(importlib.import_module(module), attribute)
    point = _plugins(group).get(name)
    if point is None:
        near = get_close_matches(name, names(group), 1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"There is no {group.removesuffix('s')} named {name!r}.{guess}",
            f"Known: {', '.join(names(group)) or 'none'}.",
        )
    try:
        return point.load()
    except Exception as error:  # any failure of foreign code is named as its own
        owner = point.dist.name if point.dist else "an unknown distribution"
        raise InputError(
            f"The plug-in {name!r} of {owner} ({point.value}) does not load: {error!r}.",
            f"Repair or uninstall {owner}.",
        ) from error
