"""The Pareto front, against a count by hand and by brute force; and the pictures of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeopt.errors import InputError, ToolError
from edgeopt.report import pareto_plot
from edgeopt.report.pareto import beaten_by, front
from edgeopt.report.pareto_plot import check_plot, draw


def row(name: str, drop: float | None, latency: float | None, size: int, **more: Any) -> Any:
    spread = more.pop("spread", 0.0)
    interval = None if latency is None else [latency * (1 - spread), latency * (1 + spread)]
    return {
        "name": name, "status": "measured", "metric": "top1", "drop": drop,
        "accuracy": None if drop is None else 0.9 - drop, "latency_ns": latency,
        "latency_ci95_ns": interval, "gzip_bytes": size, "front": False, **more,
    }  # fmt: skip


def test_one_that_is_worse_in_everything_is_beaten_and_by_whom_is_said() -> None:
    rows = [row("good", 0.0, 100, 10), row("bad", 0.1, 200, 20)]
    assert front(rows) == ["good"] and beaten_by(rows[1], rows) == "good"


def test_each_that_is_best_in_something_is_on_the_front() -> None:
    rows = [row("exact", 0.0, 300, 30), row("fast", 0.1, 100, 20), row("small", 0.2, 200, 10)]
    assert front(rows) == ["exact", "fast", "small"]


def test_latencies_within_noise_are_not_ranked() -> None:
    near = [row("a", 0.0, 100, 10, spread=0.05), row("b", 0.0, 104, 10, spread=0.05)]
    assert front(near) == ["a", "b"]
    apart = [row("a", 0.0, 100, 10, spread=0.01), row("b", 0.0, 104, 10, spread=0.01)]
    assert front(apart) == ["a"]


def test_a_latency_without_an_interval_is_not_ranked() -> None:
    rows = [row("few runs", 0.0, 100, 10), row("b", 0.0, 900, 10)]
    rows[0]["latency_ci95_ns"] = None
    assert front(rows) == ["few runs", "b"]


def test_equal_ones_do_not_beat_each_other() -> None:
    assert front([row("a", 0.0, 100, 10), row("b", 0.0, 100, 10)]) == ["a", "b"]


def test_an_invalid_or_missing_measurement_is_never_on_the_front_and_beats_nothing() -> None:
    rows = [
        row("hot", 0.0, 1, 1, status="invalid"),
        row("broken", None, None, 1, status="failed"),
        row("sound", 0.1, 100, 10),
    ]
    assert front(rows) == ["sound"]


def test_without_accuracy_time_and_size_decide() -> None:
    rows = [row("a", None, 100, 10), row("b", None, 200, 20), row("c", None, 300, 5)]
    assert front(rows) == ["a", "c"]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_brute_force_finds(seed: int) -> None:
    pick = random.Random(seed)
    rows = [
        row(str(n), pick.randrange(5) / 100, pick.randrange(1, 6), pick.randrange(1, 6))
        for n in range(12)
    ]
    points = [(r["drop"], r["latency_ns"], r["gzip_bytes"]) for r in rows]
    expected = [
        r["name"]
        for r, p in zip(rows, points, strict=True)
        if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)
    ]
    assert front(rows) == expected


def _content(rows: list[Any]) -> dict[str, Any]:
    best = front(rows)
    return {
        "model": {"path": "a & b.keras"},
        "device": {"name": "<board>"},
        "candidates": [{**r, "front": r["name"] in best} for r in rows],
    }


def _texts(file: Path) -> list[str]:
    space = "{http://www.w3.org/2000/svg}"
    return [e.text or "" for e in ElementTree.parse(file).iter(f"{space}text")]


def test_the_svg_names_every_valid_candidate_and_loads_nothing(tmp_path: Path) -> None:
    rows = [row("int8", 0.01, 1e5, 30), row("slow", 0.0, 4e6, 20), row("bad", 0.2, 9e6, 99)]
    rows.append(row("hot", 0.0, 1, 1, status="invalid"))
    draw(_content(rows), tmp_path / "front.svg")
    texts = _texts(tmp_path / "front.svg")
    assert {"int8", "slow", "bad"} <= set(texts) and "hot" not in texts
    assert "a & b.keras on <board>" in texts
    plain = (tmp_path / "front.svg").read_text().replace("http://www.w3.org/2000/svg", "")
    assert "http" not in plain and "<script" not in plain


def test_a_wide_range_of_latencies_is_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    for latencies, wide in (((1e5, 2e5), False), ((1e5, 4e6), True)):
        rows = [row(str(n), n / 10, t, 10) for n, t in enumerate(latencies)]
        draw(_content(rows), tmp_path / "front.svg")
        assert wide == any("logarithmic" in t for t in _texts(tmp_path / "front.svg"))


def test_nothing_valid_is_said_in_the_picture(tmp_path: Path) -> None:
    draw(_content([row("hot", 0.0, 1, 1, status="invalid")]), tmp_path / "front.svg")
    assert any("no candidate" in t for t in _texts(tmp_path / "front.svg"))


def test_a_png_is_drawn_by_matplotlib(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(_content([row("int8", 0.01, 1e5, 30), row("f", 0.0, 2e5, 60)]), tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_picture_that_could_not_be_drawn_is_refused_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="no known ending"):
        check_plot(Path("front.pdf"))
    monkeypatch.setattr(pareto_plot, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="matplotlib") as caught:
        check_plot(Path("front.png"))
    assert "edgeopt[plot]" in caught.value.hint
    check_plot(Path("front.svg"))
