"""Activations held twice: which can be, the same function, a quarter of the noise, and the cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hard_models import with_residual_adds
from split_models import branched, clamped

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.errors import InputError
from edgeopt.model import read
from edgeopt.model.tflite import parse
from edgeopt.optimize import ConversionRequest, quantize
from edgeopt.optimize.quantizer_worker import quantize as quantize_file
from edgeopt.optimize.ranges_search import noises
from edgeopt.optimize.selection import PLAIN as PLAINEST
from edgeopt.optimize.selection import Trial
from edgeopt.optimize.splitting import split, work_of
from edgeopt.optimize.splitting_offsets import left_noise
from edgeopt.optimize.splitting_run import gains, joining, sizes
from edgeopt.optimize.splitting_units import Unit, units
from edgeopt.optimize.work import multiplications
from edgeopt.paths import demo_dir
from edgeopt.profile import load_profile
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest
from edgeopt.verify import check

FLOAT = demo_dir() / "fashion.tflite"
Ranges = dict[str, tuple[list[float], list[float]]]


def names(data: bytes) -> list[list[str]]:
    """Of each unit's tensors."""
    graph = parse(data).subgraphs[0]
    known = {t.index: t.name for t in graph.tensors}
    return [[known[index] for index in unit.tensors] for unit in units(graph)]


def all_units(data: bytes) -> list[Unit]:
    return units(parse(data).subgraphs[0])


def samples(data: bytes, count: int, seed: int = 1) -> np.ndarray:
    shape = parse(data).subgraphs[0].inputs[0].shape or ()
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(np.float32)


