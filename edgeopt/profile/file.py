"""Reads HardwareProfile from TOML: where the files are, and what each section means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.paths import config_dir, data_dir
from edgeopt.profile.profile import (
    GRANULARITIES,
    PICKS,
    SCHEMES,
    HardwareProfile,
    Partition,
    Runtime,
    Scheme,
    Tail,
)
from edgeopt.profile.rules import OperationRule, read_operation
from edgeopt.toml_file import Section, did_you_mean, read_toml

__all__ = ["find", "load", "named_profiles"]

_KIND = "hardware_profiles"


def named_profiles() -> dict[str, Path]:
    """Name to file; the user's own come before the shipped ones of the same name."""
    folders = (data_dir(_KIND), config_dir() / _KIND)
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}


def load(name_or_path: str) -> HardwareProfile:
    """Raises InputError naming file, line and key of whatever is wrong."""
    return _load(find(name_or_path, named_profiles(), "profile"))


def find(name_or_path: str, named: dict[str, Path], what: str) -> Path:
    """The file of a name, or the path itself. Raises InputError where there is none."""
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(f"There is no {what} file {path}.", "Check the path.")
        return path
    if name_or_path in named:
        return named[name_or_path]
    raise InputError(
        f"There is no {what} named {name_or_path!r}.{did_you_mean(name_or_path, named)}",
        f"Known: {', '.join(sorted(named)) or 'none'}; or give a FILE.toml.",
    )


def _load(path: Path) -> HardwareProfile:
    root = read_toml(path)
    if root.integer("schema") != 1:
        raise root.error("schema", "this edgeopt reads schema 1.", "Update edgeopt, or the file.")
    with _at_its_line(root):
        profile = _profile(root)
    root.finish()
    return profile


@contextmanager
def _at_its_line(root: Section) -> Iterator[None]:
    """A contradiction found in the values is reported at the key that it names."""
    try:
        yield
    except InputError as error:
        if not error.message.startswith("The profile "):
            raise
        problem = error.message.split(": ", 1)[1]
        section, key = _blamed(root, problem)
        raise section.error(key, problem, error.hint or "Correct one of the two.") from error


def _blamed(root: Section, problem: str) -> tuple[Section, str | None]:
    words = problem.replace(",", " ").split()
    if words[0] in ("scheme", "operation"):
        for part in root.sections(words[0]):
            if part.text("name") == words[1]:
                return part, "suits" if words[0] == "scheme" else "name"
    first = words[0].partition(".")
    if first[2] and first[0] in root:
        return root.section(first[0]), first[2]
    return root, words[0] if words[0] in root else None


def _profile(root: Section) -> HardwareProfile:
    sources: dict[str, str] = {}
    weights, activations = root.section("weights"), root.section("activations")
    bias, io, shapes = root.section("bias"), root.section("io"), root.section("shapes")
    floats, file = root.section("float"), root.section("file", required=False)
    for name in ("weights", "activations", "bias", "io", "shapes", "float"):
        sources[name] = root.section(name).text("source")
    sources["file"] = file.text("source", "")
    profile = HardwareProfile(
        name=root.text("name"),
        description=root.text("description"),
        weight_types=weights.texts("types"),
        granularity=weights.texts("granularity", GRANULARITIES),
        sparse_tensors=weights.flag("sparse", True),
        activation_types=activations.texts("types"),
        index_types=activations.texts("index_types", ()),
        requires_quantization=activations.flag("quantized", False),
        bias_types=bias.texts("types"),
        io_types=io.texts("types"),
        default_io=io.text("default"),
        float_fallback=floats.flag("fallback"),
        float_only=floats.texts("only", ()),
        static_shapes=shapes.flag("static"),
        max_batch=shapes.optional("max_batch", least=1),
        max_rank=shapes.optional("max_rank", least=1),
        free_inner_dims=shapes.optional("free_inner_dims", least=1),
        inline_buffers=file.flag("inline_buffers", False),
        control_flow=file.flag("control_flow", True),
        old_reader=file.flag("old_reader", False),
        channel_axis=_channel_axis(weights),
        runtime=_runtime(root),
        schemes={scheme.name: scheme for scheme in map(_scheme, root.sections("scheme"))},
        preferred=root.texts("preferred"),
        operations=_operations(root),
        partition=_partition(root),
        tail=_tail(root),
        remedies=_named_texts(root, "remedies"),
        phrases=_named_texts(root, "phrases"),
        computed_shapes=_computed_shapes(root, sources),
        sources=sources,
        path=root.path,
    )
    for section in (weights, activations, bias, io, shapes, floats, file):
        section.value("source")
        section.finish()
    return profile


