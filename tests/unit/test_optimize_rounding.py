"""Weights rounded so that their errors cancel: what they read, where they end, what it gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.dataset import Preprocess, load_dataset
from edgeopt.facts import Operator, Tensor
from edgeopt.model import read
from edgeopt.optimize import ConversionRequest, quantize, rounding_run, selection_run
from edgeopt.optimize.copies import Copies
from edgeopt.optimize.layer_errors_worker import _Model
from edgeopt.optimize.rounding import Layer, Moments, patches, replaced
from edgeopt.optimize.rounding_run import _best, rivals_wanted, worth
from edgeopt.optimize.selection import Candidate, Trial, answers_lost
from edgeopt.paths import demo_dir
from edgeopt.progress import Silent
from edgeopt.quality import QualityRequest

FLOAT = demo_dir() / "fashion.tflite"


def tensor(name: str, values: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    data = None if values is None else memoryview(values.astype("<f4").tobytes())
    return Tensor(
        index=0, name=name, dtype="float32", shape=shape, constant=data is not None, data=data
    )


def layer(op: str, weights: np.ndarray) -> Operator:
    return Operator(
        index=0, subgraph=0, op=op, version=1,
        inputs=(tensor("x", None, (1,)), tensor("w", weights, weights.shape)),
        outputs=(tensor("y", None, (1,)),),
    )  # fmt: skip


def seen_by(op: Operator, seen: np.ndarray) -> Moments:
    moments = Moments(op)
    moments.add(seen)
    return moments


def correlated(rng: np.random.Generator, count: int, positions: int, channels: int) -> np.ndarray:
    """Like activations behind a RELU: none negative, and neighbours alike."""
    common = rng.normal(1, 1, (count, 1, 1))
    return np.maximum(common + rng.normal(0, 0.5, (count, positions, channels)), 0)


def nearest(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.rint(weights / scales) * scales


@pytest.mark.parametrize("one_scale", [False, True])
def test_a_dense_layer_errs_less_than_by_nearest_rounding(one_scale: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (20, 200)).astype(np.float32)
    seen = correlated(rng, 4000, 1, 200)
    op = layer("FULLY_CONNECTED", weights)
    found = Layer(op, seen_by(op, seen), one_scale=one_scale).rounded()
    made, shift = found.weights, found.shift
    size = np.abs(weights).max(axis=None if one_scale else 1, keepdims=True)
    scales = size / 127
    np.testing.assert_allclose(made / scales, np.rint(made / scales), atol=1e-3)
    kept = np.abs(weights) == size  # what makes the scale stays, so that the scale does
    np.testing.assert_allclose(made[kept], weights[kept], rtol=1e-6)
    x = seen.reshape(len(seen), -1)
    plain = x @ (nearest(weights, scales) - weights).T
    better = x @ (made - weights).T + shift
    assert np.mean(better**2) < np.mean(plain**2) / 2
    np.testing.assert_allclose(better.mean(0), 0, atol=1e-4)


def test_a_depthwise_layer_is_rounded_channel_by_channel() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (1, 3, 3, 12)).astype(np.float32)
    seen = correlated(rng, 4000, 9, 12)
    op = layer("DEPTHWISE_CONV_2D", weights)
    found = Layer(op, seen_by(op, seen), one_scale=False).rounded()
    made, shift = found.weights, found.shift
    scales = np.abs(weights).max((0, 1, 2)) / 127

    def error(other: np.ndarray) -> np.ndarray:
        return np.einsum("nkc,kc->nc", seen, (other - weights).reshape(9, 12))

    assert np.mean((error(made) + shift) ** 2) < np.mean(error(nearest(weights, scales)) ** 2) / 2


def held(channels: int, count: int, offset: float = 0.1) -> Copies:
    """Each of so many channels `count` times over, half of the copies above and half below."""
    side = np.repeat(np.resize([1.0, -1.0], count), channels)
    return Copies(channel=np.tile(np.arange(channels), count), offset=side * offset)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "DEPTHWISE_CONV_2D"])
def test_copies_make_up_for_each_others_rounding(kind: str, count: int) -> None:
    """The mean of copies that are rounded together errs far less than that of equal ones."""
    rng = np.random.default_rng(3)
    wide = kind == "FULLY_CONNECTED"
    weights = rng.normal(0, 1, (8, 60) if wide else (1, 3, 3, 8)).astype(np.float32)
    seen = correlated(rng, 2000, *((1, 60) if wide else (9, 8)))
    op = layer(kind, weights)
    rows = weights if wide else weights.reshape(9, -1).T
    scales = np.tile(np.abs(rows).max(1, keepdims=True) / 127, (count, 1))
    whole = Layer(op, seen_by(op, seen), one_scale=False)
    read, errors = None if wide else held(8, count), []
    for copies in (None, held(8, count)):
        found = whole.rounded(read if copies else None, copies).weights
        made = found if wide else found.reshape(9, -1).T
        here = scales[: len(made)]
        np.testing.assert_allclose(made / here, np.rint(made / here), atol=1e-3)
        np.testing.assert_allclose(np.abs(made).max(1), 127 * here[:, 0], rtol=1e-6)
        mean = made.reshape(-1, 8, rows.shape[1]).mean(0) - rows
        errors.append(np.mean(mean**2))
    assert errors[1] < errors[0] / count


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D"])
def test_weights_that_read_copies_have_finer_steps_together(kind: str, count: int) -> None:
    """Each copy's weights are on the grid that the quantizer will find, their sum on a finer one,
    and what they add for reading above or below the value is taken off again."""
    rng = np.random.default_rng(4)
    shape = (8, 3, 3, 10) if kind == "CONV_2D" else (8, 10)
    weights = rng.normal(0, 1, shape).astype(np.float32)
    positions = int(np.prod(shape[1:-1]))
    seen = correlated(rng, 3000, positions, 10)
    op, copies = layer(kind, weights), held(10, count, 0.01)
    whole = Layer(op, seen_by(op, seen), one_scale=False)
    errors = []
    for source in (None, copies):
        found = whole.rounded(source)
        times = count if source else 1
        assert found.weights.shape == (*shape[:-1], 10 * times)
        flat, rows = found.weights.reshape(8, -1), weights.reshape(8, -1)
        scales = np.abs(rows).max(1, keepdims=True) / 127 / times
        np.testing.assert_allclose(flat / scales, np.rint(flat / scales), atol=1e-3)
        np.testing.assert_allclose(np.abs(flat).max(1), 127 * scales[:, 0], rtol=1e-6)
        values = seen
        if source is not None:  # a RELU leaves zeros where they are
            values = seen[..., copies.channel]
            values = values + copies.offset * (values != 0)
        error = values.reshape(len(seen), -1) @ flat.T + found.shift
        error -= seen.reshape(len(seen), -1) @ rows.T
        np.testing.assert_allclose(error.mean(0), 0, atol=1e-4)
        errors.append(np.mean(error**2))
    assert errors[1] < errors[0] / count


def test_shapes_that_are_not_understood_are_left_alone() -> None:
    weights = np.ones((1, 3, 3, 8), np.float32)
    multiplied = layer("DEPTHWISE_CONV_2D", weights)  # 4 channels in, 8 out
    moments = seen_by(multiplied, np.ones((5, 9, 4)))
    for seen in (moments, Moments(multiplied)):
        with pytest.raises(ValueError, match=r"multiplier|nothing seen"):
            Layer(multiplied, seen, one_scale=False)


def test_inputs_that_never_vary_do_no_harm() -> None:
    weights = np.random.default_rng(2).normal(0, 1, (4, 6)).astype(np.float32)
    op = layer("FULLY_CONNECTED", weights)
    made = Layer(op, seen_by(op, np.zeros((10, 1, 6))), one_scale=False).rounded()
    np.testing.assert_allclose(made.weights, weights, atol=np.abs(weights).max() / 127)


def demo_samples() -> Any:
    data = load_dataset(
        f"{demo_dir() / 'samples.npz'}:x_calib", preprocess=Preprocess.parse("scale=1/255")
    )
    return data.match(read(FLOAT).inputs)


def test_patches_are_what_the_operations_read() -> None:
    """Patches times weights are the runtime's own results, padding and strides included."""
    model = _Model(FLOAT)
    graph = model.graph
    used = {t.index for op in graph.operators for t in (*op.inputs, *op.outputs) if t}
    keep = {t.index for t in graph.tensors if t.index in used and not t.constant}
    [values] = model.run(list(demo_samples().spread(1)), keep, [""])
    checked = 0
    for op in graph.operators:
        if op.op not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        source, held, bias = op.inputs[:3]
        assert source and held and bias and held.shape
        weights = np.frombuffer(held.data or b"", "<f4").reshape(held.shape)
        seen = patches(values[source.index][0], op, 1 << 20, 0)
        if op.op == "DEPTHWISE_CONV_2D":
            made = np.einsum("nkc,kc->nc", seen, weights.reshape(-1, weights.shape[-1]))
        else:
            made = seen.reshape(len(seen), -1) @ weights.reshape(len(weights), -1).T
        made = made + np.frombuffer(bias.data or b"", "<f4")
        if op.options["fused_activation"] == "RELU6":
            made = np.clip(made, 0, 6)
        wanted = values[op.outputs[0].index].reshape(made.shape)
        np.testing.assert_allclose(made, wanted, atol=1e-4)
        checked += 1
    assert checked == 10


