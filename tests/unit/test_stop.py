"""Threads end when they are told to, and clean up undisturbed."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from edgeopt import stop
from edgeopt.device.inventory import DeviceSpec
from edgeopt.device.local import connect


def in_thread(told: stop.Stop, work: object) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def body() -> None:
        with stop.heeding(told):
            try:
                work()  # type: ignore[operator]
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                caught.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, caught


def test_a_command_of_a_thread_that_is_told_to_stop_is_killed_at_once(tmp_path: Path) -> None:
    told, mark = stop.Stop(), tmp_path / "started"
    words = [sys.executable, "-c", f"import time; open({str(mark)!r}, 'w'); time.sleep(60)"]
    here = connect(DeviceSpec(name="local", kind="local"), 1)
    thread, caught = in_thread(told, lambda: here.run(words, timeout_s=60))
    while not mark.exists():
        time.sleep(0.01)
    told.ask()
    thread.join(5)
    assert not thread.is_alive() and isinstance(caught[0], stop.Stopped)


def test_what_cleans_up_is_not_stopped_once_more() -> None:
    told, cleaned = stop.Stop(), []

    def work() -> None:
        try:
            stop.sleep(60)
        finally:
            stop.sleep(0.01)
            cleaned.append(True)

    thread, caught = in_thread(told, work)
    told.ask()
    thread.join(5)
    assert cleaned == [True] and isinstance(caught[0], KeyboardInterrupt)


def test_a_wait_that_nothing_else_ends_is_ended_by_its_call() -> None:
    told, ended = stop.Stop(), threading.Event()

    def work() -> None:
        with stop.on_stop(ended.set):
            ended.wait(60)

    thread, _ = in_thread(told, work)
    told.ask()
    thread.join(5)
    assert not thread.is_alive()


def test_threads_that_heed_nothing_are_left_alone() -> None:
    other = stop.Stop()
    other.ask()
    stop.check()
    with stop.heeding(other), pytest.raises(stop.Stopped):
        stop.check()
    stop.check()
