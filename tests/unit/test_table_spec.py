"""Table specs: what is wrong in one is said with file, line and key before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.paths import demo_dir
from edgeopt.pipeline.table_spec import load_spec, shipped_specs

DEMO = f'name = "Demo"\nbuilder = "{demo_dir() / "fashion.tflite"}"\n'
SAMPLES = f'calibration = "{demo_dir() / "samples.npz"}:x"\n'
RANDOM = 'name = "Net"\nbuilder = "mobilenet_v1"\n'


def written(folder: Path, model: str, before: str = "") -> str:
    path = folder / "spec.toml"
    path.write_text(f"{before}\n[[model]]\n{model}", encoding="utf-8")
    return str(path)


def test_the_shipped_tables_have_the_eight_published_models() -> None:
    shipped = {name: load_spec(name) for name in shipped_specs()}
    assert list(shipped) == ["published", "published-int16"]
    built = {row.builder.name for spec in shipped.values() for row in spec.rows if row.builder}
    assert built == {
        "mobilenet_v1", "mobilenet_v2", "inception_v3", "resnet_v2_101", "wav2letter",
        "deepspeech", "yolo_v3", "mobilebert",
    }  # fmt: skip
    schemes = {"float32", "float16", "dynamic_int8", "int8", "int16x8"}
    assert all(set(r.schemes) == schemes for spec in shipped.values() for r in spec.rows)
    assert all(r.published["source"] for spec in shipped.values() for r in spec.rows)


def test_a_model_takes_what_it_leaves_out_from_defaults(tmp_path: Path) -> None:
    before = '[defaults]\nruns = 7\nschemes = ["float32"]\npreprocess = "scale=1/255"\n'
    [row] = load_spec(written(tmp_path, DEMO, before)).rows
    assert (row.runs, row.schemes, row.preprocess.scale) == (7, ("float32",), 1 / 255)
    [row] = load_spec(written(tmp_path, DEMO + "runs = 3\n", before)).rows
    assert row.runs == 3


def test_relative_names_are_looked_for_beside_the_spec(tmp_path: Path) -> None:
    for name in ("fashion.tflite", "samples.npz"):
        (tmp_path / name).write_bytes((demo_dir() / name).read_bytes())
    model = 'name = "D"\nbuilder = "fashion.tflite"\ncalibration = "samples.npz:x,y"\n'
    [row] = load_spec(written(tmp_path, model)).rows
    assert row.model == (tmp_path / "fashion.tflite").resolve()
    assert row.calibration == f"{(tmp_path / 'samples.npz').resolve()}:x,y"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (DEMO + SAMPLES + "rums = 3\n", ("spec.toml:6", "rums", "Did you mean runs?")),
        ('name = "N"\nbuilder = "mobilnet_v1"\n', ("spec.toml:4", "Did you mean mobilenet_v1?")),
        ('name = "N"\nbuilder = "no/such.keras"\n', ("there is no model at",)),
        (DEMO + 'schemes = ["int9"]\n', ("spec.toml:5", "'int9'", "Did you mean int8?")),
        (DEMO + 'schemes = []\n', ("schemes", "is empty")),
        (DEMO + 'schemes = ["int8"]\n', ("Demo: int8 needs representative data",)),
        (DEMO + SAMPLES + "qat = true\n", ("Demo: qat needs labelled data",)),
        (DEMO + 'calibration = "gone.npz:x"\n', ("calibration", "there is no data at")),
        (DEMO + SAMPLES + 'metric = "top2"\n', ("metric", "Did you mean top")),
        (DEMO + SAMPLES + 'ranges = "widest"\n', ("--ranges cannot be 'widest'",)),
        (DEMO + SAMPLES + "options = { size = 32 }\n", ("only a builder has options",)),
        (DEMO + SAMPLES + 'weights = "spec.toml"\n', ("a model file has its weights",)),
        (RANDOM + "options = { sise = 32 }\n", ("no option 'sise'", "Did you mean size?")),
        (RANDOM + "options = { size = -1 }\n", ("size must be a whole number above 0",)),
        (RANDOM + SAMPLES.replace("calibration", "eval_data"), ("random weights",)),
        (RANDOM + 'weights = "gone.h5"\n', ("weights", "there is nothing at")),
        (RANDOM + '[model.published]\nsize_mb = { int9 = 1 }\n', ("'source' is missing",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, model: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        load_spec(written(tmp_path, model))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_an_unknown_default_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spec.toml:2: defaults.seeed: unknown key.*seed"):
        load_spec(written(tmp_path, DEMO + SAMPLES, "[defaults]\nseeed = 1\n"))


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    model = DEMO + SAMPLES
    with pytest.raises(InputError, match="two models are named 'Demo'"):
        load_spec(written(tmp_path, f"{model}\n[[model]]\n{model}"))


def test_a_spec_without_models_and_one_that_is_missing_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("schema = 1\n")
    with pytest.raises(InputError, match=r"there is no \[\[model\]\]"):
        load_spec(str(tmp_path / "empty.toml"))
    with pytest.raises(InputError, match=r"no table publised. Did you mean published\?"):
        load_spec("publised")
