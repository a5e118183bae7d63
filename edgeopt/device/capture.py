"""What a command on a device prints, kept up to a bound: a broken board must not eat our memory."""

from __future__ import annotations

from collections.abc import Callable

from edgeopt.errors import DeviceError

__all__ = ["MAX_OUTPUT_BYTES", "MAX_PULL_BYTES", "Capture", "deadline_passed"]

MAX_OUTPUT_BYTES = 64 << 20  # far above any answer we ask for; larger results come as files
MAX_PULL_BYTES = 2 << 30


class Capture:
    """One output stream of the command on `name`; `keep` False only hands it on."""

    def __init__(
        self, name: str, on_chunk: Callable[[bytes], None] | None = None, *, keep: bool = True
    ) -> None:
        self.name = name
        self._keep = keep
        self._on_chunk = on_chunk
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Keep `chunk`. Raises DeviceError when the command has printed too much."""
        if self._on_chunk:
            self._on_chunk(chunk)
        if not self._keep:
            return
        self._size += len(chunk)
        if self._size > MAX_OUTPUT_BYTES:
            raise DeviceError(
                f"A command on {self.name} printed more than {MAX_OUTPUT_BYTES >> 20} MB"
                " and was ended.",
                "That is no answer edgeopt asks for: look at what runs there.",
            )
        self._chunks.append(chunk)

    def content(self) -> bytes:
        return b"".join(self._chunks)


def deadline_passed(name: str, argv: tuple[str, ...], timeout_s: float) -> DeviceError:
    """The error for a command that did not end in time and was killed."""
    word = argv[0].rpartition("/")[2] if argv else "?"
    return DeviceError(
        f"{word} on {name} did not end within {timeout_s:.3g} s and was killed.",
        "Raise the timeout if the device is only slow; else look at what blocks it there.",
        details={"timeout_s": timeout_s},
    )
