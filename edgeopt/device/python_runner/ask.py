"""The agent's rarer modes: a profile and a load, which answer with fields of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.device.device import Device
from edgeopt.device.edgetpu.run import prepared
from edgeopt.device.packing import Transfer
from edgeopt.device.python_runner.answer import Listener
from edgeopt.device.python_runner.runner import (
    _failure,
    _message,
    _place,
    _start,
    _validate,
    python_command,
)
from edgeopt.device.run import RunRequest
from edgeopt.errors import DeviceError
from edgeopt.progress import Progress

__all__ = ["Told", "ask"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """`fields` is the agent's `result`, unchecked but for the model's hash."""

    fields: Mapping[str, Any]
    transfer: Transfer | None
    notes: tuple[str, ...]


def ask(
    device: Device, request: RunRequest, mode: str, asked: Mapping[str, Any], progress: Progress
) -> Told:
    """Run the agent in `mode`, with `asked` under that key of the request.

    Raises what a run raises (agent_runner.run): a crash of the process there is named with its
    stage. With `keep` False nothing stays on the device.
    """
    _validate(request)
    chip = None
    if request.accelerator == "edgetpu":
        chip = prepared(device, python_command(device), request.options)
    with device.workspace.discarding(), tempfile.TemporaryDirectory() as folder:
        placed = _place(device, request, progress, Path(folder))
        message = {**_message(device, request, placed, None, chip), "mode": mode, mode: asked}
        listener = Listener()
        listener.on_progress = lambda phase, done, total: progress.advance(done, total)
        progress.stage(f"{mode.capitalize()} on {device.transport.name}")
        done = _start(device, placed.agent, message, request.timeout_s, listener)
    if "result" not in listener.lines or done.exit_code != 0:
        raise _failure(device, done, listener, chip)
    fields = listener.lines["result"]
    if fields.get("model_sha256") != request.sha256:
        raise DeviceError(
            f"{device.transport.name} reads another model than was sent.", "Check its storage."
        )
    return Told(fields=fields, transfer=placed.transfer, notes=chip.choice.notes if chip else ())