def test_the_quantizer_puts_each_weight_where_it_was_rounded_to(tmp_path: Path) -> None:
    graph = read(FLOAT).subgraphs[0]
    rng, made = np.random.default_rng(3), {}
    for op in graph.operators:
        if op.op != "CONV_2D":
            continue
        held = op.inputs[1]
        assert held and held.shape
        width = int(np.prod(held.shape[1:]))
        moments = seen_by(op, correlated(rng, 3000, 1, width))
        made[op.index] = Layer(op, moments, one_scale=False).rounded()
    path = tmp_path / "rounded.tflite"
    path.write_bytes(replaced(FLOAT.read_bytes(), made))
    quality = QualityRequest(ranges="minmax", equalization="off", bias_correction="off")
    request = ConversionRequest(scheme="int8", quality=quality)
    done = quantize(path, request, tmp_path / "o.tflite", dataset=demo_samples(), progress=Silent())
    for op in read(done.path).operators():
        if op.index in made:
            held = op.inputs[1]
            assert held and held.quantization
            steps = np.frombuffer(held.data or b"", np.int8).reshape(held.shape or ())
            scales = np.array(held.quantization.scales).reshape(-1, 1, 1, 1)
            np.testing.assert_allclose(steps * scales, made[op.index].weights, atol=1e-5)


