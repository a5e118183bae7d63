"""What calling `invoke` from Python costs, measured where the model is measured."""

from __future__ import annotations

import base64
import time
from typing import Any

from .runtimes import make_interpreter

RUNS = 301
# A model of one float tensor and no operation: all that is left to time is the call. 172 bytes,
# schema version 3; tests/unit/test_native_overhead.py holds it against the schema's own writer.
EMPTY = base64.b64decode(
    b"GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAAIAAAAAQAAAACAAAAAMAAAAAAAAAAQAAABAAAAAMABQAEAAMAAgA"
    b"BAAMAAAAEAAAABAAAAAUAAAAGAAAAAAAAAABAAAAAAAAAAEAAAAAAAAAAQAAABAAAAAMAAwACAAAAAAABAAMAAAA"
    b"EAAAAAQAAAABAAAAAQAAAAEAAAB4AAAAAQAAAAgAAAAEAAQABAAAAA=="
)


def call_overhead_ns(request: dict[str, Any], runtime: Any) -> Any:
    """The median of an empty model's runs, in this process; None where a runtime refuses it."""
    if request["accelerator"] != "cpu":
        return None  # a delegate has costs of its own, and they are the accelerator's
    try:
        interpreter = make_interpreter(request, EMPTY, runtime)
        interpreter.allocate_tensors()
        invoke, clock, times = interpreter.invoke, time.perf_counter_ns, []
        for _ in range(RUNS):
            began = clock()
            invoke()
            times.append(clock() - began)
    except Exception:  # of any kind: an old runtime may want an operation, and that is all
        return None
    return sorted(times)[RUNS // 2]
