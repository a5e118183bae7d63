"""Data sets as users have them: folders, archives, functions; whole, wrong and hostile."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.errors import InputError
from edgeopt.facts import Quantization, Tensor


def an_input(shape: tuple[int, ...], dtype: str = "float32", name: str = "x") -> Tensor:
    return Tensor(index=0, name=name, dtype=dtype, shape=shape)


def save_image(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, 200)).save(path)


def class_folders(base: Path, names: list[str], each: int = 2) -> Path:
    for number, name in enumerate(names):
        for index in range(each):
            save_image(base / name / f"{index}.png", 10 * number + index)
    return base


def test_folder_numbers_are_labels_when_all_folders_have_one(tmp_path: Path) -> None:
    data = load_dataset(str(class_folders(tmp_path, ["0285_Egyptian_cat", "0019_chickadee"], 1)))
    assert data.labels is not None
    assert data.labels.tolist() == [19, 285]


def test_folder_names_count_in_order_when_one_has_no_number(tmp_path: Path) -> None:
    data = load_dataset(str(class_folders(tmp_path, ["7_cat", "dog"], 1)))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]


def test_classes_take_turns_so_that_a_start_of_the_set_is_fair(tmp_path: Path) -> None:
    data = load_dataset(str(class_folders(tmp_path, ["a", "b", "c"], 3)))
    assert data.labels is not None
    assert data.labels[:3].tolist() == [0, 1, 2]


def test_a_flat_folder_has_no_labels_and_ignores_what_is_no_image(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("hello")
    data = load_dataset(str(tmp_path))
    assert data.labels is None
    assert len(data) == 1


def test_images_follow_the_model_in_size_and_that_is_recorded(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    data = load_dataset(str(tmp_path)).match((an_input((1, 4, 5, 3)),))
    [sample] = data.samples()
    assert sample[0].shape == (4, 5, 3)
    assert any("resized to 4x5" in note for note in data.notes)
    assert data.describe()["fitted"][0]["size"] == [4, 5]


def test_unscaled_pixels_into_a_float_input_are_pointed_out(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    plain = load_dataset(str(tmp_path)).match((an_input((1, 4, 4, 3)),))
    said = load_dataset(str(tmp_path), preprocess=Preprocess.parse("scale=1"))
    assert any("unscaled" in note for note in plain.notes)
    assert not any("unscaled" in note for note in said.match((an_input((1, 4, 4, 3)),)).notes)


def test_pixels_far_outside_a_quantized_input_are_pointed_out(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    tensor = Tensor(
        index=0,
        name="x",
        dtype="int8",
        shape=(1, 4, 4, 3),
        quantization=Quantization(scales=(1 / 255,), zero_points=(-128,)),
    )
    assert any("clipped" in note for note in load_dataset(str(tmp_path)).match((tensor,)).notes)


def test_a_one_channel_input_gets_gray_images(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    data = load_dataset(str(tmp_path)).match((an_input((1, 4, 4, 1)),))
    assert next(data.samples())[0].shape == (4, 4, 1)


def test_bgr_is_rgb_backwards(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", 7)
    data = load_dataset(str(tmp_path), preprocess=Preprocess.parse("color=bgr"))
    assert next(data.samples())[0][0, 0].tolist() == [200, 7, 7]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InputError, match=r"bad\.png cannot be read as an image"):
        next(load_dataset(str(tmp_path)).samples())


@pytest.mark.parametrize("kind", ["empty", "mixed"])
def test_folders_that_say_nothing_or_two_things_are_refused(tmp_path: Path, kind: str) -> None:
    if kind == "mixed":
        save_image(tmp_path / "a.png")
        save_image(tmp_path / "cat" / "b.png")
    with pytest.raises(InputError, match=r"holds no images|both directly and in subfolders"):
        load_dataset(str(tmp_path))


def test_named_arrays_and_their_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=np.ones((3, 2)), b=np.array([4, 5, 6]), x=np.zeros((1, 9)))
    data = load_dataset(f"{tmp_path / 'd.npz'}:a,b")
    assert data.labels is not None
    assert data.labels.tolist() == [4, 5, 6]
    assert next(data.samples())[0].tolist() == [1, 1]


def test_a_missing_array_lists_those_that_are_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", first=np.ones((3, 2)), second=np.ones(4))
    with pytest.raises(InputError, match="first, second"):
        load_dataset(f"{tmp_path / 'd.npz'}:x")
    with pytest.raises(InputError, match="first, second"):
        load_dataset(str(tmp_path / "d.npz"))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="no pickled objects"):
        load_dataset(str(tmp_path / "d.npz"))
    (tmp_path / "d.npy").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(str(tmp_path / "d.npy"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no archive"])
def test_damaged_archives_are_input_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(InputError):
        load_dataset(str(tmp_path / "d.npz"))


def test_nan_is_refused_with_the_number_of_the_sample(tmp_path: Path) -> None:
    x = np.zeros((4, 2), np.float32)
    x[2, 1] = np.nan
    np.save(tmp_path / "d.npy", x)
    with pytest.raises(InputError, match="Sample 2"):
        list(load_dataset(str(tmp_path / "d.npy")).samples())


def test_an_empty_array_and_a_count_that_differs_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.zeros((0, 3)))
    with pytest.raises(InputError, match="empty"):
        load_dataset(str(tmp_path / "e.npy"))
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.zeros(2))
    with pytest.raises(InputError, match=r"3 samples .* 2 labels"):
        load_dataset(str(tmp_path / "d.npz"))


def test_one_hot_labels_become_numbers_and_other_floats_do_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 1)), y=np.eye(2)[::-1])
    labels = load_dataset(str(tmp_path / "d.npz")).labels
    assert labels is not None
    assert labels.tolist() == [1, 0]
    np.savez(tmp_path / "r.npz", x=np.ones((2, 1)), y=np.array([0.5, 1.5]))
    with pytest.raises(InputError, match="not class numbers"):
        _ = load_dataset(str(tmp_path / "r.npz")).labels


def test_a_wrong_shape_says_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="takes 16x16x3") as caught:
        load_dataset(str(tmp_path / "d.npy")).match((an_input((1, 16, 16, 3)),))
    assert "--preprocess resize=16" in caught.value.hint
    steps = Preprocess.parse("resize=16,scale=1/255")
    data = load_dataset(str(tmp_path / "d.npy"), preprocess=steps)
    assert next(data.match((an_input((1, 16, 16, 3)),)).samples())[0].shape == (16, 16, 3)


def test_named_inputs_go_to_the_inputs_of_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", b=np.full((2, 3), 7), a=np.full((2, 1), 5))
    inputs = (an_input((1, 1), name="serving_default_a:0"), an_input((1, 3), name="b"))
    sample = next(load_dataset(str(tmp_path / "d.npz")).match(inputs).samples())
    assert [s.tolist() for s in sample] == [[5.0], [7.0, 7.0, 7.0]]


def test_spread_reaches_over_a_sorted_set(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.arange(100.0).reshape(100, 1))
    taken = [float(s[0][0]) for s in load_dataset(str(tmp_path / "d.npy")).spread(4)]
    assert taken == [0, 25, 50, 75]


def test_the_digest_follows_content_and_preprocessing(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 2)))
    first = load_dataset(str(tmp_path / "d.npy")).digest()
    assert load_dataset(str(tmp_path / "d.npy")).digest() == first
    scaled = load_dataset(str(tmp_path / "d.npy"), preprocess=Preprocess.parse("scale=2"))
    assert scaled.digest() != first
    np.save(tmp_path / "d.npy", np.ones((2, 2)))
    assert load_dataset(str(tmp_path / "d.npy")).digest() != first


def write_module(base: Path, name: str, body: str) -> str:
    (base / f"{name}.py").write_text(f"import numpy as np\ndef samples():\n    {body}\n")
    return f"{name}:samples"


def test_a_function_yields_samples_and_labels(tmp_path: Path) -> None:
    body = "yield from ((np.full(3, i), i) for i in range(5))"
    data = load_dataset(write_module(tmp_path, "pairs_module", body), base=tmp_path)
    assert len(data) == 5
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


def test_samples_of_a_function_are_those_of_its_digest(tmp_path: Path) -> None:
    body = "yield from np.random.default_rng().random((4, 3))"
    data = load_dataset(write_module(tmp_path, "random_module", body), base=tmp_path)
    before = data.digest()
    assert [s[0].tolist() for s in data.samples()] == [s[0].tolist() for s in data.samples()]
    assert data.digest() == before


def test_an_endless_function_gives_as_many_samples_as_are_asked_for(tmp_path: Path) -> None:
    body = "import itertools; yield from ([np.full((1, 2), float(i))] for i in itertools.count())"
    data = load_dataset(write_module(tmp_path, "endless_module", body), base=tmp_path)
    matched = data.match((an_input((1, 2)),))
    assert [s[0].tolist() for s in matched.spread(2)] == [[0, 0], [1, 1]]


def test_a_functions_failure_is_reported_as_its_own_with_the_line(tmp_path: Path) -> None:
    spec = write_module(tmp_path, "failing_module", "raise KeyError('lost')")
    with pytest.raises(InputError, match=r"failing_module\.py:3: KeyError: 'lost'"):
        load_dataset(spec, base=tmp_path)


@pytest.mark.parametrize("spec", ["", "C:\\data\\x.npz", "a:b:c:d", "nowhere", "x.npz:y", "\0"])
def test_what_is_not_there_is_an_input_error(spec: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_dataset(spec, base=tmp_path)


def test_a_module_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no_such_module"):
        load_dataset("no_such_module:samples", base=tmp_path)


def test_preprocessing_is_x_minus_mean_times_scale() -> None:
    steps = Preprocess.parse("resize=2x3,mean=127,scale=1/127.5")
    assert steps.resize == (2, 3)
    assert steps.values(np.array([0, 254], np.uint8)).tolist() == pytest.approx(
        [-127 / 127.5, 127 / 127.5]
    )


def test_three_means_go_to_three_channels() -> None:
    steps = Preprocess.from_mapping({"mean": [1, 2, 3], "std": "2"})
    assert steps == Preprocess.parse("mean=1/2/3,std=2")
    assert steps.values(np.array([[3, 4, 5]])).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reszie=3", "Did you mean resize"),
        ("scale", "NAME=VALUE"),
        ("scale=1/0", "fraction"),
        ("scale=0", "not 0"),
        ("scale=nan", "finite"),
        ("mean=1/2", "one number, or three"),
        ("std=0", "not 0"),
        ("resize=0", "pixels"),
        ("resize=2x3x4", "pixels"),
        ("crop=2", "fraction"),
        ("color=cmyk", "rgb or bgr or gray"),
        ("scale=1,std=2", "both"),
        ("scale=1,scale=2", "twice"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocess.parse(text)


def test_arrays_by_position_follow_the_model_that_their_author_knows(tmp_path: Path) -> None:
    (tmp_path / "d.py").write_text("def f():\n    yield [7.0], [5.0]\n")
    data = load_dataset("d.py:f", base=tmp_path)
    converted = (an_input((1, 1), name="serving_default_a:0"), an_input((1, 1), name="z"))
    sample = next(data.in_order_of(["z", "a"]).match(converted).samples())
    assert [s.tolist() for s in sample] == [[5.0], [7.0]]


def test_what_a_function_prints_stays_off_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.py").write_text(
        "import os\nprint('{imported}')\n"
        "def f():\n    print('{drawn}')\n    os.write(1, b'raw')\n    yield [1.0]\n"
    )
    assert len(load_dataset("d.py:f", base=tmp_path)) == 1
    seen = capfd.readouterr()
    assert seen.out == ""
    assert all(text in seen.err for text in ("{imported}", "{drawn}", "raw"))


def test_a_sample_of_nothing_does_not_end_the_data_quietly(tmp_path: Path) -> None:
    (tmp_path / "d.py").write_text("def f():\n    yield [1.0]\n    yield None\n    yield [2.0]\n")
    with pytest.raises(InputError, match="sample 1 is object"):
        len(load_dataset("d.py:f", base=tmp_path))


def test_values_beyond_the_models_type_are_refused_with_the_sample(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[1.0], [1e300]]))
    data = load_dataset(str(tmp_path / "d.npy")).match((an_input((1, 1)),))
    with pytest.raises(InputError, match=r"Sample 1 .* do not fit float32"):
        list(data.samples())


def test_arrays_named_as_the_inputs_are_taken_even_if_one_is_called_x(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((2, 3), 7.0), k=np.full(2, 5.0), y=np.array([1, 0]))
    inputs = (an_input((), name="serving_default_k:0"), an_input((1, 3), name="x"))
    data = load_dataset(str(tmp_path / "d.npz")).match(inputs)
    assert [s.tolist() for s in next(data.samples())] == [5.0, [7.0, 7.0, 7.0]]
    assert data.labels is not None and data.labels.tolist() == [1, 0]


def test_inputs_with_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), k=np.zeros((3, 1)))
    data = load_dataset(str(tmp_path / "d.npz"))
    with pytest.raises(InputError, match=r"2 samples in 'x' but 3 in 'k'"):
        data.match((an_input((1, 3), name="x"), an_input((1, 1), name="k")))


def test_the_digest_of_images_reads_bytes_and_decodes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image: decoding it would fail")
    first = load_dataset(str(tmp_path)).digest()
    assert load_dataset(str(tmp_path)).digest() == first
    (tmp_path / "a.png").write_bytes(b"other bytes")
    assert load_dataset(str(tmp_path)).digest() != first
