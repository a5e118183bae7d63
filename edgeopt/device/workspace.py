"""Workspace: the one private folder on a device that edgeopt keeps to, over any transport.

Files are named by their content, `<sha256><suffix>`, and the device computes that hash itself
before a file is trusted: what is already there is not sent again, what arrived damaged is never
used. A push goes to a temporary name, is hashed on the device, then renamed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgeopt.artifact import hash_path, tree_files
from edgeopt.device import scripts
from edgeopt.device.leftovers import host_tag, is_dead, session_word
from edgeopt.device.packing import UNPACKERS, Transfer
from edgeopt.device.preparing import scripts as prepare_scripts
from edgeopt.device.printable import tail
from edgeopt.device.sending import Sender
from edgeopt.device.transport import Completed, Transport
from edgeopt.errors import DeviceError

__all__ = ["Placed", "Workspace"]

_STEP_S = 60.0  # a script, beside what it has to hash
_SLOWEST_HASH_BYTES_S = 5_000_000  # a worn SD card
_SUFFIX = re.compile(r"[A-Za-z0-9._-]{0,32}")
_REASONS = {
    11: ("cannot make its work folder {root}", "Give a writable one with workdir in devices.toml."),
    12: ("has a work folder {root} that belongs to another user", "Give one with workdir."),
    13: (
        "has a work folder {root} that other users can write to",
        "A model there could be replaced: chmod 700 it, or give another with workdir.",
    ),
    14: ("cannot write to its work folder {root}", "Give a writable one with workdir."),
    19: (
        "stays prepared (--prepare): its frequency governor could not be put back",
        "Put it back as root there: /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor.",
    ),
    24: ("has no space left for {root}", "Free some, or give a workdir elsewhere."),
    16: ("cannot finish a file in {root}", "Check its file system."),
    21: ("has no sha256sum, so nothing sent to it can be checked", "Install coreutils there."),
    22: ("cannot hash a file in {root}", "Check its storage."),
}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a file (or folder) is on the device, and how much of it crossed the link for that."""

    path: str
    sent_bytes: int
    transfer: Transfer | None = None  # None: nothing had to be sent, or it was a folder