def test_a_failure_to_round_keeps_what_was_made_and_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding_run, "_WORKER", "edgeopt.no_such_module")
    request = ConversionRequest(scheme="int8")
    made = quantize(
        FLOAT, request, tmp_path / "o.tflite", dataset=demo_samples(), progress=Silent()
    )
    assert made.engine == "litert-quantizer"
    assert "rounded to the nearest step" in " ".join(made.notes)


def trial(*agrees: bool) -> Trial:
    return Trial(candidate=Candidate(), noise=(0.0,) * len(agrees), agrees=agrees)


def test_one_answer_in_many_is_chance_and_several_are_not() -> None:
    good = trial(*[True] * 10)
    assert not answers_lost(good, trial(*[True] * 9, False))
    assert answers_lost(good, trial(*[True] * 7, *[False] * 3))
    assert not answers_lost(trial(*[True] * 7, *[False] * 3), good)


def rounded(noise: float, agreed: int = 10) -> Trial:
    agrees = tuple(number < agreed for number in range(10))
    return Trial(candidate=Candidate(), noise=(noise,) * 10, agrees=agrees)


def test_a_rival_wins_only_by_a_tenth_and_with_no_answers_lost() -> None:
    assert _best([rounded(0.010), rounded(0.0095)]) == 0
    assert _best([rounded(0.010), rounded(0.0060), rounded(0.0059)]) == 1
    assert _best([rounded(0.010), rounded(0.0060, agreed=5)]) == 0


def test_less_noise_is_worth_it_unless_leads_are_lost_by_more_than_chance() -> None:
    def leads(noise: float, *lost: float) -> Trial:
        return replace(rounded(noise), margin_lost=(*lost, *[0.01] * (10 - len(lost))))

    before = leads(0.010)
    assert worth(before, leads(0.008, 0.2))  # a greater loss, by one lead
    assert not worth(before, leads(0.008, *[0.2] * 6))
    assert not worth(before, leads(0.0095))
    assert worth(leads(0.010, *[0.2] * 6), leads(0.0099))  # hardly less noise, but less loss
    assert not worth(leads(0.010, *[0.2] * 6), leads(0.0101))


def test_rivals_are_rounded_only_where_weights_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rivals_wanted(ConversionRequest(scheme="int8"), FLOAT)
    assert not rivals_wanted(ConversionRequest(scheme="int8", keep=("zeros",)), FLOAT)
    assert not rivals_wanted(ConversionRequest(scheme="int16x8"), FLOAT)
    off = QualityRequest(bias_correction="off")
    assert not rivals_wanted(ConversionRequest(scheme="int8", quality=off), FLOAT)
    monkeypatch.setattr(rounding_run, "_WORK", 1e6)  # then the demo is a large model
    assert not rivals_wanted(ConversionRequest(scheme="int8"), FLOAT)


@pytest.mark.parametrize("winner", [0, 1])
def test_the_report_and_the_file_are_of_the_rounded_way_that_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: int
) -> None:
    """Who competes and who wins is set here; what follows from it is not."""
    rival = Candidate(ranges="octav", bias_correction=True)
    monkeypatch.setattr(selection_run, "rivals", lambda chosen, trials: [rival])
    monkeypatch.setattr(rounding_run, "_best", lambda after: winner)
    monkeypatch.setattr(rounding_run, "worth", lambda before, after: True)
    request = ConversionRequest(scheme="int8", quality=QualityRequest(ranges="minmax"))
    out = tmp_path / "o.tflite"
    made = quantize(FLOAT, request, out, dataset=demo_samples(), progress=Silent())
    quality = made.quality
    assert quality is not None
    assert quality["rounding"]["ways"] == 2
    assert quality["rounding"]["kept"]
    assert quality["chosen"]["ranges"] == ("minmax", "octav")[winner]
    assert ("once weights are rounded" in quality["why"]) is (winner == 1)
    assert sum("octav ranges" in note for note in made.notes) == winner
    assert quality["seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["o.tflite"]
