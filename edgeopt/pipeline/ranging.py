"""Warn when data does not have the range of values that the model was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgeopt.dataset import Dataset, load_dataset
from edgeopt.dataset.range_check import advice, suspicion, unscaled_note, variants
from edgeopt.errors import EdgeoptError
from edgeopt.pipeline.session import Session
from edgeopt.store import Store

__all__ = ["check_ranges"]

_SAMPLES = 16
_VERSION = 2  # of the rule: what was decided by another is decided again


def check_ranges(session: Session, model: Path | None) -> None:
    """Note what is wrong with the range of calibration and evaluation data, held against the float
    .tflite `model`; where all is well, the general remark on unscaled pixels is left out."""
    from edgeopt.model import read
    from edgeopt.verify.input_range import applies

    job = session.job
    specs = dict.fromkeys(filter(None, (job.calibration, job.eval_data, job.train_data)))
    if model is None or not specs or not applies(facts := read(model)):
        return
    for spec in specs:
        with suppress(EdgeoptError):  # data or a model that is broken is told by who needs it
            data = load_dataset(spec, preprocess=job.preprocess)
            if data.source.kind != "function":  # it may be slow, endless, or give other samples
                data = data.in_order_of(t.name for t in session.facts.inputs).match(facts.inputs)
                _check_one(session, model, facts.sha256, data)


def _check_one(session: Session, model: Path, sha256: str, data: Dataset) -> None:
    drawn = hashlib.sha256()
    for sample in data.spread(_SAMPLES):
        drawn.update(sample[0].tobytes())
    steps = data.preprocess.to_json()
    key = Store.key(
        stage="range",
        model=sha256,
        data=data.spec,
        samples=drawn.hexdigest(),
        steps=steps,
        version=_VERSION,
    )  # of these samples only: a hash over every image would read the whole set

    def make(path: Path) -> Mapping[str, Any]:
        found = {"said": _said(model, data)}
        path.write_text(json.dumps(found), encoding="utf-8")
        return found

    said = session.store.build(key, "range.json", make).meta["said"]
    if said is None:
        return
    session.settle(unscaled_note(fit.input) for fit in data.fits)
    if said:
        session.note(said)


def _said(model: Path, data: Dataset) -> str | None:
    """The warning, "" when the range is right, None when that cannot be told."""
    import numpy as np

    from edgeopt.verify.input_range import measure_answers

    samples = [sample[0] for sample in data.spread(_SAMPLES)]
    if len(samples) < 2 or len({sample.shape for sample in samples}) > 1:
        return None
    found = measure_answers(model, samples)
    if found.spread is None:
        return None
    kind = suspicion(found.spread, found.told[0])
    if not kind:
        return ""
    low = min(float(np.min(sample)) for sample in samples)
    high = max(float(np.max(sample)) for sample in samples)
    others = variants(kind, low, high, data.preprocess)
    found = measure_answers(model, samples, [(v.factor, v.offset) for v in others])
    assert found.spread is not None
    tried = dict(zip(others, found.told[1:], strict=True))
    said = advice(data.spec, kind, (low, high), found.spread, found.told[0], tried)
    return said or None
