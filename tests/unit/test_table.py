"""The table's machinery: cells that fail, runs that stop, and what the tables say of both."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from edgeopt.cli.app import run
from edgeopt.errors import InputError, ModelError
from edgeopt.paths import demo_dir
from edgeopt.pipeline.table import table
from edgeopt.pipeline.table_spec import load_spec
from edgeopt.progress import Silent
from edgeopt.report.table import check_suffix, export, views
from edgeopt.store import Store

ROW = f"""
[[model]]
name = "Demo"
builder = "{demo_dir() / "fashion.tflite"}"
calibration = "{demo_dir() / "samples.npz"}:x"
eval_data = "{demo_dir() / "samples.npz"}:x,y"
preprocess = "scale=1/255"
schemes = ["float32", "int8", "int16x8"]
runs = 5
slow_runs = 2
[model.published]
source = "a paper"
device = "its board"
accuracy = {{ float32 = 0.5, int8 = 0.4 }}
latency_ms = {{ float32 = 77 }}
size_mb = {{ float32 = 12.5 }}
"""
BROKEN = f"""
[[model]]
name = "Misfit"
builder = "{demo_dir() / "fashion.tflite"}"
calibration = "misfit.npz:x"
schemes = ["int8"]
"""


class _Stops(Silent):
    """Ctrl-C as soon as the int8 cell has begun."""

    def stage(self, text: str, total: int | None = None, unit: str = "") -> None:
        if text.startswith("Demo int8: "):
            raise KeyboardInterrupt


def spec_of(folder: Path, *models: str) -> Any:
    import numpy as np

    np.savez(folder / "misfit.npz", x=np.random.default_rng(0).random((12, 5), np.float32))
    (folder / "spec.toml").write_text('title = "Ours"\n' + "".join(models), encoding="utf-8")
    return load_spec(str(folder / "spec.toml"))


def fill(folder: Path, *models: str, progress: Any = None, fresh: bool = False) -> dict[str, Any]:
    spec = spec_of(folder, *models)
    return table(spec, folder / "out", Store(), progress or Silent(), fresh=fresh)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("table")
    return fill(folder, ROW)


def cells(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["rows"][0]["cells"]
    return found


def test_each_cell_has_accuracy_latency_and_size(filled: dict[str, Any]) -> None:
    found = cells(filled)
    assert list(found) == ["float32", "int8", "int16x8"]
    for cell in found.values():
        assert cell["error"] is None
        assert cell["accuracy"]["metric"] == "top1" and cell["accuracy"]["optimized"] > 0.8
        assert cell["latency"]["median_ns"] > 0 and cell["parity"]["passed"]
        assert cell["size_bytes"] == Path(cell["path"]).stat().st_size
    assert found["int8"]["size_bytes"] < 0.5 * found["float32"]["size_bytes"]
    runs = {scheme: cell["latency"]["runs"] for scheme, cell in found.items()}
    assert 2 < runs["float32"] <= 5 and 2 < runs["int8"] <= 5  # some may count as warm-up
    assert runs["int16x8"] <= 2  # its kernels are slow


def test_published_figures_stand_on_lines_of_their_own(filled: dict[str, Any]) -> None:
    techniques = views(filled)[0]
    ours, theirs = techniques.lines
    assert theirs[0].strip() == "published" and techniques.published == {1}
    assert "12.5" in theirs and "12.5" not in ours and "77" not in ours
    assert ours[1] == "top-1" and float(ours[2]) == pytest.approx(
        cells(filled)["float32"]["accuracy"]["optimized"], abs=1e-4
    )
    assert ours[4] == "not run"  # QAT was not asked for


def test_finished_cells_are_not_measured_again(tmp_path: Path, filled: dict[str, Any]) -> None:
    short = ROW.replace(', "int16x8"', "")
    first = cells(fill(tmp_path, short))
    again = cells(fill(tmp_path, short))
    assert all(cell["resumed"] for cell in again.values())
    assert [c["latency"] for c in again.values()] == [c["latency"] for c in first.values()]
    other = cells(fill(tmp_path, short.replace("runs = 5", "runs = 4")))
    assert not any(cell["resumed"] for cell in other.values())
    assert not any(cell["resumed"] for cell in cells(fill(tmp_path, short, fresh=True)).values())


def test_a_table_that_was_stopped_goes_on(tmp_path: Path) -> None:
    short = ROW.replace(', "int16x8"', "")
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, short, progress=_Stops())
    kept = json.loads((tmp_path / "out" / "table.json").read_text())
    assert list(cells(kept)) == ["float32"]
    found = cells(fill(tmp_path, short))
    assert [found[name]["resumed"] for name in ("float32", "int8")] == [True, False]


def test_a_row_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    short = ROW.replace('"float32", "int8", "int16x8"', '"int8"')
    with pytest.raises(InputError, match="1 of 2 cells failed") as failed:
        fill(tmp_path, BROKEN, short)
    document = failed.value.reached
    misfit, demo = document["rows"]
    assert misfit["cells"]["int8"]["error"]["exit_code"] == 2
    assert misfit["cells"]["int8"]["size_bytes"] is None
    assert demo["cells"]["int8"]["error"] is None
    assert "failed" in views(document)[0].lines[0]
    assert not (tmp_path / "out" / "misfit" / "int8.json").exists()  # to be tried again


def test_a_damaged_result_file_is_measured_again(tmp_path: Path) -> None:
    short = ROW.replace('"float32", "int8", "int16x8"', '"float32"')
    fill(tmp_path, short)
    (tmp_path / "out" / "demo" / "float32.json").write_text('{"key"')
    assert cells(fill(tmp_path, short))["float32"]["resumed"] is False


def test_every_ending_is_written(tmp_path: Path, filled: dict[str, Any]) -> None:
    for ending in ("md", "html", "csv", "json", "txt"):
        export(filled, tmp_path / f"t.{ending}")
    assert "| *published* |" in (tmp_path / "t.md").read_text()
    assert "<tr class=published>" in (tmp_path / "t.html").read_text()
    assert json.loads((tmp_path / "t.json").read_text())["schema"] == "edgeopt.table/1"
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["scheme"] for row in rows] == ["float32", "int8", "int16x8"]
    assert int(rows[1]["size_bytes"]) == cells(filled)["int8"]["size_bytes"]
    with pytest.raises(InputError, match=r"\.docx has no known ending"):
        check_suffix(tmp_path / "t.docx")


def test_the_command_says_what_failed_and_keeps_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec_of(tmp_path, BROKEN, ROW)
    arguments = ["table", str(tmp_path / "spec.toml"), "-o", str(tmp_path / "out"),
                 "--scheme", "int8", "--report", str(tmp_path / "t.md"), "--json"]  # fmt: skip
    assert run(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "edgeopt.table/1" and document["error"]["exit_code"] == 2
    assert document["cells"] == {"all": 2, "done": 1, "failed": 1, "resumed": 0}
    assert "failed" in (tmp_path / "t.md").read_text()
    assert run([*arguments, "--only", "Demo"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]["resumed"] == 1


def test_rows_and_schemes_that_are_not_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec_of(tmp_path, ROW)
    assert run(["table", str(tmp_path / "spec.toml"), "--only", "Dema"]) == 2
    assert "Did you mean Demo?" in capsys.readouterr().err
    assert run(["table", str(tmp_path / "spec.toml"), "--scheme", "float16"]) == 2
    assert "No row" in capsys.readouterr().err


def test_the_spec_beats_edgeopt_toml_and_a_flag_beats_the_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeopt.cli import settings

    spec_of(tmp_path, 'target = "no-such-board"\n', ROW)
    (tmp_path / "edgeopt.toml").write_text('target = "nor-this-one"\n')
    monkeypatch.chdir(tmp_path)
    settings._content.cache_clear()
    try:
        assert run(["table", "spec.toml", "-o", "out", "--scheme", "int8"]) == 2
        assert "no-such-board" in capsys.readouterr().err
        assert run(["table", "spec.toml", "-o", "out", "--scheme", "int8", "--target", "edge"]) == 2
        assert "no-such-board" not in capsys.readouterr().err
    finally:
        settings._content.cache_clear()


def test_show_prints_a_shipped_spec_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "published", "--show"]) == 0
    assert 'builder = "resnet_v2_101"' in capsys.readouterr().out


@pytest.mark.tf
def test_an_architecture_is_built_converted_and_run_without_trained_weights(tmp_path: Path) -> None:
    model = """
