"""The answers: JSON lines, and the error that the host explains."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

SCHEMA = "edgeopt.agent/1"


class AgentError(Exception):
    """What the host must explain: a code it knows, a text, and facts."""

    def __init__(self, code: str, text: str, **facts: Any) -> None:
        Exception.__init__(self, text)
        self.code = code
        self.facts = facts


class Lines:
    """JSON lines to the host, on a copy of stdout; stdout itself now leads to stderr.

    Libraries print to file descriptor 1 from C: that must not land between our lines.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.told = 0.0

    def say(self, event: str, **fields: Any) -> None:
        fields["event"] = event
        self.stream.write(json.dumps(fields, sort_keys=True) + "\n")
        self.stream.flush()

    def beat(self, phase: str, done: int, total: int) -> None:
        """At most once a second, and never inside a timed section."""
        if time.monotonic() - self.told > 1.0:
            self.told = time.monotonic()
            self.say("progress", phase=phase, done=done, total=total)
