"""The flags that verbs share, and how they become a Job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgeopt.dataset import Preprocess
    from edgeopt.job import Job

__all__ = [
    "as_json", "calibration", "compiler", "conversion", "device", "evaluation", "job", "keep",
    "measuring", "model", "output", "preprocess", "preprocessing", "report", "target",
    "timeout",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

model = click.argument("model", type=click.Path(path_type=Path))
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def _option(*names: str, env: str | None = None, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, envvar=f"EDGEOPT_{env}" if env else None, **settings)


def _stack(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def target(required: bool = False) -> Callable[[F], F]:
    return _option(
        "--target",
        env="TARGET",
        required=required,
        metavar="NAME|FILE.toml",
        help="What to deploy to; see `edgeopt targets list`."
        + ("" if required else " Default: the device's own in devices.toml, else cpu."),
    )


device = _option(
    "--device",
    env="DEVICE",
    metavar="DEVICE",
    help="NAME of devices.toml, ssh://user@host[:port], adb://SERIAL or local (default).",
)
calibration = _stack(
    _option(
        "--calibration",
        env="CALIBRATION",
        metavar="DATA",
        help="Representative data: image folder, .npz[:x], .npy or module:function.",
    ),
    _option(
        "--calibration-samples",
        type=click.IntRange(1),
        metavar="N",
        help="Use the first N samples only.",
    ),
)
preprocess = _option(
    "--preprocess",
    env="PREPROCESS",
    metavar="STEPS",
    help="How data becomes input: resize=224,mean=127,scale=1/127.5 and others.",
)
conversion = _stack(
    _option(
        "--scheme",
        env="SCHEME",
        metavar="SCHEME",
        help="float32, float16, dynamic_int8, int8 or int16x8; left out: the plan decides.",
    ),
    _option(
        "--technique",
        "techniques",
        multiple=True,
        type=click.Choice(["prune", "cluster", "qat"]),
        help="Train for size or accuracy first (repeatable).",
    ),
    _option("--train-data", metavar="DATA", help="Labelled data for those techniques."),
    _option(
        "--io",
        env="IO",
        type=click.Choice(["int8", "uint8", "float32"]),
        help="Type of the model's inputs and outputs.",
    ),
    _option(
        "--batch",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="Static batch.",
    ),
)
evaluation = _stack(
    _option(
        "--eval-data",
        env="EVAL_DATA",
        metavar="DATA",
        help="Labelled data to measure accuracy with.",
    ),
    _option(
        "--max-accuracy-drop",
        env="MAX_ACCURACY_DROP",
        type=float,
        metavar="X",
        help="Fail (exit 3) when accuracy falls by more than this fraction.",
    ),
)
compiler = _stack(
    _option(
        "--compiler",
        env="COMPILER",
        metavar="WHERE",
        help="Edge TPU compiler: PATH, container:IMAGE or ssh://user@host (default: PATH search).",
    ),
    _option(
        "--search-delegate",
        is_flag=True,
        help="Let the Edge TPU compiler retry with fewer operations.",
    ),
    _option(
        "--min-runtime-version",
        type=click.IntRange(10, 14),
        metavar="N",
        help="Lowest Edge TPU runtime to stay compatible with.",
    ),
)
timeout = _option(
    "--timeout",
    "timeout_s",
    env="TIMEOUT",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Deadline of the compiler, and of the run on the device.",
)
measuring = _stack(
    _option(
        "--runs",
        env="RUNS",
        metavar="N",
        type=click.IntRange(1),
        default=50,
        show_default=True,
        help="Timed runs.",
    ),
    _option(
        "--warmup",
        env="WARMUP",
        metavar="N",
        type=click.IntRange(0),
        default=5,
        show_default=True,
        help="Untimed runs first.",
    ),
    _option(
        "--threads",
        env="THREADS",
        metavar="N",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="CPU threads.",
    ),
    timeout,
    _option(
        "--tolerance",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Accepted difference from the host, in units of the output.",
    ),
    _option(
        "--benchmark-binary",
        env="BENCHMARK_BINARY",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="benchmark_model (a file, or a folder with its libraries) for devices without Python.",
    ),
    _option(
        "--device-python",
        env="DEVICE_PYTHON",
        metavar="PATH",
        help="The device's Python that has the runtime, such as ~/venv/bin/python.",
    ),
    _option("--offline", env="OFFLINE", is_flag=True, help="Download nothing."),
)
keep = _option(
    "--keep/--no-keep",
    default=True,
    help="Leave the model in the device's cache, or nothing at all.",
)
output = _option(
    "-o",
    "--output",
    env="OUTPUT",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder, or .tflite file, for what is made.",
)
report = _option(
    "--report",
    env="REPORT",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report: .json, .html, .svg or .txt.",
)


def preprocessing(text: str | None) -> Preprocess:
    """The steps of --preprocess, else of [preprocess] in edgeopt.toml, else none."""
    from edgeopt.cli.settings import preprocess_table
    from edgeopt.dataset import Preprocess

    if text is not None:
        return Preprocess.parse(text)
    return Preprocess.from_mapping(preprocess_table() or {})


def job(**flags: Any) -> Job:
    """A Job from click's values; what a verb does not have keeps its default.

    Raises InputError for values that no verb accepts.
    """
    from edgeopt.errors import InputError
    from edgeopt.job import Job
    from edgeopt.optimize.recipes import scheme_named

    techniques, train_data = flags.pop("techniques", ()), flags.pop("train_data", None)
    if techniques or train_data:
        asked = f"--technique {techniques[0]}" if techniques else "--train-data"
        raise InputError(
            f"{asked} is not available in this version.",
            "Leave it out: post-training quantization needs no training.",
        )
    compiler_flags: dict[str, str] = {}
    if flags.pop("search_delegate", False):
        compiler_flags["search_delegate"] = "true"
    if (version := flags.pop("min_runtime_version", None)) is not None:
        compiler_flags["min_runtime_version"] = str(version)
    steps = preprocessing(flags.pop("preprocess", None))
    if flags.get("scheme"):
        flags["scheme"] = scheme_named(flags["scheme"])
    return Job(preprocess=steps, compiler_flags=compiler_flags, **flags)
