"""Job: what the user asked for, checked once and passed whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.dataset import Preprocess
from edgeopt.effort import Effort
from edgeopt.errors import InputError
from edgeopt.load import Load
from edgeopt.quality import QualityRequest
from edgeopt.training import TrainingRequest

__all__ = ["Job"]

_UNBOUNDED = ("mae", "mse", "rmse", "wer", "cer", "sqnr_db")  # metrics that may fall by over 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """The flags of convert, compile, deploy and benchmark as values. Times in seconds.

    `target` is a name or file (None: the device's own in devices.toml, else cpu). `device` is a
    name or URL (None: `local`). `runtime` None: the target's own. `output` is a folder, or the path
    of the final .tflite. `goal` is "accuracy", "latency", "size" or None (the target's own).
    `parity_samples` are run on the device and on the host, and compared;
    `tolerance` overrides the parity tolerance, in units of the model's output. `profile` names the
    kernels to profile with ("xnnpack" or "builtin"), None: no profile; `load` None: no load.
    """

    model: Path
    target: str | None = None
    device: str | None = None
    calibration: str | None = None
    train_data: str | None = None
    eval_data: str | None = None
    metric: str | None = None
    decode: str | None = None
    labels: str | None = None
    on_device: bool = False
    preprocess: Preprocess = field(default_factory=Preprocess)
    goal: str | None = None
    training: TrainingRequest = field(default_factory=TrainingRequest)
    quality: QualityRequest = field(default_factory=QualityRequest)
    scheme: str | None = None
    io: str | None = None
    batch: int = 1
    calibration_samples: int | None = None
    effort: Effort = field(default_factory=Effort)
    threads: int = 1
    timeout_s: float = 600.0
    wait_s: float = 600.0  # for a device that another has
    parity_samples: int = 8
    tolerance: float | None = None
    max_accuracy_drop: float | None = None
    compiler: str | None = None
    compiler_flags: Mapping[str, str] = field(default_factory=dict)
    benchmark_binary: Path | None = None
    device_python: str | None = None
    runtime: str | None = None
    conditions: str = "judge"
    prepare: bool = False
    cores: str | None = None
    retries: int = 0
    cool_down_s: float = 60.0
    native_library: Path | None = None
    offline: bool = False
    keep: bool = True
    run: bool = True
    profile: str | None = None
    load: Load | None = None
    output: Path | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "parity_samples"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, not {getattr(self, name)}.")
        if self.device_python is not None and not self.device_python.strip():
            raise InputError("--device-python names nothing.", "Give a program on the device.")
        if self.goal not in (None, "accuracy", "latency", "size"):
            raise InputError(
                f"There is no goal named {self.goal!r}.", "Use accuracy, latency or size."
            )
        if self.training.techniques and self.train_data is None:
            raise InputError(
                f"--technique {self.training.techniques[0]} needs labelled data to train with.",
                "Give it with --train-data: class subfolders of images, .npz:x,y or "
                "module:function.",
            )
        if self.on_device and (self.eval_data is None or not self.run):
            raise InputError(
                "--on-device measures accuracy on the device: it needs data, and a run there.",
                "Give --eval-data DATA and leave out --no-run, or leave out --on-device.",
            )
        if self.conditions not in ("judge", "report"):
            raise InputError(f"--conditions is judge or report, not {self.conditions!r}.")
        if self.retries < 0 or not self.cool_down_s >= 0:
            raise InputError("--retries and --cool-down count from 0.")
        if not self.wait_s >= 0:
            raise InputError(f"--wait cannot be negative ({self.wait_s:g}).")
        if not self.timeout_s > 0:
            raise InputError(f"--timeout must be more than 0 seconds, not {self.timeout_s:g}.")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise InputError(f"--tolerance cannot be {self.tolerance:g}: give 0 or more.")
        unbounded = (self.metric or "").partition("@")[0] in _UNBOUNDED
        most = math.inf if unbounded else 1.0
        if self.max_accuracy_drop is not None and not 0 <= self.max_accuracy_drop <= most:
            raise InputError(
                f"--max-accuracy-drop is a fraction of 0 to 1, not {self.max_accuracy_drop:g}.",
                "One percentage point is 0.01.",
            )
