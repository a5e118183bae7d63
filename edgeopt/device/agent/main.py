"""The modes of the agent, its deadline, its lock."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import sys
import time
from typing import Any

from .attend import attend
from .lines import SCHEMA, AgentError, Lines
from .readings import facts, readings
from .runtimes import load_runtime
from .timing import measure

REQUEST_S = 120  # for the request to arrive, else its sender is gone
GRACE_S = 5  # after the deadline the kernel ends us, inside C code too, when nobody listens too


def take_lock(path: Any, request: dict[str, Any], lines: Lines) -> Any:
    """One measurement at a time; the kernel lets go of the lock however we end."""
    if not path:
        return None
    import fcntl

    stream = open(path, "a")
    end = time.monotonic() + request["lock_wait_s"]
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return stream
        except OSError:
            if time.monotonic() > end:
                raise AgentError("busy", "another run of edgeopt has this device") from None
            lines.beat("waiting for another run", 0, 0)
            time.sleep(0.2)


def pin(cores: Any) -> None:
    """Run on these cores alone, we and all threads to come."""
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
    except (AttributeError, OSError, ValueError) as error:
        raise AgentError("cores", "cannot run on cores {}: {}".format(cores, error)) from None


def run(request: dict[str, Any], lines: Lines) -> None:
    pin(request.get("cores"))
    _lock = take_lock(request.get("lock"), request, lines)  # held until we end
    with open(request["model"], "rb") as stream:
        model = stream.read()
    digest = hashlib.sha256(model).hexdigest()
    if digest != request["model_sha256"]:
        raise AgentError("model_hash", digest)
    result = work_of(request["mode"])(request, model, lines)
    lines.say("result", model_sha256=digest, facts=facts(), **result)


def work_of(mode: str) -> Any:
    """What a mode does with a model; the rarer ones are imported only when they are asked for."""
    if mode == "profile":
        from .profile import profile

        return profile
    if mode == "load":
        from .load import load

        return load
    if mode == "turns":
        from .turns import turns

        return turns
    return measure


def probe(request: dict[str, Any], lines: Lines) -> None:
    """Which runtimes import here, for `doctor`. TensorFlow takes 10 s: only when it must serve."""
    found: dict[str, Any] = {}
    for name in request["runtimes"]:
        if not (found and name == "tensorflow"):
            try:
                found[name] = load_runtime([name])[1] or "unknown"
            except AgentError:
                pass
    lines.say("probe", runtimes=found, facts=facts(), readings=readings())


def main() -> int:
    sys.path[:1] = []  # the work folder holds nothing to import, and must not shadow anything
    os.environ.setdefault("KERAS_HOME", os.devnull)  # else tensorflow leaves a ~/.keras
    lines = Lines()
    lines.say("hello", schema=SCHEMA, python=platform.python_version(), pid=os.getpid())
    if hasattr(signal, "alarm"):
        signal.alarm(REQUEST_S)
    try:
        request = json.loads(sys.stdin.readline())
        attend(request.get("silence_s"))
        if hasattr(signal, "alarm"):
            signal.alarm(int(request["deadline_s"]) + GRACE_S)
        modes = {"run": run, "profile": run, "load": run, "turns": run, "probe": probe}
        modes[request["mode"]](request, lines)
        return 0
    except AgentError as error:
        lines.say("error", code=error.code, text=str(error), facts=error.facts)
    except Exception as error:  # told to the host, which names the stage it happened in
        lines.say("error", code="failed", text=type(error).__name__ + ": " + str(error), facts={})
    return 3
