"""The flags of measuring: what they come to, from where, and what is refused before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgeopt.cli import options
from edgeopt.cli.measuring_options import effort_request, measuring
from edgeopt.effort import Effort
from edgeopt.errors import InputError

DEMO = Path(options.__file__).parents[1] / "demo" / "fashion.tflite"


@click.command()
@measuring
def asked(**flags: Any) -> None:
    click.echo(json.dumps(effort_request(flags).to_json()))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite itself measures with little effort, by the environment."""
    for name in ("RUNS", "WARMUP", "PRECISION", "PROCESSES", "MAX_TIME", "CONDITIONS"):
        monkeypatch.delenv(f"EDGEOPT_{name}", raising=False)


def effort(*words: str, env: Mapping[str, str] | None = None, **settings: Any) -> dict[str, Any]:
    found = CliRunner().invoke(asked, words, env=env, default_map=settings, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def edgeopt(folder: Path, *words: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own, in `folder`, whose edgeopt.toml counts."""
    return subprocess.run(
        [sys.executable, "-m", "edgeopt", *words],
        cwd=folder, text=True, timeout=60, check=False,
        **({"capture_output": True} | streams),
    )  # fmt: skip


def test_without_flags_the_defaults_are_those_of_an_effort() -> None:
    assert effort() == Effort().to_json()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--precision", "0.5%"), {"precision": 0.005}),
        (("--precision", "0.02"), {"precision": 0.02}),
        (("--runs", "50", "--processes", "3"), {"runs": 50, "processes": 3}),
        (("--runs", "adaptive", "--warmup", "settled"), {"runs": None, "warmup": None}),
        (("--warmup", "0"), {"warmup": 0}),
        (("--mlperf",), {"min_runs": 1024, "min_time_s": 60.0}),
        (("--mlperf", "--min-runs", "5000"), {"min_runs": 5000, "min_time_s": 60.0}),
        (("--max-time", "5", "--min-time", "2"), {"max_time_s": 5.0, "min_time_s": 2.0}),
        (("--order-seed", "7"), {"seed": 7}),
    ],
)
def test_flags_become_an_effort(words: tuple[str, ...], found: dict[str, Any]) -> None:
    assert effort(*words) == Effort().to_json() | found


def test_flags_beat_the_environment_which_beats_edgeopt_toml() -> None:
    env = {"EDGEOPT_PRECISION": "2%", "EDGEOPT_PROCESSES": "7"}
    found = effort("--processes", "9", env=env, precision="3%", max_time_s=4)
    assert (found["precision"], found["processes"], found["max_time_s"]) == (0.02, 9, 4.0)
    assert effort("--runs", "10", env=env)["runs"] == 10  # a setting is no contradiction


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--runs", "0"), "neither 'adaptive' nor a number from 1"),
        (("--warmup", "-1"), "neither 'settled' nor a number from 0"),
        (("--precision", "nan"), "--precision"),
        (("--precision", "0"), "above 0"),
        (("--precision", "100%"), "--precision"),
        (("--max-time", "nan"), "--max-time"),
        (("--processes", "0"), "--processes"),
        (("--runs", "10", "--mlperf"), "--mlperf ask for more"),
        (("--runs", "10", "--min-time", "1"), "exact number"),
        (("--runs", "10", "--precision", "2%"), "--precision would have no say"),
    ],
)
def test_impossible_efforts_are_refused(words: tuple[str, ...], said: str) -> None:
    found = CliRunner().invoke(asked, words)
    assert said in f"{found.output} {found.exception}"
    assert found.exit_code == 2 or isinstance(found.exception, InputError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc", "Write it as 2-3"),
        ("3-2", "Write it as 2-3, the lower first"),
        ("9999", "0 to 4095"),
    ],
)
def test_a_wrong_list_of_cores_is_refused_before_a_device_is_reached(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        options.job(model=DEMO, cores=text)


def test_edgeopt_toml_sets_what_measuring_and_comparing_need(tmp_path: Path) -> None:
    toml = 'precision = "2%"\nprocesses = 3\nmax_time_s = 5\ntimeout_s = 60\nthreshold = "5%"\n'
    (tmp_path / "edgeopt.toml").write_text(toml + 'confidence = "95%"\nsession_noise = 0.0\n')
    done = edgeopt(tmp_path, "compare", "a.json", "b.json")
    assert done.returncode == 2 and "Cannot read a.json" in done.stderr, done.stderr
    (tmp_path / "edgeopt.toml").write_text("processes = true\n")
    done = edgeopt(tmp_path, "compare", "a.json", "b.json")
    assert "processes must be a whole number, not true or false" in done.stderr, done.stderr
    (tmp_path / "edgeopt.toml").write_text('threshold = "much"\n')
    done = edgeopt(tmp_path, "compare", "a.json", "b.json")
    assert done.returncode == 2 and "'much' is no fraction" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [("targets", "list", "--json"), ("targets", "list")])
def test_output_that_finds_no_space_is_said_in_words(tmp_path: Path, words: Any) -> None:
    with Path("/dev/full").open("w") as full:
        done = edgeopt(tmp_path, *words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("error: The output could not be written: no space is left")
    assert "Traceback" not in done.stderr and "bug" not in done.stderr
