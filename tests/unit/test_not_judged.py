"""Latencies that were disturbed and only reported say so wherever they stand beside others."""

from __future__ import annotations

import io
from typing import Any

from measuring import process
from rich.console import Console

from edgeopt.measurement import measure
from edgeopt.model import read
from edgeopt.paths import demo_dir
from edgeopt.pipeline import candidates, table
from edgeopt.plan import parse_spec
from edgeopt.report import Report
from edgeopt.report.candidates import candidates_table
from edgeopt.report.table import tables
from edgeopt.target import load_target


def report(*reasons: str) -> Report:
    runs = [process(seed=n, invalid_reasons=reasons) for n in range(2)]
    return Report(
        model=read(demo_dir() / "fashion.tflite"),
        target=load_target("cpu"),
        measurement=measure(processes=runs, asked=2, judged=False),
    )


def shown(*parts: Any) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=118, highlight=False)
    for part in parts:
        console.print(part)
    return file.getvalue().splitlines()


def test_a_candidate_measured_on_a_busy_board_has_no_tick() -> None:
    tried = [candidates.Tried(spec=parse_spec(name), report=report(*why)) for name, why in (
        ("float16", ()), ("int8", ("it shared its cores: with a build",)),
    )]  # fmt: skip
    quiet, busy = (candidates.row(one, "measured") for one in tried)
    assert quiet["latency_disturbance"] is None and "Not judged" in busy["latency_disturbance"]
    lines = {line.split()[0]: line for line in shown(candidates_table([quiet, busy]))}
    assert "✓" in lines["float16"] and "✓" not in lines["int8"]
    assert "not judged" in lines["int8"]


def test_a_cell_of_a_table_measured_on_a_busy_board_says_so() -> None:
    cell = table._cell(report("it shared its cores: with a build"), None)
    row = {
        "name": "Demo", "trained": True, "metric": None, "schemes": ["int8"], "published": None,
        "quality": {}, "data": {}, "cells": {"int8": cell},
    }  # fmt: skip
    document = {"edgeopt": "1", "device": "pi", "target": "cpu", "rows": [row], "title": "t"}
    text = " ".join(" ".join(shown(*tables(document))).split())
    assert "(not judged)" in text
    assert "disturbed it meanwhile: Demo int8." in text
