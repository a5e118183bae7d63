"""Did the GPU really run? Read from the log of TensorFlow Lite's classic GPU delegate. Pure.

benchmark_model ignores flags it does not know and goes on without a delegate that fails, and a CPU
time would pass for a GPU time. So a run counts only when the log proves it: by the number of GPU
kernels that were built, or by the benchmark's own statement about the graph. One sign against it
outweighs every sign for it. Phrases: google-ai-edge/LiteRT, delegates/gpu/delegate.cc,
tools/benchmark/benchmark_tflite_model.cc, core/subgraph.cc, and their older wordings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeopt.device.printable import clean_text

__all__ = ["GpuProof", "prove_gpu"]

_KERNELS = re.compile(r"Created (\d{1,6}) GPU delegate kernels")
_APPLIED = re.compile(
    r"Explicitly applied GPU delegate, and the model graph will be"
    r" (completely|partially) executed by the delegate(?: w/ (\d{1,6}) delegate kernels)?"
)
# Both eras: 2019 and 2020 said "First N" or "Only the first N ops", since then "N operations".
_SPLIT = re.compile(
    r"(?:Only the first|First)?\s*(\d{1,6}) (?:ops|operations) will run on the GPU,"
    r" and the remaining (\d{1,6})",
    re.IGNORECASE,
)
_REPLACED = re.compile(
    r"Replacing (\d{1,6})(?: out of (\d{1,6}))? node\(s\) with delegate \((\w*Gpu\w*)\)"
)
_UNSUPPORTED = re.compile(r"(?:Following|Next) operations are not supported by GPU delegate")
_BACKEND = re.compile(r"Initialized (OpenCL|OpenGL)-based API")
_OPERATION = re.compile(r"^(?:ERROR: |INFO: |WARN: )?([A-Z][A-Z0-9_]{1,40}: .+)$")

_AGAINST: tuple[tuple[str, str], ...] = (
    (r"Unconsumed cmdline flags:.*--use_gpu", "this benchmark_model does not know --use_gpu"),
    (r"GPU acceleration is unsupported", "this benchmark_model has no GPU for this platform"),
    (r"will not be executed by the delegate", "no part of the model was given to the GPU"),
    (r"No operations will run on the GPU", "the GPU takes none of the model's operations"),
    (r"Created 0 GPU delegate kernels", "no GPU kernel was built"),
    (r"(?:Failed to apply|Error applying|Failed to create) (?:the )?GPU delegate",
     "the GPU delegate could not be applied"),
    (r"(?:Failed to apply|Error applying) delegate", "the delegate could not be applied"),
    (r"Restored original execution plan", "the delegate failed and the CPU took over"),
    (r"TfLiteGpuDelegate Init: ", "the GPU kernels could not be built"),
    (r"TfLiteGpuDelegate Prepare: ", "the GPU kernels were not ready"),
    (r"TfLiteGpuDelegate Invoke: ", "the GPU failed while running"),
    (r"only supports static-sized tensors", "the model has tensors of dynamic size"),
    (r"must run on the same thread", "OpenGL was used from another thread"),
    (r"Disallowed CPU fallback detected", "not all of the model fits the GPU, as was required"),
    (r"graph is not fully delegated", "not all of the model fits the GPU, as was required"),
    (r"Some ops are not accelerated", "not all of the model fits the GPU, as was required"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GpuProof:
    """`proven` alone decides. `full` None: the log does not say whether the CPU had a part.

    `against` are the signs that it was no GPU run, in our words and the log's; `unsupported` the
    operations the delegate named as not its own.
    """

    proven: bool
    full: bool | None
    kernels: int | None
    operations_gpu: int | None
    operations_total: int | None
    backend: str | None  # "OpenCL" or "OpenGL"
    against: tuple[str, ...]
    unsupported: tuple[str, ...]

    @property
    def accelerator(self) -> str:
        """How a result names what ran: "gpu", or "gpu (partial: ...)" when the CPU had a part."""
        if not self.proven:
            return "cpu"
        if self.full:
            return "gpu"
        parts = ["partial" if self.full is False else "extent unknown"]
        if self.kernels is not None:
            parts.append(f"{self.kernels} kernel{'s' * (self.kernels != 1)}")
        if self.operations_total:
            parts.append(f"{self.operations_gpu} of {self.operations_total} operations")
        return f"gpu ({parts[0]}: {', '.join(parts[1:])})" if parts[1:] else f"gpu ({parts[0]})"

    def to_json(self) -> dict[str, Any]:
        return {
            "proven": self.proven,
            "full": self.full,
            "kernels": self.kernels,
            "operations_gpu": self.operations_gpu,
            "operations_total": self.operations_total,
            "backend": self.backend,
            "against": list(self.against),
            "unsupported": list(self.unsupported),
        }


def prove_gpu(log: str) -> GpuProof:
    """What `log` proves about one run that was asked to use the GPU."""
    lines = [clean_text(line.strip(), 2000) for line in log.splitlines()]
    against = tuple(_against(lines))
    created = [int(k) for k in _all(_KERNELS, lines, 1)]
    applied = _last(_APPLIED, lines)
    if applied and applied[2]:
        created.append(int(applied[2]))
    kernels = created[-1] if created else None
    proven = not against and (bool(kernels) or (applied is not None and applied[2] is None))
    gpu, total = _operations(lines)
    backends = _all(_BACKEND, lines, 1)
    return GpuProof(
        proven=proven,
        full=_full(applied[1] if applied else None, gpu, total) if proven else False,
        kernels=kernels,
        operations_gpu=gpu,
        operations_total=total,
        backend=backends[-1] if backends else None,
        against=against or (() if proven else ("the log says nothing of a GPU kernel",)),
        unsupported=tuple(_unsupported(lines)),
    )


def _against(lines: list[str]) -> Iterable[str]:
    for pattern, meaning in _AGAINST:
        for line in lines:
            if re.search(pattern, line):
                yield f"{meaning} (log: {line[:200]})"
                break


def _full(applied: str | None, gpu: int | None, total: int | None) -> bool | None:
    if applied == "partially" or (gpu is not None and total is not None and gpu < total):
        return False
    if applied == "completely" or (gpu is not None and gpu == total):
        return True
    return None


def _operations(lines: list[str]) -> tuple[int | None, int | None]:
    """Operations on the GPU and in all: of the split the delegate announces, else of the graph."""
    if split := _last(_SPLIT, lines):
        return int(split[1]), int(split[1]) + int(split[2])
    if replaced := _last(_REPLACED, lines):
        return int(replaced[1]), int(replaced[2]) if replaced[2] else None
    return None, None


def _unsupported(lines: list[str]) -> Iterable[str]:
    """The `OPERATION: reason` lines that follow the delegate's announcement."""
    for start, line in enumerate(lines):
        if _UNSUPPORTED.search(line):
            for row in lines[start + 1 : start + 51]:
                found = _OPERATION.match(row)
                if found is None:
                    break
                yield found[1][:200]


def _all(pattern: re.Pattern[str], lines: list[str], group: int) -> list[str]:
    return [found[group] for line in lines if (found := pattern.search(line))]


def _last(pattern: re.Pattern[str], lines: list[str]) -> re.Match[str] | None:
    return next((found for line in reversed(lines) if (found := pattern.search(line))), None)
