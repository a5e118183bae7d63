"""What `edgeopt fix` says in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from edgeopt.report.repairs import explanation_lines, repair_summary


def shown(renderable: Any) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def row(index: int, would_map: int | None) -> dict[str, Any]:
    return {
        "index": index,
        "op": "LEAKY_RELU",
        "layer": "act",
        "why": "The Edge TPU has none.",
        "repair": "Replace it.",
        "kind": "source",
        "would_map": would_map,
    }


def placement(mapped: int, uncertain: int) -> dict[str, Any]:
    return {
        "ops_mapped": mapped,
        "ops_total": 9,
        "ops_uncertain": uncertain,
        "ops_mapped_range": [mapped - uncertain, mapped] if uncertain else None,
    }


def content(**given: Any) -> dict[str, Any]:
    side = {"constraints": {"violations": []}, "placement": placement(9, 0)}
    return {
        "model": {"path": "m.tflite"},
        "target": {"name": "edgetpu"},
        "changed": False,
        "complete": True,
        "dry_run": False,
        "before": side,
        "after": side,
        "repairs": [],
        "parts": [],
        "remaining": [],
        "artifacts": [],
        "manifest": None,
        "split_proof": None,
        "notes": [],
        **given,
    }


def test_a_group_tells_what_its_best_operation_wins() -> None:
    assert "up to +5 mapped" in shown(explanation_lines([row(3, 0), row(8, 5)]))
    assert "up to" not in shown(explanation_lines([row(3, 5), row(8, 5)]))
    assert "wins nothing by itself" in shown(explanation_lines([row(3, 0), row(8, None)]))


def test_a_prediction_that_is_not_certain_says_so_before_and_after() -> None:
    after = {"constraints": {"violations": []}, "placement": placement(8, 3)}
    text = shown(repair_summary(content(changed=True, after=after)))
    assert "9 of 9 operations mapped  →  8 of 9 operations mapped, 3 uncertain (5 to 8" in text


def test_an_unchanged_file_is_not_called_fixed() -> None:
    copy = {"stage": "fixed", "path": "m_fixed.tflite"}
    assert "a copy of the model" in shown(repair_summary(content(artifacts=[copy])))
    assert "a copy" not in shown(repair_summary(content(artifacts=[copy], changed=True)))


def test_a_model_with_operations_on_the_cpu_is_not_as_it_should_be() -> None:
    assert "as it should be" in shown(repair_summary(content()))
    left = shown(repair_summary(content(remaining=[row(3, 0)])))
    assert "as it should be" not in left and "left alone" in left
