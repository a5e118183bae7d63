"""edgeopt itself is stopped or killed: what it held on the board, and who comes next."""

from __future__ import annotations

import signal
import time

from tools.lab import Ended, Lab, Session, stop
from tools.world import wait_until

_TTL = {"EDGEOPT_LEASE_TTL": "5"}
_ALONE_S = 40.0
# Another machine, as far as edgeopt can tell: the numbers of processes mean something else there.
_ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")


def _prepared(lab: Lab) -> Session:
    session = lab.begin("--prepare", **_TTL)
    assert lab.governors.changed(), "the governor was not set"
    return session


def _put_back(lab: Lab) -> None:
    """Without edgeopt: by the watcher on the board, when the lease shows no more life."""
    done = wait_until(lambda: not lab.governors.changed() and not lab.running(), _ALONE_S, 0.1)
    assert done, f"nobody put the board back: {lab.governors.changed()}, {lab.running()}"


def killed_prepared(lab: Lab) -> Ended:
    session = _prepared(lab)
    stop(session, signal.SIGKILL)
    ended = session.end()
    _put_back(lab)
    return ended


def cut_prepared(lab: Lab) -> Ended:
    session = _prepared(lab)
    lab.board.cut()
    session.happened()
    ended = session.end()
    _put_back(lab)
    return ended


def killed_before_another(lab: Lab) -> Ended:
    """Somebody on another machine waits for the board of one that was killed."""
    session = lab.begin(**_TTL)
    stop(session, signal.SIGKILL)
    session.end()
    other = lab.start("--runs", 20, "--wait", 60, before=_ELSEWHERE)
    return other.end()


def killed(lab: Lab) -> Ended:
    session = lab.begin()
    stop(session, signal.SIGKILL)
    return session.end()


def stopped_later(lab: Lab) -> Ended:
    """Ctrl-C when a process has ended and the next one is under way."""
    session = lab.second_process()
    stop(session, signal.SIGINT)
    return session.end()


def stopped_twice(lab: Lab) -> Ended:
    """Somebody who has no patience presses Ctrl-C again while it cleans up."""
    session = lab.begin()
    stop(session, signal.SIGINT)
    time.sleep(lab.random.uniform(0.05, 0.3))
    session.process.send_signal(signal.SIGINT)
    return session.end()
