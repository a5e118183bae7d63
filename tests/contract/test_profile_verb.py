"""`edgeopt profile`, and benchmark with --profile and a load: the fields that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_deploy_local import MODEL, document, edgeopt

FIELDS = {
    "method", "kernels", "runs", "threads", "whole", "overhead", "sum", "operators", "unmatched",
    "partitions", "by_type", "by_layer", "resolution_ns", "same_outputs", "notes",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("profile")
    command = ["profile", MODEL, "--runs", "20", "--node-data", "nodes.json", "--json"]
    return document(edgeopt(*command, cwd=folder)), folder


def test_the_verb_reports_every_field(made: tuple[dict[str, Any], Path]) -> None:
    report, _ = made
    assert report["schema"] == "edgeopt.profile/1"
    profile = report["profile"]
    assert profile.keys() >= FIELDS and profile["runs"] == 20
    assert report["device"]["model_sha256"] == report["model"]["sha256"]
    assert report["measurement"] is None
    for operator in profile["operators"]:
        assert operator.keys() >= {
            "index", "subgraph", "op", "layer", "kernel", "matched", "typical_ns", "mean_ns",
            "median_ns", "p10_ns", "p90_ns", "stdev_ns", "share", "partition", "nested", "calls",
        }  # fmt: skip
    assert sum(row["share"] for row in profile["by_type"]) == pytest.approx(1)


def test_the_node_data_names_the_tensors_and_gives_microseconds(
    made: tuple[dict[str, Any], Path],
) -> None:
    report, folder = made
    (graph,) = json.loads((folder / "nodes.json").read_text()).values()
    times = [row["typical_ns"] / 1000 for row in report["profile"]["operators"]]
    assert [result["value"] for result in graph["results"].values()] == times
    assert [colour["stop"] for colour in graph["gradient"]] == [0, 1]


def test_node_data_never_overwrites_a_model(tmp_path: Path) -> None:
    done = edgeopt("profile", MODEL, "--node-data", MODEL, cwd=tmp_path)
    assert done.returncode == 2 and "no known ending" in done.stderr


def test_a_benchmark_with_a_profile_and_a_load_reports_all_three(tmp_path: Path) -> None:
    flags = ["--runs", "20", "--profile", "--concurrency", "2", "--load-time", "0.3"]
    report = document(edgeopt("benchmark", MODEL, *flags, "--json", cwd=tmp_path))
    [process] = report["measurement"]["processes"]
    assert process["runs"] + process["moved_runs"] == 20
    assert report["profile"].keys() >= FIELDS
    assert report["throughput"].keys() >= {
        "loop", "concurrency", "batch", "unit", "requests", "per_second", "latency_ns", "fairness",
        "cpu", "memory", "alone", "speedup", "time_s", "notes",
    }  # fmt: skip
    assert report["throughput"]["per_second"].keys() == {"value", "ci95"}


def test_people_read_where_the_time_goes(tmp_path: Path) -> None:
    done = edgeopt("profile", MODEL, "--runs", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Where the time goes" in done.stdout and "DEPTHWISE_CONV_2D" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch", "4"], "fixed shape 1x28x28x1"),
        (["--concurrency", "2", "--runtime", "benchmark_model"], "one request at a time"),
        (["--concurrency", "2", "--load-time", "1000"], "--timeout"),
    ],
)
def test_a_load_that_cannot_be_is_refused_before_or_instead_of_a_wrong_one(
    flags: list[str], said: str, tmp_path: Path
) -> None:
    done = edgeopt("benchmark", MODEL, "--runs", "5", *flags, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr


def test_several_models_are_not_profiled_silently(tmp_path: Path) -> None:
    done = edgeopt("benchmark", MODEL, MODEL, "--profile", cwd=tmp_path)
    assert done.returncode == 2 and "edgeopt profile" in done.stderr
