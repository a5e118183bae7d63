"""`edgeopt table`: every model of a spec under every scheme, deployed and measured like any other.

A cell is one model under one scheme. Each is one deploy; its result is a small file in the output
folder, named by everything it depends on, so that a table that was interrupted goes on where it
stopped.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeopt import __version__
from edgeopt.artifact import hash_path
from edgeopt.dataset import load_dataset
from edgeopt.effort import Effort
from edgeopt.errors import DeviceError, EdgeoptError, InputError, ModelError, ResultError, ToolError
from edgeopt.job import Job
from edgeopt.paths import config_dir
from edgeopt.pipeline.converting import versions
from edgeopt.pipeline.flow import deploy
from edgeopt.pipeline.table_spec import SLOW, Row, TableSpec
from edgeopt.progress import Progress
from edgeopt.report import Report
from edgeopt.store import Store, publish_text
from edgeopt.target import load_target
from edgeopt.training import TrainingRequest
from edgeopt.zoo import build, write_samples

__all__ = ["table"]

_PARITY_SAMPLES = 2
_MEGABYTE = 1_000_000  # the published sizes fit 4 bytes a parameter in this unit, not in MiB


def table(
    spec: TableSpec, output: Path, store: Store, progress: Progress, *, fresh: bool = False
) -> dict[str, Any]:
    """The table's document. A cell that fails is said and does not stop the others.

    Raises InputError at once for an unknown target or device, and once all cells are done the kind
    of error that the first failed one had; the document is its `reached`.
    """
    _check_place(spec)
    rows = [_RowWork(row, spec, output, store, progress, fresh) for row in spec.rows]
    document: dict[str, Any] = {}
    for number, work in enumerate(rows):
        progress.stage(f"{work.row.name}: model {number + 1} of {len(rows)}")
        for _ in work.cells():
            document = _document(spec, rows)
            _write(output / "table.json", {"schema": "edgeopt.table/1", **document})
    if error := _failure(document):
        raise error
    return document


def _check_place(spec: TableSpec) -> None:
    """Refuse a target or device that there is not, before an hour of conversions."""
    from edgeopt.device.inventory import resolve

    if spec.target is not None:
        load_target(spec.target)
    if spec.device is not None:
        resolve(spec.device, folders=(Path.cwd(), config_dir()))


def _document(spec: TableSpec, rows: list[_RowWork]) -> dict[str, Any]:
    told = [work.to_json() for work in rows]
    cells = [cell for row in told for cell in row["cells"].values()]
    return {
        "edgeopt": __version__,
        "title": spec.title,
        "spec": str(spec.path),
        "target": spec.target or "cpu",
        "device": spec.device or "local",
        "megabyte_bytes": _MEGABYTE,
        "rows": told,
        "cells": {
            "all": sum(len(work.row.schemes) for work in rows),
            "done": sum(cell["error"] is None for cell in cells),
            "failed": sum(cell["error"] is not None for cell in cells),
            "resumed": sum(cell["resumed"] for cell in cells),
        },
    }


def _failure(document: Mapping[str, Any]) -> EdgeoptError | None:
    failed = [
        (f"{row['name']} {scheme}", cell["error"])
        for row in document["rows"]
        for scheme, cell in row["cells"].items()
        if cell["error"]
    ]
    if not failed:
        return None
    kinds: dict[str, type[EdgeoptError]] = {
        kind.kind: kind for kind in (InputError, ModelError, ToolError, DeviceError, ResultError)
    }
    kind = kinds.get(failed[0][1]["kind"], ModelError)
    return kind(
        f"{len(failed)} of {document['cells']['all']} cells failed; the others are in the table.",
        "Run the same command again: what was measured is kept, and these are tried again.",
        details={"lines": [f"{name}: {error['message']}" for name, error in failed]},
        reached=dict(document),
    )


@dataclass(frozen=True)
class _Named:
    """Progress that says which row it is about."""

    progress: Progress
    name: str

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        self.progress.stage(f"{self.name}: {text}", total, unit)

    def advance(self, done: int, total: int | None = None) -> None:
        self.progress.advance(done, total)

    def note(self, text: str) -> None:
        """Kept in the cell; a table of forty deploys would drown in them."""


class _RowWork:
    """One model on its way: its source, its data, and the cells so far."""

    def __init__(
        self,
        row: Row,
        spec: TableSpec,
        output: Path,
        store: Store,
        progress: Progress,
        fresh: bool,
    ) -> None:
        self.row, self.spec, self.store, self.fresh = row, spec, store, fresh
        self.terminal = progress
        self.progress: Progress = _Named(progress, row.name)
        self.folder = output / re.sub(r"[^a-z0-9]+", "-", row.name.casefold()).strip("-")
        self.found: dict[str, dict[str, Any]] = {}
        self.source: dict[str, Any] = {}
        self._calibration = row.calibration
        self._path: Path | None = None
        self._broken: EdgeoptError | None = None

    def cells(self) -> Iterator[None]:
        """Make the cells one after the other; yields after each."""
        for scheme in self.row.schemes:
            began = time.monotonic()
            try:
                path = self._built()
                key = self._key(scheme, path)
                cell = None if self.fresh else self._kept(scheme, key)
                cell = cell or self._measured(scheme, path)
            except EdgeoptError as error:
                cell, key = _cell(None, error), ""
            cell.setdefault("seconds", round(time.monotonic() - began, 2))
            self.found[scheme] = cell
            if key and cell["error"] is None and not cell["resumed"]:
                _write(self._file(scheme), {"key": key, "cell": cell})
            yield

    def _file(self, scheme: str) -> Path:
        return self.folder / f"{scheme}.json"

    def _built(self) -> Path:
        """The model file, made once; what keeps it from being made keeps every cell."""
        if self._broken is not None:
            raise self._broken
        try:
            self._path = self._path or self._source()
        except EdgeoptError as error:
            self._broken = error
            raise
        return self._path

    def _source(self) -> Path:
        """The model file: the user's, or built (and kept in the cache)."""
        row = self.row
        if row.builder is None:
            assert row.model is not None
            self.source = {"builder": None, "path": str(row.model), "sha256": hash_path(row.model)}
            return row.model
        builder = row.builder
        weights = hash_path(row.weights) if row.weights else None
        parts = {
            "builder": builder.name,
            "options": dict(row.options),
            "weights": weights,
            "seed": None if weights else row.seed,
            "versions": versions("tensorflow", "keras"),
        }

        def make(path: Path) -> dict[str, Any]:
            built = build(
                builder,
                row.options,
                path,
                weights=row.weights,
                seed=row.seed,
                progress=self.progress,
            )
            return {"parameters": built.parameters}

        name = f"{builder.name}{'.keras' if builder.plain else ''}"
        entry = self.store.build(Store.key(stage="zoo", **parts), name, make)
        self.source = {
            "path": str(entry.path),
            "sha256": hash_path(entry.path),
            "defined_by": builder.source,
            **parts,
            **entry.meta,
        }
        self._calibration = self._calibration or self._random_samples()
        return entry.path

    def _random_samples(self) -> str:
        """Seeded random input in place of data, for weights that are random as well."""
        row = self.row
        assert row.builder is not None
        inputs = row.builder.inputs(row.options)
        key = Store.key(stage="samples", inputs=repr(inputs), count=row.samples, seed=row.seed)

        def make(path: Path) -> dict[str, Any]:
            write_samples(inputs, path, count=row.samples, seed=row.seed)
            return {}

        return str(self.store.build(key, "random.npz", make).path)

    def _key(self, scheme: str, path: Path) -> str:
        """All that a cell's result depends on, the machine that measured it included."""
        row = self.row
        job = self._job(scheme, path)
        labels = hash_path(Path(row.labels)) if row.labels else None
        data = (self._calibration, row.eval_data, row.train_data if scheme == "qat" else None)
        return Store.key(
            scheme=scheme,
            source=self.source["sha256"],
            data=[spec and load_dataset(spec).digest() for spec in data],
            preprocess=row.preprocess.to_json(),
            quality=row.quality.to_json(),
            training=job.training.to_json(),
            judged=[row.metric, row.decode, labels, row.on_device] if row.eval_data else None,
            run=[job.effort.to_json(), job.threads],
            where=[job.target, job.device, platform.node(), platform.machine()],
            versions=versions("ai-edge-litert", "litert-quantizer", "tensorflow", "keras"),
        )

    def _kept(self, scheme: str, key: str) -> dict[str, Any] | None:
        """A cell that an earlier run measured under the very same conditions."""
        try:
            stored = json.loads(self._file(scheme).read_text(encoding="utf-8"))
            if stored["key"] != key:
                return None
            self.progress.stage(f"{scheme} was measured before")
            return {**stored["cell"], "resumed": True}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _job(self, scheme: str, path: Path) -> Job:
        row, slow = self.row, scheme == SLOW
        qat = scheme == "qat"
        return Job(
            model=path,
            target=self.spec.target,
            device=self.spec.device,
            scheme="int8" if qat else scheme,
            calibration=self._calibration,
            train_data=row.train_data,
            eval_data=row.eval_data,
            metric=row.metric if row.eval_data else None,
            decode=row.decode if row.eval_data else None,
            labels=row.labels if row.eval_data else None,
            on_device=row.on_device and row.eval_data is not None,
            preprocess=row.preprocess,
            quality=row.quality,
            training=row.training if qat else TrainingRequest(),
            effort=_effort(row, slow),
            parity_samples=1 if slow else _PARITY_SAMPLES,
            threads=row.threads,
            timeout_s=row.timeout_s,
            output=self.folder / scheme,
        )

    def _measured(self, scheme: str, path: Path) -> dict[str, Any]:
        progress = _Named(self.terminal, f"{self.row.name} {scheme}")
        try:
            return _cell(deploy(self._job(scheme, path), self.store, progress), None)
        except EdgeoptError as error:
            reached = error.reached if isinstance(error.reached, Report) else None
            return _cell(reached, error)

    def to_json(self) -> dict[str, Any]:
        row = self.row
        return {
            "name": row.name,
            "trained": row.trained,
            "source": {k: v for k, v in self.source.items() if k != "versions"},
            "metric": row.metric,
            "schemes": list(row.schemes),
            "quality": row.quality.to_json(),
            "data": {
                "calibration": row.calibration or f"{row.samples} random samples",
                "eval": row.eval_data,
                "train": row.train_data if "qat" in row.schemes else None,
            },
            "cells": self.found,
            "published": dict(row.published) or None,
        }


