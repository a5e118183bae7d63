"""Target: a hardware profile with the compiler, runtime and transport that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.paths import config_dir, data_dir
from edgeopt.profile import HardwareProfile
from edgeopt.profile.file import find, named_profiles
from edgeopt.profile.file import load as load_profile
from edgeopt.registry import MAKES, names
from edgeopt.registry import load as load_plugin
from edgeopt.toml_file import Section, read_toml

__all__ = ["Target", "list_targets", "load_target"]

_NO_COMPILER, _NO_RUNTIME = "passthrough", "none"
_TRANSPORT_TEXTS = ("user", "host", "key_file", "workdir", "python", "serial", "benchmark_binary")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Raises InputError when the accelerator, the compiler and the profile do not go together.

    `transport` holds defaults for reaching a device, named like DeviceSpec's fields, with `kind`.
    `attached` says how the accelerator is attached ("usb3", "pcie"), where estimates depend on it.
    """

    name: str
    description: str
    profile: HardwareProfile
    compiler: str
    runtime: str
    accelerator: str
    transport: Mapping[str, Any] = field(default_factory=dict)
    compiler_options: Mapping[str, Any] = field(default_factory=dict)
    attached: str | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise InputError(f"The target {self.name!r} contradicts itself: {problem}")

    def _problems(self) -> list[str]:
        profile, found = self.profile, []
        known = {"compiler": names("compilers"), "runtime": names("runtimes")}
        for key, group in known.items():
            if getattr(self, key) not in group:
                found.append(f"{key} {getattr(self, key)!r} is not one of {', '.join(group)}.")
        if self.accelerator not in ("cpu", profile.partition.place):
            found.append(
                f"accelerator {self.accelerator!r}, but the profile {profile.name} "
                f"places operations on {profile.partition.place}."
            )
        makes, wanted = MAKES.get(self.compiler), profile.partition.compiled_operation
        if makes is not None and not wanted:
            found.append(
                f"compiler {self.compiler!r}, but {profile.name} is not a compiled profile."
            )
        elif makes is not None and makes != wanted:
            found.append(
                f"compiler {self.compiler!r} makes {makes}, and {profile.name} wants {wanted}."
            )
        if wanted and self.accelerator != "cpu" and self.compiler == _NO_COMPILER:
            what = profile.partition.label
            found.append(f"compiler {self.compiler!r} cannot make a file that an {what} runs.")
        return found

    @property
    def runs(self) -> bool:
        """Whether edgeopt has a runtime that reaches such a device."""
        return self.runtime != _NO_RUNTIME

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "profile": self.profile.name,
            "compiler": self.compiler,
            "runtime": self.runtime,
            "accelerator": self.accelerator,
            "transport": dict(self.transport),
            "compiler_options": dict(self.compiler_options),
            "attached": self.attached,
            "path": str(self.path) if self.path else None,
        }


def load_target(name_or_path: str) -> Target:
    """A target by name, or from a FILE.toml. Raises InputError with file, line and key.

    The user's own folder comes before the shipped targets, a plug-in's after them.
    """
    files = _files()
    if name_or_path not in files and name_or_path in names("targets"):
        return _plugged(name_or_path)
    known = files | dict.fromkeys(names("targets"), Path())
    return _read(find(name_or_path, known, "target"))


def list_targets() -> list[Target]:
    """Every target that can be asked for by name, in name order. A broken one raises InputError."""
    return [load_target(name) for name in sorted({*_files(), *names("targets")})]


def _files() -> dict[str, Path]:
    folders = (data_dir("targets"), config_dir() / "targets")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}


def _plugged(name: str) -> Target:
    """A plug-in gives a Target, a function that makes one, or the path of a TOML file."""
    found = load_plugin("targets", name)
    if callable(found):
        found = found()
    if isinstance(found, (str, Path)):
        return _read(Path(found))
    if not isinstance(found, Target):
        raise InputError(
            f"The plug-in for the target {name!r} gave {type(found).__name__}, not a Target.",
            "Repair or uninstall that plug-in.",
        )
    return found


def _read(path: Path) -> Target:
    root = read_toml(path)
    if root.integer("schema") != 1:
        raise root.error("schema", "this edgeopt reads schema 1.", "Update edgeopt, or the file.")
    profile = _profile(root)
    content: dict[str, Any] = {
        "name": root.text("name", path.stem),
        "description": root.text("description"),
        "profile": profile,
        "compiler": root.choice("compiler", names("compilers"), "passthrough"),
        "runtime": root.choice("runtime", names("runtimes"), "litert"),
        "accelerator": root.text("accelerator", profile.partition.place),
        "transport": _transport(root),
        "compiler_options": _options(root),
        "attached": root.text("attached", "") or None,
        "path": path,
    }
    root.finish()
    try:
        return Target(**content)
    except InputError as error:
        problem = error.message.split(": ", 1)[1]
        raise root.error(problem.split()[0], problem, error.hint) from error


def _profile(root: Section) -> HardwareProfile:
    """A name, or a path relative to the target's own file."""
    name = root.text("profile")
    beside = root.path.parent / name
    if name.endswith(".toml") and beside.is_file():
        return load_profile(str(beside))
    if not name.endswith(".toml") and name not in named_profiles():
        raise root.unknown("profile", name, named_profiles())
    if name.endswith(".toml"):
        raise root.error("profile", f"there is no file {beside}.", "The path is relative to it.")
    return load_profile(name)


def _transport(root: Section) -> dict[str, Any]:
    section = root.section("transport", required=False)
    found: dict[str, Any] = {}
    if "kind" in section:
        found["kind"] = section.choice("kind", names("transports"))
    if (port := section.optional("port", least=1)) is not None:
        if port > 65535:
            raise section.error("port", f"{port} is not a port (1 to 65535).")
        found["port"] = port
    for key in _TRANSPORT_TEXTS:
        if key in section:
            found[key] = section.text(key)
    for key in _TRANSPORT_TEXTS:
        section.value(key)
    section.value("kind")
    section.finish()
    return found


def _options(root: Section) -> dict[str, Any]:
    """A compiler's own settings: plain values, which the compiler itself judges."""
    section = root.section("compiler_options", required=False)
    for key in section.names():
        if isinstance(section.value(key), dict):
            raise section.error(key, "must be a plain value or a list.")
    return {key: section.value(key) for key in section.names()}
