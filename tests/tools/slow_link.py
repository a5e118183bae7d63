"""A TCP proxy with a limited rate, as a slow link in front of a real server. A real link has also
latency and losses; this one has neither."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

__all__ = ["SlowLink"]

_PIECE = 8192


class SlowLink:
    """Listens on 127.0.0.1:`port` and forwards to `target`, each direction of each connection at
    most `bits_s`. Small buffers, so that a sender feels the rate at once. `cut_after` bytes sent
    to the target in all, the link goes dead: both ends are closed."""

    def __init__(
        self, target: tuple[str, int], *, bits_s: float, cut_after: int | None = None
    ) -> None:
        self.forwarded = 0
        self._target, self._bytes_s, self._cut_after = target, bits_s / 8, cut_after
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> SlowLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
                far.connect(self._target)
                for sock in (near, far):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [near, far]
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        free_at = 0.0
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                # What this piece takes on the wire is waited for, less what was waited too long.
                free_at = max(free_at, time.monotonic() - 0.01) + len(piece) / self._bytes_s
                time.sleep(max(0.0, free_at - time.monotonic()))
                target.sendall(piece)
                self.forwarded += len(piece) if upwards else 0
                if self._cut_after is not None and self.forwarded > self._cut_after:
                    break
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
