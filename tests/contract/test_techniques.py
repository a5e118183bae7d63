"""Every technique and combination as a user runs it: trained, converted, deployed to this machine,
and what was asked for found in the file that the device got."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.paths import demo_dir

pytestmark = pytest.mark.tf
SAMPLES = demo_dir() / "samples.npz"
MODEL = demo_dir() / "fashion.keras"
DATA = [
    "--train-data", f"{SAMPLES}:x,y", "--calibration", f"{SAMPLES}:x_calib",
    "--preprocess", "scale=1/255",
]  # fmt: skip
# Every combination, each with one of the schemes that may follow it.
SCHEMES = {
    ("prune",): "dynamic_int8",
    ("cluster",): "float16",
    ("qat",): "int8",
    ("prune", "cluster"): "int8",
    ("prune", "qat"): "int8",
    ("cluster", "qat"): "int16x8",
    ("prune", "cluster", "qat"): "int8",
}
# Each technique alone and all of them together; the pairs between them take minutes more.
FIRST = (("prune",), ("cluster",), ("qat",), ("prune", "cluster", "qat"))
PAIRS = tuple(t for t in SCHEMES if t not in FIRST)
OTHERS = [
    (t, s)
    for t, chosen in SCHEMES.items()
    for s in ("float32", "float16", "dynamic_int8", "int8", "int16x8")
    if s != chosen
]
WEIGHTS = {"float32": "float32", "float16": "float16"}


def edgeopt(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeopt", *arguments]
    environment = {**os.environ, "EDGEOPT_CACHE": str(cwd / "cache")}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=900, env=environment
    )


def flags(techniques: tuple[str, ...]) -> list[str]:
    return [word for name in techniques for word in ("--technique", name)]


def deployed(folder: Path, techniques: tuple[str, ...], scheme: str) -> dict[str, Any]:
    done = edgeopt(
        "deploy", str(MODEL), *flags(techniques), *DATA, "--epochs", "1", "--scheme", scheme,
        "--runs", "3", "--ranges", "minmax", "--equalization", "off", "--bias-correction", "off",
        "--output", f"{'-'.join(techniques)}-{scheme}.tflite", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def kernels(path: Path) -> dict[str, list[np.ndarray]]:
    """The stored kernels by operation, output channels first, read through the runtime alone."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    operations = interpreter._get_ops_details()
    widened = {o["outputs"][0]: o["inputs"][0] for o in operations if o["op_name"] == "DEQUANTIZE"}
    found: dict[str, list[np.ndarray]] = {}
    for operation in operations:
        if operation["op_name"] in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
            index = operation["inputs"][1]
            kernel = interpreter.get_tensor(widened.get(index, index))
            found.setdefault(operation["op_name"], []).append(kernel.reshape(len(kernel), -1))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow_model_optimization", reason="needs the train extra")
    return tmp_path_factory.mktemp("techniques")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """A deploy of each of FIRST, two at a time: most of each is one process's start."""
    first, *rest = FIRST
    made = {first: deployed(folder, first, SCHEMES[first])}  # fills the cache with the float model
    with ThreadPoolExecutor(2) as both:
        jobs = {t: both.submit(deployed, folder, t, SCHEMES[t]) for t in rest}
        return {**made, **{t: job.result() for t, job in jobs.items()}}