[[model]]
name = "Net"
builder = "mobilenet_v1"
options = { size = 32, alpha = 0.25, classes = 10 }
schemes = ["float32", "int8"]
runs = 3
"""
    document = fill(tmp_path, model)
    [row] = document["rows"]
    assert row["trained"] is False and row["metric"] == "top1"
    assert all(c["latency"]["median_ns"] > 0 for c in row["cells"].values())
    assert all(c["accuracy"] is None for c in row["cells"].values())
    assert "not measured" in views(document)[0].lines[0]
    assert any("Random weights" in line for line in _markdown(document, tmp_path))


def _markdown(document: dict[str, Any], folder: Path) -> list[str]:
    export(document, folder / "t.md")
    return (folder / "t.md").read_text().splitlines()


@pytest.mark.tf
def test_weights_of_another_shape_fail_their_row_only(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.weights.h5", "w") as file:
        file.create_group("layers")
    model = """
[[model]]
name = "Net"
builder = "mobilenet_v1"
weights = "other.weights.h5"
options = { size = 32, alpha = 0.25, classes = 10 }
schemes = ["float32"]
"""
    with pytest.raises((InputError, ModelError), match="1 of 1 cells failed") as failed:
        fill(tmp_path, model)
    error = failed.value.reached["rows"][0]["cells"]["float32"]["error"]
    assert error["kind"] == "input" and "does not fit mobilenet" in error["message"]