class Workspace:
    """`root` may begin with ~ (the device's home). Nothing is touched before the first `put`."""

    def __init__(
        self,
        transport: Transport,
        *,
        root: str,
        limit_bytes: int,
        prepare_command: tuple[str, ...] = (),
    ) -> None:
        self.transport = transport
        self.sender = Sender(transport)
        self.limit_bytes = limit_bytes
        self.prepare_command = prepare_command
        self._wanted_root = root
        self._root: str | None = None
        self._tag = f"{host_tag()}-{secrets.token_hex(4)}"
        self._count = 0
        self._used: set[str] = set()  # entries this session relies on: nobody removes them
        self._uses = f"run-{self._tag}-uses"  # their list on the device, for other sessions
        self._unwanted: set[str] = set()  # entries to remove at the end
        self._placed: dict[str, Placed] = {}  # whole on the device, within `discarding`
        self._nested = 0
        self._over = False
        self._lost = False  # a step got no answer: cleaning up would only wait once more

    @property
    def root(self) -> str:
        """The absolute path on the device; makes the folder (0700) when it is not there."""
        if self._root is None:
            self._prepare("", "", 0)
        assert self._root is not None
        return self._root

    def put(
        self,
        source: Path,
        *,
        sha256: str,
        suffix: str,
        mode: int = 0o600,
        on_bytes: Callable[[int], None] | None = None,
        keep: bool = True,
    ) -> Placed:
        """Have `source` on the device as `<sha256><suffix>`; sent only when it is not there.

        `on_bytes` gets the number of bytes sent so far. With `keep` False it is removed when the
        workspace closes. Raises DeviceError (disk full, read-only, damaged on the way, link cut).
        """
        if not _SUFFIX.fullmatch(suffix) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"not a content-addressed name: {sha256!r} {suffix!r}")
        name, size = sha256 + suffix, source.stat().st_size
        self._claim(name, keep)
        if name in self._placed:
            return self._placed[name]
        have = self._prepare(name, sha256, size)
        path = f"{self.root}/{name}"
        if have:
            return self._remember(name, path)
        with self._temporary() as temporary:
            remote = f"{self.root}/{temporary}"
            transfer = self.sender.send(source, remote, on_bytes)
            words = (temporary, name, sha256, f"{mode:o}")
            found = self._seal(*words, size=size)
            if found and transfer.compression:  # its decompressor made something else of it
                transfer = self.sender.send(source, remote, on_bytes, packed=False)
                found = self._seal(*words, size=size)
            if found:
                raise self._damaged(f"sha256 {found} instead of {sha256}")
        self._remember(name, path)
        return Placed(path=path, sent_bytes=transfer.bytes, transfer=transfer)

    def claim(self, sha256: str, suffix: str, *, keep: bool) -> None:
        """Count a file that may be there as put: with `keep` False the next discard removes it."""
        self._claim(sha256 + suffix, keep)

    def put_tree(
        self, folder: Path, *, on_bytes: Callable[[int], None] | None = None, keep: bool = True
    ) -> Placed:
        """Have a folder of files on the device, under the hash of its content; sent when it is not.

        Links are followed; files that may be executed here may be executed there.
        """
        files = list(tree_files(folder))
        listing = [_listed(folder, file) for file in files]
        name = hash_path(folder) + ".d"
        size = sum(file.stat().st_size for file in files)
        self._claim(name, keep)
        if name in self._placed:
            return self._placed[name]
        self._prepare(name, "", size)
        words = [word for row in listing for word in row]
        if self._step(scripts.SEAL_TREE, name, name, *words, may=(17,)).exit_code == 0:
            return self._remember(name, f"{self.root}/{name}")
        with self._temporary() as temporary:
            folders = {str(Path(row[2]).parent) for row in listing}
            self._step(scripts.SEAL_TREE, temporary, "new", *sorted(folders))
            done = sent = 0
            for file, (_, _, relative) in zip(files, listing, strict=True):
                sent += self._push(file, f"{temporary}/{relative}", on_bytes, done)
                done += file.stat().st_size
            answer = self._step(scripts.SEAL_TREE, temporary, name, *words, may=(17,))
            if answer.exit_code:
                raise self._damaged(tail(answer.stdout) or folder.name)
        self._remember(name, f"{self.root}/{name}")
        return Placed(path=f"{self.root}/{name}", sent_bytes=sent)

    @contextmanager
    def run_dir(self) -> Iterator[str]:
        """A fresh folder for one run's results; gone afterwards, whatever happened."""
        root, name = self.root, f"run-{self._next()}"
        self._step(scripts.MAKE_DIR, name)
        try:
            yield f"{root}/{name}"
        finally:
            self._forget(name)

    def remove(self, path: str) -> None:
        """Remove one entry of the work folder, given as `put` returned it."""
        name = path.removeprefix(self.root + "/")
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"not an entry of the work folder: {path!r}")
        self._step(scripts.REMOVE, name)
        self._placed.pop(name, None)
        self._used.discard(name)
        self._unwanted.discard(name)

    def clean(self) -> int:
        """Remove everything edgeopt put on the device. Returns the bytes freed."""
        root, back = self._root or self._wanted_root, prepare_scripts.RESTORE
        answer = self._script(scripts.CLEAN, root, back, *self.prepare_command)
        self._check(answer)
        self._root = None
        self._used.clear()
        self._placed.clear()
        self._unwanted.clear()
        lines = [line.split() for line in answer.stdout.decode(errors="replace").splitlines()]
        return sum(int(row[4]) for row in lines if len(row) > 4 and row[4].isdigit())

    def discard(self) -> None:
        """Remove what was put with `keep` False; the folder too when nothing else is in it."""
        if self._unwanted and not self._lost:
            self._release(self._used - self._unwanted)

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Discard at the end of the outermost block: on success, on errors and on Ctrl-C.

        What was put within it is not looked for again: this session's list keeps it there.
        """
        self._nested += 1
        try:
            yield
        except BaseException:
            with suppress(DeviceError):  # what went wrong first is what counts
                self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        self._nested -= 1
        if not self._nested:
            self._placed.clear()
            self.discard()

    def _remember(self, name: str, path: str) -> Placed:
        placed = Placed(path=path, sent_bytes=0)
        if self._nested:
            self._placed[name] = placed
        return placed

    def close(self) -> None:
        """Discard, let go of the rest, then remove the oldest entries beyond the limit.

        On a link that no longer answers that is left to the next session's sweep.
        """
        if self._lost:
            return
        if self._root:
            self._release(set())
        if self._over and self._root:
            self._over = False
            self._step(scripts.TRIM, str(self.limit_bytes // 1024))

    def _release(self, still: set[str]) -> None:
        """Use only `still` from now on; what was not to be kept goes, unless others use it."""
        unwanted, self._unwanted = sorted(self._unwanted), set()
        self._used = still
        if self._root:
            self._step(scripts.DISCARD, self._uses, " ".join(sorted(still)), *unwanted)

    def _prepare(self, name: str, sha256: str, size: int) -> bool:
        """Make the folder, sweep it, make room; True when the wanted file is there and whole."""
        root = self._root or self._wanted_root
        limit_kb, size_kb = self.limit_bytes // 1024, -(-size // 1024)
        names = (name, sha256, self._uses)
        look = "" if self._root else session_word(all_processes=True)  # once a session
        words_in = (root, str(limit_kb), *names, str(size_kb), " ".join(UNPACKERS), look)
        answer = self._script(scripts.PREPARE, *words_in, timeout_s=_hashing_s(size))
        self._check(answer)
        head, found, resolved = answer.stdout.decode(errors="surrogateescape").partition("root /")
        if not found:
            raise DeviceError(
                f"{self.transport.name} answered the work folder check with"
                f" {tail(answer.stdout + answer.stderr) or 'nothing'}.",
                "Its shell must be a POSIX sh.",
            )
        self._root = "/" + resolved.rstrip("/")
        words = [line.split() for line in head.splitlines()]
        numbers = {w[0]: int(w[1]) for w in words if len(w) == 2 and w[1].isdigit()}
        self.sender.unpackers = tuple(w[1] for w in words if len(w) == 2 and w[0] == "can")
        self._over = numbers.get("used", 0) > limit_kb
        self._end([(w[1], w[2]) for w in words if len(w) == 3 and w[0] == "runs"])
        self._sweep([w[1] for w in words if len(w) == 2 and w[0] == "left"])
        self._put_back([w[1] for w in words if len(w) == 2 and w[0] == "unheld"])
        have = ["have"] in words
        if not have and "free" in numbers and size > numbers["free"] * 1024:
            raise DeviceError(
                f"{self.transport.name} has {_size(numbers['free'] * 1024)} free for {self._root};"
                f" this push needs {_size(size)}.",
                "Free some space there, or give a workdir on another file system.",
            )
        return have

    def _end(self, running: list[tuple[str, str]]) -> None:
        """End what still runs there for a session of this machine that was killed.

        Each is a process of the device, and the process here that started it.
        """
        dead = [pid for pid, tag in running if pid.isdigit() and is_dead(tag)]
        if dead:
            self._check(self._script(scripts.END, *dead))

    def _sweep(self, left: list[str]) -> None:
        """Remove leftovers of sessions of this machine that were killed."""
        mine = self._tag.rpartition("-")[2]
        dead = [n for n in left if mine not in n and is_dead(n.partition("-")[2])]
        self._put_back([n for n in dead if n.startswith(prepare_scripts.PREFIX)])
        dead = [n for n in dead if not n.startswith(prepare_scripts.PREFIX)]
        if dead:
            self._step(scripts.REMOVE, *dead)

    def _put_back(self, records: list[str]) -> None:
        """What sessions that ended otherwise had prepared; what cannot be is kept for `clean`."""
        for name in records:
            if name.startswith(prepare_scripts.PREFIX) and "/" not in name:
                self._step(prepare_scripts.RESTORE, name, *self.prepare_command, may=(18,))

    @contextmanager
    def _temporary(self) -> Iterator[str]:
        """A name that is removed unless the block ends well; also on Ctrl-C."""
        name = f"tmp-{self._next()}"
        try:
            yield name
        except BaseException as error:
            if isinstance(error, DeviceError) and "timeout_s" in error.details:
                self._lost = True  # what swallows a file in silence swallows a command as well
            self._forget(name)
            raise

    def _push(
        self,
        source: Path,
        name: str,
        on_bytes: Callable[[int], None] | None,
        already: int,
    ) -> int:
        report = (lambda done: on_bytes(already + done)) if on_bytes else None
        return self.sender.send(source, f"{self.root}/{name}", report).bytes

    def _seal(self, *words: str, size: int) -> str:
        """Hash it there, then give it its name. Else it is removed: its hash, which is another."""
        answer = self._step(scripts.SEAL, *words, may=(15,), timeout_s=_hashing_s(size))
        return tail(answer.stdout) or "unknown" if answer.exit_code == 15 else ""

    def _damaged(self, what: str) -> DeviceError:
        return DeviceError(
            f"The file on {self.transport.name} is not the one that was sent ({what}).",
            "It was removed. Try again; if it repeats, check the device's storage and memory, and"
            " that nothing writes to the source while it is sent.",
        )

    def _next(self) -> str:
        self._count += 1
        return f"{self._tag}-{self._count}"

    def _claim(self, name: str, keep: bool) -> None:
        self._used.add(name)
        if not keep:
            self._unwanted.add(name)

    def _forget(self, name: str) -> None:
        """Remove now if the link still works, else leave it to the next session's sweep."""
        if self._lost:
            return
        with suppress(DeviceError):
            self._script(scripts.REMOVE, self.root, name, timeout_s=10)

    def _step(
        self, script: str, *words: str, may: tuple[int, ...] = (), timeout_s: float = _STEP_S
    ) -> Completed:
        answer = self._script(script, self.root, *words, timeout_s=timeout_s)
        if answer.exit_code not in may:
            self._check(answer)
        return answer

    def _script(self, script: str, *words: str, timeout_s: float = _STEP_S) -> Completed:
        try:
            return self.transport.run(["sh", "-c", script, "edgeopt", *words], timeout_s=timeout_s)
        except DeviceError:
            self._lost = True
            raise

    def _check(self, answer: Completed) -> None:
        """Turn a script's exit code and stderr into what happened to the device."""
        if answer.exit_code == 0:
            return
        said = tail(answer.stderr)
        what, hint = _REASONS.get(
            answer.exit_code, (f"failed a step in {{root}} (exit {answer.exit_code})", "")
        )
        root = self._root or self._wanted_root
        said = f": {said}" if said else ""
        raise DeviceError(f"{self.transport.name} {what.format(root=root)}{said}.", hint)


def _size(size_bytes: int) -> str:
    return (
        f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 10_000_000 else f"{size_bytes / 1e3:.0f} kB"
    )


def _hashing_s(size_bytes: int) -> float:
    return _STEP_S + size_bytes / _SLOWEST_HASH_BYTES_S


def _listed(folder: Path, file: Path) -> tuple[str, str, str]:
    """mode, sha256 and relative name of one file."""
    mode = "700" if file.stat().st_mode & 0o100 else "600"
    return mode, hash_path(file), file.relative_to(folder).as_posix()
