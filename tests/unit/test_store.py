"""The cache and the published files: whole or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.store import Store, publish, scratch


def _make(text: str, calls: list[str] | None = None):
    def make(path: Path) -> dict[str, str]:
        if calls is not None:
            calls.append(text)
        path.write_text(text)
        return {"made": text}

    return make


def test_an_entry_is_made_once_and_found_again(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), list[str]()
    first = store.build("k", "a.bin", _make("one", calls))
    again = store.build("k", "a.bin", _make("two", calls))
    assert calls == ["one"]
    assert first.fresh and not again.fresh
    assert again.path.read_text() == "one" and again.meta == {"made": "one"}


def test_an_entry_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.build("k", "a.bin", _make("one")).path.write_text("flipped")
    assert store.get("k") is None
    assert store.build("k", "a.bin", _make("two")).path.read_text() == "two"


@pytest.mark.parametrize(
    "sidecar", ["", "{}", "[]", '{"name": "../../x", "sha256": "", "meta": {}}']
)
def test_a_damaged_sidecar_is_not_believed(tmp_path: Path, sidecar: str) -> None:
    store = Store(tmp_path)
    path = store.build("k", "a.bin", _make("one")).path
    (path.parent / "entry.json").write_text(sidecar)
    assert store.get("k") is None


def test_a_failing_maker_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(path: Path) -> dict[str, str]:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build("k", "a.bin", fail)
    assert list(store.root.iterdir()) == []


def _race(root: str, text: str) -> None:
    Store(Path(root)).build("k", "a.bin", _make(text * 100_000))


def test_two_processes_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_race, args=(str(tmp_path), t)) for t in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    entry = Store(tmp_path).get("k")
    assert entry is not None and len(set(entry.path.read_text())) == 1
    assert [p.name for p in Store(tmp_path).root.iterdir()] == ["k"]


def test_the_oldest_entries_go_when_the_limit_is_passed(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=2500)
    for number, name in enumerate("abc"):
        entry = store.build(name, "x.bin", _make("x" * 1000))
        os.utime(entry.path.parent, (number, number))
    assert store.get("a") is None and store.get("c") is not None


def test_keys_differ_with_every_part() -> None:
    base = Store.key(stage="s", batch=1)
    assert base == Store.key(batch=1, stage="s")
    assert len({base, Store.key(stage="s", batch=2), Store.key(stage="t", batch=1)}) == 3


def test_publishing_replaces_whole_files_and_leaves_no_temporary(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_text("new")
    target = tmp_path / "out" / "t"
    publish(source, target)
    publish(source, target)
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["t"]


def test_publishing_where_a_folder_is_says_so(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_text("new")
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match="Cannot write"):
        publish(source, tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == ["s", "t"]


def test_scratch_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch(tmp_path) as folder:
        (folder / "x").write_text(json.dumps({}))
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_the_cache_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def make(path: Path) -> dict[str, object]:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        store.build("a" * 64, "x", make)
    assert list(store.root.iterdir()) == []


def test_what_a_killed_process_left_in_the_cache_goes_in_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = (store.root / f".edgeopt-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    days_ago = time.time() - 3 * 86_400
    os.utime(old, (days_ago, days_ago))
    store.build("a" * 64, "x", _make("y"))
    assert new.exists() and not old.exists()
