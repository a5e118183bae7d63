"""From CompileOptions to edgetpu_compiler's flags; pure. Unknown names are refused, and so are
requests that the compiler is known to answer with a file that is no use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from edgeopt.compile.compiler_failures import facts
from edgeopt.compile.contract import CompileOptions
from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts

__all__ = ["check_request", "flags_of", "segments_of", "settled", "wants", "warnings_of"]

_EXTRA = (
    "attempt_timeout_s",  # -t: seconds for each attempt or segment
    "engine",  # docker or podman, for container:
    "intermediate_tensors",  # names, separated by commas, at which to cut (-i)
    "min_runtime_version",
    "multiple_subgraphs",  # -a, experimental
    "num_segments",  # -n
    "retry_search_delegate",  # on a timeout, and where activations are too large, try again with -d
    "search_delegate",
    "search_step",  # operations dropped per attempt (-k)
    "ssh_config",  # another ssh client configuration file (-F)
    "timeout_s",
)
_NUMBERS = ("attempt_timeout_s", "min_runtime_version", "num_segments", "search_step", "timeout_s")
_SWITCHES = ("multiple_subgraphs", "retry_search_delegate", "search_delegate")
_TRUE, _FALSE = ("1", "true", "yes", "on", ""), ("0", "false", "no", "off")


def settled(options: CompileOptions) -> CompileOptions:
    """The options with those that came as text in `extra` read. Raises InputError."""
    extra = {name: str(value) for name, value in options.extra.items()}
    for name in extra:
        if name not in _EXTRA:
            near = get_close_matches(name, _EXTRA, 1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise InputError(
                f"The edgetpu compiler has no option {name!r}.{guess}",
                f"Known: {', '.join(_EXTRA)}.",
            )
    numbers = {name: _whole(extra, name) for name in _NUMBERS if name in extra}
    switches = {name: _yes(extra, name) for name in _SWITCHES if name in extra}
    extra |= {name: str(value) for name, value in numbers.items()}
    extra |= {name: "true" if value else "false" for name, value in switches.items()}
    search = "search_step" in numbers or switches.get("search_delegate", options.search_delegate)
    return replace(
        options,
        min_runtime_version=numbers.get("min_runtime_version", options.min_runtime_version),
        timeout_s=float(numbers.get("timeout_s", options.timeout_s)),
        search_delegate=search,
        extra=extra,
    )


def _whole(extra: dict[str, str], name: str) -> int:
    text = extra[name].strip()
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {extra[name]!r}.")
    return int(text)


def _yes(extra: dict[str, str], name: str) -> bool:
    text = extra[name].strip().lower()
    if text in (*_TRUE, *_FALSE):
        return text in _TRUE
    raise InputError(f"{name} is true or false, not {extra[name]!r}.")


def wants(options: CompileOptions, switch: str) -> bool:
    """Whether the switch of settled options is on."""
    return options.extra.get(switch) == "true"


def segments_of(options: CompileOptions) -> int:
    """How many segments settled options ask for; 1 for a model in one piece."""
    return int(options.extra.get("num_segments", "1"))


def flags_of(options: CompileOptions, version: str) -> list[str]:
    """The flags but for -o and the models, of settled options.

    -t is a little shorter than our own deadline, so that the compiler can still say what it was
    doing. While it searches for a smaller delegate, or compiles segments, its timer starts anew
    with each attempt: there its default of 180 s stays (`attempt_timeout_s` sets another), and our
    deadline bounds the whole.
    """
    flags, segments = ["-s"], segments_of(options)
    if options.min_runtime_version is not None:
        flags += ["-m", str(options.min_runtime_version)]
    if segments > 1:
        flags += ["-n", str(segments)]
    if options.search_delegate:
        flags += ["-d"]
        if step := options.extra.get("search_step"):
            flags += ["-k", step]
    if int(version.split(".")[0]) >= facts()["timeout_flag_since"]:
        if limit := options.extra.get("attempt_timeout_s"):
            flags += ["-t", limit]
        elif not options.search_delegate and segments == 1:
            flags += ["-t", str(max(1, int(options.timeout_s * 0.95)))]
    if wants(options, "multiple_subgraphs"):
        flags += ["-a"]
    if names := options.extra.get("intermediate_tensors"):
        flags += ["-i", names]
    return flags


def check_request(options: CompileOptions, models: Sequence[ModelFacts]) -> None:
    """Raises InputError for settled options that cannot work for these models.

    -m below 12 makes the compiler "succeed" on int8 models with nothing mapped (edgetpu issue 358);
    a runtime newer than the newest does not exist; -i must name tensors that the model computes.
    """
    lowest, newest = options.min_runtime_version, int(facts()["runtime_version"])
    if lowest is not None and lowest > newest:
        raise InputError(
            f"There is no Edge TPU runtime {lowest}: the newest is {newest}.",
            f"Ask for at most {newest}, or leave --min-runtime-version out.",
        )
    least = int(facts()["int8_runtime_version"])
    for model in models:
        if lowest is not None and lowest < least and _computes_int8(model):
            raise InputError(
                f"{model.path.name} computes in int8, which Edge TPU runtime {lowest} cannot: the "
                "compiler would report success and map nothing.",
                f"Ask for --min-runtime-version {least} or newer, or quantize to uint8.",
            )
    if segments_of(options) > 1:
        _check_segments(options, models)
    if names := options.extra.get("intermediate_tensors"):
        if len(models) > 1:
            raise InputError(
                "--intermediate-tensors cuts one model, and several were given.",
                "Compile that model by itself.",
            )
        _check_cut(names, models[0])


def _computes_int8(model: ModelFacts) -> bool:
    return any(t.dtype == "int8" for op in model.operators() for t in op.outputs)


def _check_segments(options: CompileOptions, models: Sequence[ModelFacts]) -> None:
    count = segments_of(options)
    if len(models) > 1:
        raise InputError(
            "--num-segments splits one model, and several were given.",
            "Compile each by itself: segments share no chip.",
        )
    if options.extra.get("intermediate_tensors"):
        raise InputError(
            "--num-segments chooses the cuts itself: it does not go with --intermediate-tensors.",
            "Leave one of them out.",
        )
    operations = len(models[0].subgraphs[0].operators)
    if len(models[0].subgraphs) > 1:
        raise InputError(
            f"{models[0].path.name} has control flow (several subgraphs): it cannot be segmented.",
            "Leave --num-segments out.",
        )
    if count > operations:
        raise InputError(
            f"{models[0].path.name} has {operations} operations: that is less than {count} "
            "segments.",
            "Ask for fewer with --num-segments.",
        )


def _check_cut(names: str, model: ModelFacts) -> None:
    """Each name is a tensor that some operation of the model computes."""
    main = model.subgraphs[0]
    made = {t.name for op in main.operators for t in op.outputs}
    known = {t.name for t in main.tensors}
    for name in names.split(","):
        if name in made:
            continue
        if name in known:
            raise InputError(
                f"{model.path.name} does not compute {name!r}: it is an input or a constant.",
                "--intermediate-tensors takes outputs of operations (edgeopt inspect lists them).",
            )
        near = get_close_matches(name, sorted(made), 1) or sorted(
            other for other in made if name and name in other.split(";")
        )
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{model.path.name} has no tensor {name!r}.{guess}",
            "Names are separated by commas; one that contains ; must be quoted in the shell.",
        )


def warnings_of(options: CompileOptions) -> tuple[str, ...]:
    """What a user must know of settled options, whatever came out."""
    if not wants(options, "multiple_subgraphs"):
        return ()
    return (
        "Several Edge TPU subgraphs (-a) are experimental: each change between chip and CPU moves "
        "the activations, and models were seen ten times slower with it (edgetpu issues 317, 342). "
        "Measure both: edgeopt benchmark.",
    )
