"""Metrics by name: what accuracy means, with well-kept libraries where there are some."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec

from edgeopt.errors import InputError, ToolError
from edgeopt.verify.metrics import boxes, classes, text, values
from edgeopt.verify.metrics.metric import Metric, Score

__all__ = ["METRICS", "PAIR_METRICS", "Metric", "Score", "metric_named", "usual_metric"]

PAIR_METRICS = ("agreement", "sqnr_db")  # of two models, without labels

_TEXT = ("ctc", "ids")
_RANKED = ("scores", "score", "reconstruction")
_SPEECH = ("jiwer", "jiwer")

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(name="top1", target="classes", decoders=("scores",),
               observe=classes.observe_classes, score=classes.top1),
        Metric(name="top5", target="classes", decoders=("scores",),
               observe=classes.observe_classes, score=classes.top5),
        Metric(name="auc", target="classes", decoders=_RANKED, observe=classes.observe_auc,
               score=classes.auc, library=("sklearn", "scikit-learn")),
        Metric(name="wer", target="texts", decoders=_TEXT, observe=text.observe_text,
               score=text.wer, higher_is_better=False, library=_SPEECH),
        Metric(name="cer", target="texts", decoders=_TEXT, observe=text.observe_text,
               score=text.cer, higher_is_better=False, library=_SPEECH),
        Metric(name="map50", target="boxes", decoders=("detections",),
               observe=boxes.observe_boxes, score=boxes.map50,
               library=("pycocotools", "pycocotools")),
        Metric(name="f1", target="answers", decoders=("span", *_TEXT),
               observe=text.observe_answer, score=text.f1),
        Metric(name="exact_match", target="answers", decoders=("span", *_TEXT),
               observe=text.observe_answer, score=text.exact_match),
        Metric(name="mae", target="values", decoders=("values",),
               observe=values.observe_values, score=values.mae, higher_is_better=False),
        Metric(name="mse", target="values", decoders=("values",),
               observe=values.observe_values, score=values.mse, higher_is_better=False),
        Metric(name="rmse", target="values", decoders=("values",),
               observe=values.observe_values, score=values.rmse, higher_is_better=False),
    )
}  # fmt: skip

_USUAL = {"classes": "top1", "texts": "wer", "boxes": "map50", "answers": "f1", "values": "mae"}


def usual_metric(target: str) -> str:
    """What is measured with targets of a kind when the user named no metric."""
    return _USUAL[target]


def metric_named(name: str) -> Metric:
    """Raises InputError for an unknown name, ToolError when its library is not installed."""
    if name not in METRICS:
        known = [*METRICS, *PAIR_METRICS]
        near = get_close_matches(name, known, 1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"There is no metric named {name!r}.{guess}", f"Known: {', '.join(known)}."
        )
    metric = METRICS[name]
    if metric.library and find_spec(metric.library[0]) is None:
        raise ToolError(
            f"The metric {name} needs {metric.library[1]}, which is not installed.",
            'pip install "edgeopt[metrics]"',
        )
    return metric
