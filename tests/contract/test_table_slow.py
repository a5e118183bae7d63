"""The eight published models: each builds, converts under every scheme, runs, and has its size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.paths import demo_dir
from edgeopt.pipeline.table import table
from edgeopt.pipeline.table_spec import CELLS, load_spec
from edgeopt.progress import Silent
from edgeopt.report.table import views
from edgeopt.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.tf]

# MB (10^6 bytes) of float32 and int8. The first four: TensorFlow Lite model optimization guide,
# table 1. It has no sizes of the others: there, those of independent builds of the same papers.
SIZES = {
    "MobileNet v1": (16.9, 4.3),
    "MobileNet v2": (14.0, 3.6),
    "Inception v3": (95.7, 23.9),
    "ResNet v2 101": (178.3, 44.9),
    "Wav2letter": (94.37, 23.75),
    "DeepSpeech": (188.86, 47.34),
    "YOLOv3": (247.6, 62.6),
    "MobileBERT": (97.7, 25.8),
}
SPEC = {name: "published" if name in list(SIZES)[:4] else "published-int16" for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_each_published_model_builds_converts_and_runs_under_every_scheme(
    tmp_path: Path, name: str
) -> None:
    spec = load_spec(SPEC[name])
    row = next(row for row in spec.rows if row.name == name)
    small = replace(row, runs=2, slow_runs=1, warmup=1)
    document = table(replace(spec, rows=(small,)), tmp_path, Store(), Silent())
    cells = document["rows"][0]["cells"]
    assert set(cells) == set(CELLS) - {"qat"}
    for scheme, cell in cells.items():
        assert cell["error"] is None, (scheme, cell["error"])
        assert cell["latency"]["median_ns"] > 0 and cell["parity"]["passed"]
        assert cell["accuracy"] is None  # random weights
    whole, small_size = (cells[scheme]["size_bytes"] / 1e6 for scheme in ("float32", "int8"))
    assert whole == pytest.approx(SIZES[name][0], rel=0.1)
    assert small_size == pytest.approx(SIZES[name][1], rel=0.1)
    for scheme in ("dynamic_int8", "int16x8"):
        assert cells[scheme]["size_bytes"] < 0.32 * cells["float32"]["size_bytes"]
    assert cells["float16"]["size_bytes"] < 0.55 * cells["float32"]["size_bytes"]


def test_training_fills_the_columns_of_quantization_aware_trained_models(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_model_optimization")
    samples = demo_dir() / "samples.npz"
    (tmp_path / "spec.toml").write_text(
        f"""
[[model]]
name = "Demo"
builder = "{demo_dir() / "fashion.keras"}"
calibration = "{samples}:x"
eval_data = "{samples}:x,y"
train_data = "{samples}:x,y"
preprocess = "scale=1/255"
schemes = ["float32", "int8"]
qat = true
epochs = 1
runs = 5
"""
    )
    document = table(load_spec(str(tmp_path / "spec.toml")), tmp_path, Store(), Silent())
    cells = document["rows"][0]["cells"]
    assert cells["qat"]["accuracy"]["optimized"] > 0.7
    assert cells["qat"]["latency"]["median_ns"] > 0
    assert cells["qat"]["sha256"] != cells["int8"]["sha256"]
    ours = views(document)[0].lines[0]
    assert "not run" not in ours and "not measured" not in ours
