"""A GPU run counts only when the log proves it; a CPU time never passes for a GPU time."""

from __future__ import annotations

import pytest

from edgeopt.device.benchmark.gpu_proof import prove_gpu

CREATED = "INFO: Created 1 GPU delegate kernels."
COMPLETE = (
    "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by"
    " the delegate."
)
PARTIAL = (
    "INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the"
    " delegate w/ 2 delegate kernels."
)
REPLACED = (
    "INFO: Replacing 60 out of 66 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3"
    " partitions for the whole graph."
)


def test_a_built_kernel_proves_the_gpu() -> None:
    assert prove_gpu(CREATED).proven


def test_completely_executed_is_a_full_gpu_run() -> None:
    proof = prove_gpu(f"{REPLACED.replace('60', '66')}\nInitialized OpenCL-based API.\n{COMPLETE}")
    assert (proof.proven, proof.full, proof.backend) == (True, True, "OpenCL")
    assert proof.accelerator == "gpu"


def test_partially_executed_says_how_much() -> None:
    proof = prove_gpu(f"{REPLACED}\n{CREATED}\n{PARTIAL}")
    assert (proof.proven, proof.full) == (True, False)
    assert proof.accelerator == "gpu (partial: 2 kernels, 60 of 66 operations)"


def test_replaced_nodes_alone_prove_nothing() -> None:
    proof = prove_gpu(REPLACED)
    assert not proof.proven
    assert "nothing of a GPU kernel" in proof.against[0]


@pytest.mark.parametrize("log", ["", "GPU delegate created.", "Loaded OpenCL library with dlopen.",
    "INFO: Created TensorFlow Lite delegate for GPU.", "INFO: Initialized OpenCL-based API.",
    "Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the"
    " delegate.", "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."])  # fmt: skip
def test_a_delegate_that_only_exists_proves_nothing(log: str) -> None:
    assert not prove_gpu(log).proven


AGAINST = [
    "WARN: Unconsumed cmdline flags: --use_gpu=true --gpu_precision_loss_allowed=true",
    "WARN: GPU acceleration is unsupported on this platform.",
    "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the"
    " delegate.",
    "ERROR: No operations will run on the GPU, and all 66 operations will run on the CPU.",
    "INFO: Created 0 GPU delegate kernels.",
    "ERROR: Failed to apply GPU delegate.",
    "ERROR: Restored original execution plan after delegate application failure.",
    "ERROR: TfLiteGpuDelegate Init: Batch size mismatch",
    "ERROR: TfLiteGpuDelegate Prepare: delegate is not initialized",
    "ERROR: TfLiteGpuDelegate Invoke: GpuDelegate must run on the same thread where it was"
    " initialized.",
    "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that"
    " has dynamic-sized tensors (tensor#5 is a dynamic-sized tensor).",
    "ERROR: Disallowed CPU fallback detected.",
    "Hint fully delegated to single delegate is set, but the graph is not fully delegated.",
    "Some ops are not accelerated. Add kLiteRtHwAcceleratorCpu to the compilation accelerator set",
]


@pytest.mark.parametrize("line", AGAINST)
def test_one_sign_against_outweighs_every_proof(line: str) -> None:
    proof = prove_gpu(f"{CREATED}\n{COMPLETE}\n{line}")
    assert not proof.proven
    assert proof.accelerator == "cpu"
    assert proof.against


@pytest.mark.parametrize(
    "line",
    [
        "INFO: 60 operations will run on the GPU, and the remaining 6 operations will run on the"
        " CPU.",
        "First 60 operations will run on the GPU, and the remaining 6 on the CPU.",
        "Only the first 60 ops will run on the GPU, and the remaining 6 on the CPU.",
        "Replacing 60 out of 66 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2"
        " partitions.",
    ],
)
def test_the_split_is_read_in_every_eras_words(line: str) -> None:
    proof = prove_gpu(f"{line}\n{CREATED}")
    assert (proof.operations_gpu, proof.operations_total, proof.full) == (60, 66, False)


def test_the_oldest_count_of_replaced_nodes_leaves_the_extent_unknown() -> None:
    line = "Replacing 60 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 2 partitions."
    proof = prove_gpu(f"{line}\n{CREATED}")
    assert (proof.proven, proof.full) == (True, None)
    assert proof.accelerator == "gpu (extent unknown: 1 kernel)"


def test_nodes_given_to_another_delegate_are_not_the_gpus() -> None:
    line = REPLACED.replace("TfLiteGpuDelegateV2", "TfLiteXNNPackDelegate")
    assert prove_gpu(f"{line}\n{CREATED}").operations_total is None


@pytest.mark.parametrize("head", ["Following", "Next"])
def test_operations_the_gpu_does_not_take_are_named(head: str) -> None:
    log = f"ERROR: {head} operations are not supported by GPU delegate:\n" + (
        "TOPK_V2: Operation is not supported.\n"
        "CONV_2D: Max version supported: 5. Requested version 8.\n"
        "64 operations will run on the GPU, and the remaining 2 operations will run on the CPU.\n"
    )
    assert prove_gpu(log).unsupported == (
        "TOPK_V2: Operation is not supported.",
        "CONV_2D: Max version supported: 5. Requested version 8.",
    )


def test_every_recorded_phrase_of_the_source_is_judged_as_recorded(shared: object) -> None:
    """Against the phrases read from LiteRT's source, where they are at hand."""
    import json
    import re
    from pathlib import Path

    assert isinstance(shared, Path)
    rules = json.loads((shared / "android_gpu/op_rules.json").read_text())
    for row in rules["benchmark_model_log"]:
        text = re.sub(r"%d", "3", row["text"])
        proven = row.get("gpu_applied") in ("full", "partial")
        assert prove_gpu(text).proven is proven, text
