"""What may be asked of libedgetpu's plugin. Pure."""

from __future__ import annotations

import re

from edgeopt.errors import InputError

__all__ = ["PERFORMANCES", "delegate_options"]

PERFORMANCES = ("Low", "Medium", "High", "Max")  # 63, 125, 250 and 500 MHz
_DEVICE = re.compile(r"|usb|pci|(usb|pci)?:[0-9]{1,3}")


def delegate_options(device: str, performance: str) -> dict[str, str]:
    """The options for libedgetpu's plugin. Raises InputError for what it would not heed.

    Read from edgetpu_delegate_for_custom_op_tflite_plugin.cc: a malformed device opens nothing, and
    options other than `device` are forwarded only when `device` has an index.
    """
    if not _DEVICE.fullmatch(device):
        raise InputError(
            f"{device!r} is no Edge TPU device.", "Write usb, pci, :N, usb:N or pci:N (N from 0)."
        )
    if performance and performance not in PERFORMANCES:
        raise InputError(
            f"{performance!r} is no Edge TPU performance.", f"Known: {', '.join(PERFORMANCES)}."
        )
    if performance and ":" not in device:
        raise InputError(
            f"libedgetpu ignores Performance unless the device has an index, and it is {device!r}.",
            "Write edgetpu_device as :0, usb:0 or pci:0.",
        )
    options = {"device": device} if device else {}
    return {**options, "Performance": performance} if performance else options