def _effort(row: Row, slow: bool) -> Effort:
    if not slow:
        return Effort(runs=row.runs, warmup=row.warmup, processes=row.processes)
    warmup = min(row.warmup, row.slow_runs - 1)
    return Effort(runs=row.slow_runs, warmup=warmup, processes=1)


def _cell(report: Report | None, error: EdgeoptError | None) -> dict[str, Any]:
    """What a deploy gave, or had given when it failed; None is "not measured"."""
    made = next((a for a in report.artifacts if a.stage == "optimized"), None) if report else None
    measured = report.measurement if report else None
    stats = measured.stats.to_json() if measured else {}
    return {
        "path": str(made.path) if made else None,
        "sha256": made.sha256 if made else None,
        "size_bytes": made.size_bytes if made else None,
        "gzip_bytes": made.gzip_bytes if made else None,
        "engine": (report.conversion or {}).get("engine") if report else None,
        "accuracy": dict(report.accuracy) if report and report.accuracy else None,
        "latency": {
            "median_ns": stats["median_ns"],
            "ci95_ns": stats["ci95_ns"],
            "runs": measured.runs,
            "valid": measured.valid,
            "disturbance": measured.disturbance or None,
            "invalid_reasons": list(measured.invalid_reasons),
        }
        if measured
        else None,
        "parity": dict(report.parity) if report and report.parity else None,
        "notes": list(report.notes) if report else [],
        "error": error.to_json() if error else None,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "resumed": False,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, as a stop may come at any time."""
    text = json.dumps(content, sort_keys=True, indent=2, allow_nan=False, default=str)
    publish_text(text + "\n", path)
