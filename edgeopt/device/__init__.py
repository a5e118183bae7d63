"""Devices: reach one (local, ssh, adb), keep to one folder on it, run a model there."""

from __future__ import annotations

from edgeopt.device.device import Device, connect
from edgeopt.device.inventory import DeviceSpec, list_devices, resolve
from edgeopt.device.leasing.holding import held, reached
from edgeopt.device.runner import clean, host_outputs, run
from edgeopt.device.workspace import Placed, Workspace

__all__ = [
    "Device",
    "DeviceSpec",
    "Placed",
    "Workspace",
    "clean",
    "connect",
    "held",
    "host_outputs",
    "list_devices",
    "reached",
    "resolve",
    "run",
]