@pytest.fixture(scope="module")
def pairs(folder: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """The same of the other combinations."""
    with ThreadPoolExecutor(2) as both:
        jobs = {t: both.submit(deployed, folder, t, SCHEMES[t]) for t in PAIRS}
        return {t: job.result() for t, job in jobs.items()}


def values(array: np.ndarray) -> int:
    """How many there are; widened, since numpy's float16 sort is wrong on some processors."""
    return len(np.unique(array.astype(np.float32)))


def hold(report: dict[str, Any], path: Path, techniques: tuple[str, ...], scheme: str) -> None:
    """What was asked for is in the file: zeros, clusters and the type of the weights."""
    assert report["training"]["techniques"] == list(techniques)
    assert report["plan"]["scheme"] == scheme and report["parity"]["passed"]
    found = kernels(path)
    assert len(found["CONV_2D"]) == 5 and len(found["FULLY_CONNECTED"]) == 1
    for kernel in (*found["CONV_2D"], *found["FULLY_CONNECTED"]):
        assert kernel.dtype.name == WEIGHTS.get(scheme, "int8")
        if "prune" in techniques:
            assert (kernel == 0).mean() >= 0.8
        if "cluster" in techniques:
            assert max(values(channel) for channel in kernel) <= 16
            assert values(kernel) <= 16


@pytest.mark.parametrize("techniques", FIRST, ids="-".join)
def test_a_deploy_holds_what_its_techniques_promise(
    reports: dict[tuple[str, ...], dict[str, Any]], folder: Path, techniques: tuple[str, ...]
) -> None:
    scheme = SCHEMES[techniques]
    hold(
        reports[techniques], folder / f"{'-'.join(techniques)}-{scheme}.tflite", techniques, scheme
    )


@pytest.mark.slow
@pytest.mark.parametrize("techniques", PAIRS, ids="-".join)
def test_a_deploy_of_a_pair_holds_what_both_promise(
    pairs: dict[tuple[str, ...], dict[str, Any]], folder: Path, techniques: tuple[str, ...]
) -> None:
    scheme = SCHEMES[techniques]
    hold(pairs[techniques], folder / f"{'-'.join(techniques)}-{scheme}.tflite", techniques, scheme)


def test_the_trained_file_stands_between_source_and_result(
    reports: dict[tuple[str, ...], dict[str, Any]],
) -> None:
    for report in reports.values():
        stages = [a["stage"] for a in report["artifacts"]]
        assert stages == ["source", "float", "trained", "float", "optimized"]
        assert report["training"]["held_back"]["samples"] == 6


def test_depthwise_kernels_are_left_alone_unless_named(
    reports: dict[tuple[str, ...], dict[str, Any]], folder: Path
) -> None:
    found = kernels(folder / "prune-dynamic_int8.tflite")
    assert all((kernel == 0).mean() < 0.3 for kernel in found["DEPTHWISE_CONV_2D"])


def test_pruned_and_clustered_files_are_smaller_to_download(
    reports: dict[tuple[str, ...], dict[str, Any]],
) -> None:
    gzipped = {t: r["artifacts"][-1]["gzip_bytes"] for t, r in reports.items()}
    assert gzipped[("prune", "cluster", "qat")] < 0.65 * gzipped[("qat",)]


@pytest.mark.slow
def test_clustering_makes_a_pruned_file_smaller_still(
    reports: dict[tuple[str, ...], dict[str, Any]], pairs: dict[tuple[str, ...], dict[str, Any]]
) -> None:
    gzipped = {t: r["artifacts"][-1]["gzip_bytes"] for t, r in {**reports, **pairs}.items()}
    assert gzipped[("prune", "qat")] < 0.65 * gzipped[("qat",)]
    assert gzipped[("prune", "cluster", "qat")] < gzipped[("prune", "qat")]


def test_labels_of_another_data_set_are_exit_2_and_leave_nothing(folder: Path) -> None:
    with np.load(SAMPLES) as stored:
        np.savez(folder / "wrong.npz", x=stored["x"], y=stored["y"] + 5)
    done = edgeopt(
        "convert", str(MODEL), "--technique", "qat", "--train-data", "wrong.npz:x,y",
        "--preprocess", "scale=1/255", "--scheme", "float32", "--output", "wrong.tflite",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 2 and "labels are 5 to 14" in done.stderr
    assert not (folder / "wrong.tflite").exists()
    assert not [p for p in (folder / "cache").rglob(".edgeopt-*") if p.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize(("techniques", "scheme"), OTHERS)
def test_every_combination_holds_its_promise_in_every_scheme(
    reports: dict[tuple[str, ...], dict[str, Any]],
    pairs: dict[tuple[str, ...], dict[str, Any]],
    folder: Path,
    techniques: tuple[str, ...],
    scheme: str,
) -> None:
    report = deployed(folder, techniques, scheme)
    assert report["training"]["cached"]
    hold(report, folder / f"{'-'.join(techniques)}-{scheme}.tflite", techniques, scheme)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_and_ends_the_same(folder: Path) -> None:
    command = ["convert", str(MODEL), "--technique", "qat", *DATA, "--scheme", "int8", "--seed",
               "1", "--epochs", "30", "--json"]  # fmt: skip
    whole = json.loads(edgeopt(*command, "--output", "whole.tflite", cwd=folder).stdout)
    shutil.rmtree(folder / "cache" / "artifacts")
    running = subprocess.Popen(
        [sys.executable, "-m", "edgeopt", *command, "--output", "cut.tflite"],
        cwd=folder,
        env={**os.environ, "EDGEOPT_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list((folder / "cache").glob("checkpoints/*/state.npz")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    resumed = json.loads(edgeopt(*command, "--output", "cut.tflite", cwd=folder).stdout)
    assert resumed["training"]["resumed_from"] >= 1
    assert (folder / "cut.tflite").read_bytes() == (folder / "whole.tflite").read_bytes()
    assert whole["training"]["resumed_from"] == 0
    assert not list((folder / "cache").glob("checkpoints/*/state.npz"))


def _idx(path: Path, offset: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training images of Debian's dataset-fashion-mnist, as an .npz."""
    source = Path("/usr/share/datasets/fashion-mnist")
    if not source.is_dir():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    x = _idx(source / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    y = _idx(source / "train-labels-idx1-ubyte.gz", 8).astype(np.int64)
    path = tmp_path_factory.mktemp("fashion") / "train.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("techniques", "smaller"), [(("prune",), 2.0), (("cluster",), 1.4), (("qat",), 0.99)]
)
def test_the_figures_on_fashion_mnist(
    shared: Path, fashion: Path, folder: Path, techniques: tuple[str, ...], smaller: float
) -> None:
    """At most 1% of accuracy for at least that many times fewer bytes than dense int8 in gzip."""
    data = shared / "datasets" / "fashion_mnist"

    def converted(*words: str) -> dict[str, Any]:
        done = edgeopt(
            "convert", str(shared / "models" / "fmnist_dscnn" / "model.h5"), *words,
            "--calibration", f"{data / 'calib500.npz'}:x", "--preprocess", "scale=1/255",
            "--eval-data", f"{data / 'test10k.npz'}:x,y", "--scheme", "int8", "--json", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    dense = converted()
    assert dense["accuracy"]["drop"] <= 0.005
    report = converted(*flags(techniques), "--train-data", f"{fashion}:x,y")
    assert report["accuracy"]["drop"] <= 0.01
    size = report["artifacts"][-1]["gzip_bytes"]
    assert size <= dense["artifacts"][-1]["gzip_bytes"] / smaller
    if techniques == ("qat",):
        plain = converted("--ranges", "minmax", "--equalization", "off", "--bias-correction", "off")
        reached = report["accuracy"]["optimized"]
        assert reached >= plain["accuracy"]["optimized"]
        assert reached >= dense["accuracy"]["optimized"] - 0.001  # a third of a standard error
