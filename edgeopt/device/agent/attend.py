"""A run ends soon after nobody waits for it any more, also when the link fell silent.

The host sends a line every few seconds. A process of its own listens: it wakes only for those
lines, needs no lock that an inference holds, and dies with the agent.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

ALONE = "SIGUSR1"  # how the agent dies then: the host, should it listen again, can tell why
_LAST_S = 1.0  # after which what the agent had started is killed with it


def attend(silence_s: Any) -> None:
    """End this process when stdin closes, or brings nothing for `silence_s`. None: never."""
    if not silence_s or not hasattr(os, "fork"):
        return
    ours, theirs = os.pipe()
    agent = os.getpid()
    if os.fork() == 0:
        try:
            os.dup2(ours, 1)
            os.closerange(2, 256)
            if not watch(0, 1, float(silence_s)):
                end(agent)
        finally:
            os._exit(0)
    os.close(ours)  # `theirs` closes when we end, however that happens


def watch(beats: int, alive: int, silence_s: float) -> bool:
    """True when the agent ended by itself (`alive` closed), False when nobody waits for it."""
    while True:
        ready = select.select([beats, alive], [], [], silence_s)[0]
        if alive in ready:
            return True
        if not ready or not os.read(beats, 4096):
            return False


def end(agent: int) -> None:
    """The agent by a signal that says why, then the rest of the group if it is a session's own."""
    try:
        os.kill(agent, getattr(signal, ALONE))
        time.sleep(_LAST_S)
        if os.getpgrp() == os.getsid(0):
            os.killpg(os.getpgrp(), signal.SIGKILL)
    except OSError:  # it has just ended
        pass
