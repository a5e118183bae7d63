"""A stand-in of Google's apt repository: an HTTP server of this machine, with a package whose
compiler is a double, and says so."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import lzma
import subprocess
import tarfile
import time
from pathlib import Path

DOUBLE = Path(__file__).parents[1] / "tools" / "edgetpu_compiler_double"
LIST = "dists/coral-edgetpu-stable/main/binary-amd64/Packages"
RELEASE = "dists/coral-edgetpu-stable/Release"
Entry = tuple[str, bytes, bytes, str]  # name, type, content, where a link leads


def tar(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, content, link in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname, info.mode = kind, len(content), link, 0o755
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def control(**fields: str) -> bytes:
    known = {"Package": "edgetpu-compiler", "Version": "16.0", "Architecture": "amd64"} | fields
    text = "".join(f"{key}: {value}\n" for key, value in known.items())
    return gzip.compress(tar(("./control", tarfile.REGTYPE, text.encode(), "")))


def ar(*members: tuple[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


PROGRAM: Entry = ("./usr/bin/edgetpu_compiler", tarfile.REGTYPE, DOUBLE.read_bytes(), "")


def deb(*more: Entry, packed: str = ".xz", head: bytes = b"", program: Entry = PROGRAM) -> bytes:
    data = tar(("./usr/bin", tarfile.DIRTYPE, b"", ""), program, *more)
    data = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes, ".zst": _zstd}[packed](data)
    members = ("debian-binary", b"2.0\n"), ("control.tar.gz", head or control())
    return ar(*members, (f"data.tar{packed}", data))


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


class Repository(http.server.ThreadingHTTPServer):
    """What it serves, by path. `cut` ends every .deb half way, `slow` sends it in small pieces."""

    files: dict[str, bytes]
    cut = slow = False
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/apt"

    def offers(self, package: bytes, *, release: bool = True, **fields: str) -> None:
        known = {
            "Package": "edgetpu-compiler",
            "Architecture": "amd64",
            "Version": "16.0",
            "Filename": "pool/coral-edgetpu-stable/edgetpu-compiler_16.0_amd64.deb",
            "Size": str(len(package)),
            "SHA256": hashlib.sha256(package).hexdigest(),
        } | fields
        old = {**known, "Version": "15.0", "Filename": "pool/old.deb", "SHA256": "0" * 64}
        other = {**known, "Package": "libedgetpu1-std", "Version": "99"}
        text = "\n".join(
            "".join(f"{key}: {value}\n" for key, value in stanza.items())
            for stanza in (old, known, other)
        )
        self.files = {known["Filename"]: package, LIST: text.encode()}
        self.files[f"{LIST}.gz"] = gzip.compress(text.encode())
        if release:
            self.release()

    def release(self) -> None:
        rows = [
            f" {hashlib.sha256(self.files[name]).hexdigest()} {len(self.files[name])} "
            f"{name.removeprefix('dists/coral-edgetpu-stable/')}"
            for name in (LIST, f"{LIST}.gz")
        ]
        self.files[RELEASE] = "\n".join(["Suite: x", "SHA256:", *rows, ""]).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        path = self.path.removeprefix("/apt/")
        self.server.asked.append(path)
        if path not in self.server.files:
            self.send_error(404)
            return
        data = self.server.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if path.endswith(".deb") and self.server.cut:
            data = data[: len(data) // 2]
        if path.endswith(".deb") and self.server.slow:
            self.wfile.write(data[:1000])
            self.wfile.flush()
            time.sleep(30)
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...
