"""The flags that verbs share, and how they become a Job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeopt.cli.compiler_options import compiler, compiler_place, compiler_request
from edgeopt.cli.extra_options import extra_request, loading, profiling
from edgeopt.cli.fleet_options import DeviceWords, several
from edgeopt.cli.measuring_options import (
    device_python,
    effort_request,
    measuring,
    running,
    timeout,
    wait,
)
from edgeopt.cli.options_base import option, stack
from edgeopt.cli.quality_options import quality, quality_request, training, training_request

if TYPE_CHECKING:
    from edgeopt.dataset import Preprocess
    from edgeopt.job import Job

__all__ = [
    "as_json", "calibration", "compiler", "compiler_place", "conversion", "device",
    "device_python", "evaluation", "job", "judging", "keep", "measuring", "model", "output",
    "preprocess", "preprocessing", "quality", "report", "several", "target", "timeout", "training",
    "loading", "profiling", "running", "wait", "whole",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

model = click.argument("model", type=click.Path(path_type=Path))
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def target(required: bool = False) -> Callable[[F], F]:
    return option(
        "--target",
        env="TARGET",
        required=required,
        metavar="NAME|FILE.toml",
        help="What to deploy to; see `edgeopt targets list`."
        + ("" if required else " Default: the device's own in devices.toml, else cpu."),
    )


device = option(
    "--device",
    env="DEVICE",
    cls=DeviceWords,
    metavar="DEVICE",
    help="NAME of devices.toml, ssh://user@host[:port], adb://SERIAL or local (default). Where "
    "several can be used: NAME,NAME or all.",
)
calibration = stack(
    option(
        "--calibration",
        env="CALIBRATION",
        metavar="DATA",
        help="Representative data: image folder, .npz[:x], .npy or module:function.",
    ),
    option(
        "--calibration-samples",
        type=click.IntRange(1),
        metavar="N",
        help="Use the first N samples only.",
    ),
)
preprocess = option(
    "--preprocess",
    env="PREPROCESS",
    metavar="STEPS",
    help="How data becomes input: resize=224,mean=127,scale=1/127.5 and others.",
)
conversion = stack(
    option(
        "--scheme",
        env="SCHEME",
        metavar="SCHEME",
        help="float32, float16, dynamic_int8, int8 or int16x8; left out: the plan decides.",
    ),
    option(
        "--io",
        env="IO",
        type=click.Choice(["int8", "uint8", "float32"]),
        help="Type of the model's inputs and outputs.",
    ),
    option(
        "--goal",
        env="GOAL",
        type=click.Choice(["size", "latency", "accuracy"]),
        help="What matters most to the plan; left out: what is cheapest to make.",
    ),
    option(
        "--batch",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="Static batch.",
    ),
)
judging = stack(
    option(
        "--labels",
        env="LABELS",
        metavar="FILE",
        help="Labels beside the data: .json (COCO, SQuAD, or a list), .csv or .txt.",
    ),
    option(
        "--metric",
        env="METRIC",
        metavar="NAME[@OUTPUT]",
        help="What accuracy means: top1, top5, auc, wer, cer, map50, f1, exact_match, mae, mse, "
        "rmse, agreement or sqnr_db; left out: what the labels are for.",
    ),
    option(
        "--decode",
        env="DECODE",
        metavar="NAME[,KEY=VALUE...]",
        help="How outputs become answers: scores, score, reconstruction, values, ctc, ids, "
        "detections, span or module:function; left out: what the metric needs.",
    ),
    option("--on-device", is_flag=True, help="Measure accuracy on the device itself."),
)
evaluation = stack(
    option(
        "--eval-data",
        env="EVAL_DATA",
        metavar="DATA",
        help="Labelled data to measure accuracy with.",
    ),
    judging,
    option(
        "--max-accuracy-drop",
        env="MAX_ACCURACY_DROP",
        type=float,
        metavar="X",
        help="Fail (exit 3) when accuracy falls by more than this fraction.",
    ),
)
keep = option(
    "--keep/--no-keep",
    default=True,
    help="Leave the model in the device's cache, or nothing at all.",
)
output = option(
    "-o",
    "--output",
    env="OUTPUT",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder, or .tflite file, for what is made.",
)
whole = stack(  # the verbs that go the whole way, from the model to the device
    model,
    target(),
    device,
    calibration,
    preprocess,
    evaluation,
    conversion,
    quality,
    training,
    compiler,
    measuring,
    keep,
)
report = option(
    "--report",
    env="REPORT",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report: .json, .html, .svg, .md or .txt.",
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
    from edgeopt.job import Job

    compiler_flags = compiler_request(flags)
    steps = preprocessing(flags.pop("preprocess", None))
    if flags.get("metric") or flags.get("decode"):
        _check_metric(flags.get("metric"), flags.get("decode"))
    if flags.get("scheme"):
        from edgeopt.optimize.recipes import scheme_named

        flags["scheme"] = scheme_named(flags["scheme"])
    if flags.get("cores"):
        from edgeopt.device.preparing.cores import core_list

        core_list(flags["cores"])
    training, quality = training_request(flags), quality_request(flags)
    effort = effort_request(flags)
    return Job(
        preprocess=steps,
        compiler_flags=compiler_flags,
        training=training,
        quality=quality,
        effort=effort,
        **extra_request(flags),
        **flags,
    )


def _check_metric(metric: str | None, decode: str | None) -> None:
    """Refuse unknown names and missing libraries before any work."""
    from edgeopt.verify.decode import Decode
    from edgeopt.verify.metrics import PAIR_METRICS, metric_named

    Decode.parse(decode)
    name = (metric or "").partition("@")[0]
    if name and name not in PAIR_METRICS:
        metric_named(name)