def _channel_axis(weights: Section) -> dict[str, int]:
    section = weights.section("channel_axis", required=False)
    found = {name: section.integer(name, least=0) for name in section.names()}
    section.finish()
    return found


def _runtime(root: Section) -> Runtime:
    """`runtime` names a file of the folder `runtimes` beside the profile, or a shipped one."""
    name = root.text("runtime")
    folders = (root.path.parent / "runtimes", data_dir(_KIND) / "runtimes")
    found = {file.stem: file for folder in reversed(folders) for file in folder.glob("*.toml")}
    if name not in found:
        raise root.unknown("runtime", name, found)
    file = read_toml(found[name])
    table, lowest = file.section("operations"), file.section("lowest", required=False)
    least = {key: lowest.integer(key, least=1) for key in lowest.names()}
    runtime = Runtime(
        name=file.text("name"),
        version=file.text("version"),
        source=file.text("source"),
        custom=file.texts("custom", ()),
        operations={
            key: (least.get(key, 1), table.integer(key, least=least.get(key, 1)))
            for key in table.names()
        },
    )
    file.finish()
    return runtime


def _scheme(section: Section) -> Scheme:
    name = section.choice("name", SCHEMES)
    default = "per_channel" if SCHEMES[name][2] else "per_tensor"
    scheme = Scheme(
        name=name,
        suits=section.flag("suits"),
        slow=section.flag("slow", False),
        note=section.text("note", ""),
        source=section.text("source"),
        expected_size_ratio=section.number("expected_size_ratio"),
        granularity=section.choice("granularity", GRANULARITIES, default),
    )
    if not 0 < scheme.expected_size_ratio <= 1:
        raise section.error("expected_size_ratio", "must lie above 0 and at most at 1.")
    section.finish()
    return scheme


def _operations(root: Section) -> dict[str, OperationRule]:
    defaults = root.section("operations", required=False)
    types = defaults.texts("types", ())
    source = defaults.text("source", "")
    found: dict[str, OperationRule] = {}
    for section in root.sections("operation"):
        rule = read_operation(section, types, source)
        if rule.name in found:
            raise section.error("name", f"{rule.name} has a rule already.")
        if not rule.types:
            raise section.error("types", f"{rule.name} takes no type.")
        found[rule.name] = rule
    defaults.finish()
    return found


def _partition(root: Section) -> Partition:
    section = root.section("partition", required=False)
    types = section.section("type_runtime", required=False)
    partition = Partition(
        place=section.text("place", "cpu"),
        label=section.text("label", ""),
        short=section.text("short", ""),
        pick=section.choice("pick", PICKS, "none"),
        compiled_operation=section.text("compiled_operation", ""),
        runtime_version=section.optional("runtime_version", least=1),
        type_runtime={name: types.integer(name, least=1) for name in types.names()},
        source=section.text("source", "" if "partition" not in root else None),
    )
    section.finish()
    return partition


def _tail(root: Section) -> Tail:
    section = root.section("tail", required=False)
    tail = Tail(
        roots=section.texts("roots", ()),
        operations=section.texts("operations", ()),
        head=section.texts("head", ()),
        source=section.text("source", "" if "tail" not in root else None),
    )
    section.finish()
    return tail


def _computed_shapes(root: Section, sources: dict[str, str]) -> dict[str, tuple[int, ...]]:
    section = root.section("computed_shapes", required=False)
    table = section.section("inputs", required=False)
    if "computed_shapes" in root:
        sources["computed_shapes"] = section.text("source")
    found = {}
    for name in table.names():
        numbers = table.value(name)
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise table.error(name, "must be a list of input numbers.")
        found[name] = tuple(numbers)
    section.finish()
    return found


def _named_texts(root: Section, name: str) -> dict[str, str]:
    section = root.section(name, required=False)
    return {key: section.text(key) for key in section.names()}
