"""What is asked of a device, and what it answered: the values between pipeline and runners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeopt.device.packing import Transfer

    Array = NDArray[np.generic]

__all__ = ["RunRequest", "RunResult"]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One process on the device: one model, some inputs, so many timed runs.

    `inputs` are the parity samples: per sample one array per model input, in the model's own
    input order, already quantized to the input type. Timing cycles over them; when empty the agent
    makes seeded random inputs. `accelerator` is "cpu", "gpu" or "edgetpu": what was asked for, so
    anything else that ran is a failure and not a result.

    With `time_s` 0 there are exactly `runs` timed runs; else at least `runs`, and until that many
    seconds were spent in them, but never above `max_runs`. `warmup` None: until the times have
    settled.
    """

    model: Path
    sha256: str
    accelerator: str = "cpu"
    runs: int = 50
    time_s: float = 0.0
    max_runs: int = 10_000_000
    warmup: int | None = 5
    threads: int = 1
    cores: tuple[int, ...] = ()  # to run on these alone
    inputs: tuple[tuple[Array, ...], ...] = ()
    want_outputs: bool = True
    keep: bool = True
    keep_inputs: bool = True  # the samples too, for a run to come
    timeout_s: float = 600.0
    options: Mapping[str, str] = field(default_factory=dict)  # runtime-specific, e.g. precision


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Raw answers; statistics are made from them on the host. None is "not measured".

    `outputs` matches `RunRequest.inputs` sample by sample, one array per model output.
    `samples_ns` is None where the runtime prints only summaries (benchmark_model): those are then
    in `summary_ns` ("mean", "min", "max", "stdev", "count") and no percentile may be claimed.
    """

    runtime: str  # "ai_edge_litert", "tflite_runtime", "tensorflow", "pycoral", "benchmark_model"
    runtime_version: str | None
    accelerator: str  # what really ran
    model_sha256: str  # as the device reads it
    warmup_ns: tuple[int, ...] | None
    samples_ns: tuple[int, ...] | None
    first_ns: int | None
    init_ns: int | None
    peak_rss_bytes: int | None
    outputs: tuple[tuple[Array, ...], ...] | None
    summary_ns: Mapping[str, float] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # cpu, os, arch, memory ...
    conditions: Mapping[str, Any] = field(default_factory=dict)  # before/after readings
    invalid_reasons: tuple[str, ...] = ()
    base_rss_bytes: int | None = None  # of that peak, what the runtime needs without a model
    seconds: float | None = None  # wall time from the start of the process to its end
    notes: tuple[str, ...] = ()  # what the reader should know; the figures stay valid
    sent_bytes: int = 0  # model bytes that crossed the link for this run
    transfer: Transfer | None = None  # how they did; None when the model was there already
    log: str = ""