def run(data: bytes, inputs: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Real values of every activation by name, for each sample."""
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    activations = {t.name for op in parse(data).subgraphs[0].operators for t in op.outputs}
    details = [d for d in interpreter.get_tensor_details() if d["name"] in activations]
    found = []
    for sample in inputs:
        scale, zero = source["quantization"]
        given = sample if not scale else np.clip(np.rint(sample / scale) + zero, -128, 127)
        interpreter.set_tensor(source["index"], given.astype(source["dtype"]))
        interpreter.invoke()
        values = {}
        for detail in details:
            scale, zero = detail["quantization"]
            value = interpreter.get_tensor(detail["index"]).astype(np.float64)
            values[detail["name"]] = (value - zero) * scale if scale else value
        found.append(values)
    return found


def ranges_of(data: bytes, inputs: np.ndarray) -> Ranges:
    seen = run(data, inputs)
    found = {
        name: ([min(float(s[name].min()) for s in seen)], [max(float(s[name].max()) for s in seen)])
        for name in seen[0]
    }
    return {**found, "x": ([0.0], [1.0])}


def int8(data: bytes, ranges: Ranges, folder: Path) -> bytes:
    (folder / "float.tflite").write_bytes(data)
    job = {
        "model": str(folder / "float.tflite"), "output": str(folder / "int8.tflite"),
        "scheme": "int8", "per_channel": True, "legacy_ops": False, "ranges": ranges,
        "fallback": "none", "fallback_layers": [], "keep": [],
    }  # fmt: skip
    quantize_file(job, [])
    return (folder / "int8.tflite").read_bytes()


def both(values: np.ndarray) -> np.ndarray:
    """The mean of the copies, whose channels stand one after the other."""
    half = values.shape[-1] // 2
    return np.asarray((values[..., :half] + values[..., half:]) / 2)


def demo_samples() -> Any:
    return load_dataset(
        f"{demo_dir() / 'samples.npz'}:x_calib", preprocess=Preprocess.parse("scale=1/255")
    ).match(read(FLOAT).inputs)


def test_what_an_add_or_a_pool_joins_is_held_twice_together() -> None:
    first = ["stem", "deep", "branch", "total", "pool"]
    assert names(branched()) == [first, ["left", "right", "both"]]
    assert names(branched(reshaped=True)) == [first, ["left", "right", "both", "flat"]]


def test_what_an_unknown_operation_reads_or_makes_stays_single() -> None:
    assert names(branched(unknown=True)) == [["stem", "deep", "branch", "total", "pool"]]


@pytest.mark.filterwarnings("ignore:Warning. Enabling")
@pytest.mark.parametrize("again", [slice(0), slice(1), slice(None)])
@pytest.mark.parametrize(
    "data",
    [branched(), branched(reshaped=True), branched(unknown=True),
     with_residual_adds(FLOAT.read_bytes())],
)  # fmt: skip
def test_equal_copies_leave_the_function_as_it_was(data: bytes, again: slice) -> None:
    graph, inputs = parse(data).subgraphs[0], samples(data, 3)
    ranges = {t.name: ([0.0], [1.0]) for t in graph.tensors}
    chosen = [*all_units(data), *all_units(data)[again]]  # those that come twice: four copies
    wider = split(data, ranges, chosen, apart=False).model
    end = graph.outputs[0].name
    for before, after in zip(run(data, inputs), run(wider, inputs), strict=True):
        np.testing.assert_allclose(after[end], before[end], atol=1e-5)
    operators = parse(wider).subgraphs[0].operators
    assert sum(map(multiplications, operators)) == work_of(graph, chosen)


@pytest.mark.filterwarnings("ignore:Warning. Enabling")
def test_the_error_of_each_tensor_held_twice_falls_to_about_a_quarter(tmp_path: Path) -> None:
    data = branched()
    inputs = np.rint(samples(data, 40) * 255).astype(np.float32) / np.float32(255)
    ranges = ranges_of(data, inputs)
    made = split(data, ranges, all_units(data))
    single, double = int8(data, ranges, tmp_path), int8(made.model, ranges, tmp_path)
    floats, once, twice = run(data, inputs), run(single, inputs), run(double, inputs)
    noise = {}
    for name in ("stem", "deep", "branch", "total", "pool", "left", "right"):
        before, after = (
            np.mean([(kind(q[name]) - f[name]) ** 2 for q, f in zip(runs, floats, strict=True)])
            for runs, kind in ((once, np.asarray), (twice, both))
        )
        noise[name] = after / before
    assert 0.2 < noise["stem"] < 0.3  # others add up what was left, and what is not quite apart
    assert all(0.2 < share < 0.45 for share in noise.values()), noise
    assert set(made.left) == {n for unit in names(data) for n in unit}
    assert all(0.249 < left < 0.4 for left in made.left.values()), made.left


@pytest.mark.filterwarnings("ignore:Warning. Enabling")
def test_four_copies_leave_a_sixteenth_of_the_error(tmp_path: Path) -> None:
    data = branched()
    inputs = np.rint(samples(data, 40) * 255).astype(np.float32) / np.float32(255)
    ranges, (stream, _) = ranges_of(data, inputs), all_units(data)
    made = split(data, ranges, [stream, stream])
    runs = [run(data, inputs)]
    runs += [run(int8(each, ranges, tmp_path), inputs) for each in (data, made.model)]
    floats, once, four = ([each["branch"] for each in found] for found in runs)
    before = np.mean((np.array(once) - floats) ** 2)
    after = np.mean((np.array([both(both(values)) for values in four]) - floats) ** 2)
    assert 0.04 < after / before < 0.15
    assert all(0.06 < left < 0.2 for left in made.left.values()), made.left


@pytest.mark.filterwarnings("ignore:Warning. Enabling")
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_relu_clamps_is_not_taken_for_lying_apart(times: int, tmp_path: Path) -> None:
    """Copies of zero are zeros: a depthwise layer that reads them must not take an offset off."""
    data = clamped()
    inputs = samples(data, 20)
    ranges, (deep,) = ranges_of(data, inputs), all_units(data)
    floats = run(data, inputs)
    path, end = tmp_path / "clamped.tflite", parse(data).subgraphs[0].outputs[0].index
    path.write_bytes(data)
    _, live = noises(path, ranges, [inputs[:, 0]], ends=[end], centred=False)
    assert list(live) == ["stem"]
    seen = np.array([each["stem"] for each in floats]) > 0
    np.testing.assert_allclose(live["stem"], seen.mean(axis=(0, 1, 2, 3)), atol=1e-4)
    assert sorted(share > 0.5 for share in live["stem"]) == [False] * 3 + [True] * 3
    errors = []
    for known in (None, live):
        wider = split(data, ranges, [deep] * times, live=known).model
        found = np.array([each["y"] for each in run(wider, inputs)])
        errors.append(np.mean((found - np.array([each["y"] for each in floats])) ** 2))
    assert errors[1] < errors[0] / 4


def test_two_roundings_half_a_step_apart_leave_a_quarter_of_the_variance() -> None:
    values = np.random.default_rng(0).uniform(0, 100, 200_000)
    for offset in (0.0, 0.1, 0.25, 0.4, 0.75):
        mean = (np.rint(values + offset) + np.rint(values - offset)) / 2
        left = np.var(mean - values) / np.var(np.rint(values) - values)
        assert left == pytest.approx(left_noise(offset * 3, 3.0), abs=0.01)
        for more in (0.125, 0.3):
            places = (offset + more, offset - more, more - offset, -offset - more)
            mean = np.mean([np.rint(values + place) for place in places], axis=0)
            left = np.var(mean - values) / np.var(np.rint(values) - values)
            assert left == pytest.approx(left_noise(more * 3, 3.0, offset * 3), abs=0.01)
    assert left_noise(0.25, 1.0) == pytest.approx(0.25)
    assert left_noise(0.125, 1.0, 0.25) == pytest.approx(1 / 16)
    assert left_noise(0.3, 0.0) == 1.0


def test_units_join_by_noise_for_their_work_and_stay_within_the_limit() -> None:
    graph, (stream, heads) = parse(branched()).subgraphs[0], all_units(branched())
    both_cost = work_of(graph, [stream, heads]) / work_of(graph, ())
    heads_cost = work_of(graph, [heads]) / work_of(graph, ())
    assert joining(graph, {stream: 1.0, heads: 0.1}, both_cost) == [heads, stream]
    assert joining(graph, {stream: 1.0, heads: 0.9}, both_cost) == [heads, heads]
    assert joining(graph, {stream: 1.0, heads: 0.9}, heads_cost) == [heads]
    assert joining(graph, {stream: 1.0, heads: 0.001}, 16) == [stream, stream]
    assert joining(graph, {stream: 1.0, heads: 0.9}, 1.0) == []
    assert sizes(1) == [1]
    assert sizes(7) == [1, 2, 3, 4, 6, 7]


def trial(noise: float, lost: float, agrees: tuple[bool, ...] = (True,) * 20) -> Trial:
    count = len(agrees)
    return Trial(
        candidate=PLAINEST, noise=(noise / count,) * count, agrees=agrees, margin_lost=(lost,)
    )


def test_what_is_held_twice_must_lose_a_tenth_less_and_no_answers() -> None:
    before = trial(1.0, 0.1)
    assert gains(before, trial(0.89, 0.1))
    assert not gains(before, trial(0.91, 0.1))
    assert gains(before, trial(0.91, 0.08))  # leads are kept
    assert not gains(before, trial(0.8, 0.2))  # less noise, but leads are lost
    assert not gains(before, trial(0.8, 0.1, (True,) * 16 + (False,) * 4))


@pytest.mark.parametrize("text", ["1", "0.5", "17", "nan", "on", "-3"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--splitting cannot be"):
        QualityRequest(splitting=text)


def test_only_accuracy_above_all_or_a_limit_splits() -> None:
    assert QualityRequest().split_limit == 1
    assert QualityRequest().towards("latency").split_limit == 1
    assert QualityRequest().towards("accuracy").split_limit == 4
    assert QualityRequest(splitting="off").towards("accuracy").split_limit == 1
    assert QualityRequest(splitting="2.5").towards(None).split_limit == 2.5
    assert not QualityRequest(splitting="2").plain


def convert(folder: Path, quality: QualityRequest, **more: Any) -> Any:
    request = ConversionRequest(scheme=more.pop("scheme", "int8"), quality=quality, **more)
    out = folder / "o.tflite"
    return quantize(FLOAT, request, out, dataset=demo_samples(), progress=Silent())


PLAIN = {"ranges": "minmax", "equalization": "off", "bias_correction": "off"}


def test_the_edge_tpu_takes_what_is_held_twice_and_the_report_says_what_it_costs(
    tmp_path: Path,
) -> None:
    made = convert(tmp_path, QualityRequest(**PLAIN, splitting="8"), legacy_ops=True)
    facts = read(tmp_path / "o.tflite")
    assert check(facts, load_profile("edgetpu-v1"), io="int8").violations == ()
    assert {t.dtype for op in facts.operators() for t in op.outputs} == {"int8"}
    said = made.quality["splitting"]
    assert said["kept"]
    work = sum(map(multiplications, facts.operators()))
    assert said["multiplications"]["after"] == work <= 8 * said["multiplications"]["before"]
    assert said["factor"] == pytest.approx(work / said["multiplications"]["before"], abs=1e-3)
    assert said["after"]["loss"] < said["before"]["loss"]
    held = [la for la in made.layer_errors["layers"] if "held twice" in la["done"]]
    assert {layer["name"] for layer in held} == set(said["tensors"])
    assert any("held twice" in note and "slower" in note for note in made.notes)
    assert math.isfinite(made.layer_errors["output_sqnr_db"])
    assert [path.name for path in tmp_path.iterdir()] == ["o.tflite"]


def test_a_limit_too_low_for_any_activation_changes_nothing(tmp_path: Path) -> None:
    made = convert(tmp_path, QualityRequest(**PLAIN, splitting="1.01"))
    said = made.quality["splitting"]
    assert (said["kept"], said["tensors"], said["factor"]) == (False, [], 1.0)
    assert "1.01 times the work" in said["why"]
    assert any(said["why"] in note for note in made.notes)


def test_pruned_models_and_16_bit_activations_are_never_split(tmp_path: Path) -> None:
    wanted = QualityRequest(**PLAIN, splitting="4")
    pruned = convert(tmp_path, wanted, keep=("zeros",))
    assert "zeros must stay" in pruned.quality["splitting"]["why"]
    wide = convert(tmp_path, wanted, scheme="int16x8")
    assert "fine enough" in wide.quality["splitting"]["why"]
