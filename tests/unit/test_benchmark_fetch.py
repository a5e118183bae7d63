"""The published program is fetched once, over a real connection, and a changed one is refused."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt import paths
from edgeopt.device.benchmark.fetch import fetch_benchmark_binary, platform_of
from edgeopt.errors import ToolError

PROGRAM = b"\x7fELF this stands for a program"


class Server(http.server.ThreadingHTTPServer):
    content = PROGRAM
    length: int | None = None
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/2.2.0/linux_x86_64/benchmark_model":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.length or len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, platform: str = "linux_x86_64", offline: bool = False) -> Path:
    return fetch_benchmark_binary("2.2.0", platform, base_url=server.url, offline=offline)


def test_it_is_downloaded_once_and_may_be_executed(server: Server) -> None:
    paths_seen = {fetch(server), fetch(server)}
    (binary,) = paths_seen
    assert binary.read_bytes() == PROGRAM
    assert binary.stat().st_mode & 0o777 == 0o700
    assert server.requests == 1


def test_a_changed_file_on_disk_is_refused(server: Server) -> None:
    fetch(server).write_bytes(PROGRAM + b"!")
    with pytest.raises(ToolError, match="is not the benchmark_model that was fetched before"):
        fetch(server)


def test_a_changed_file_on_the_server_is_refused(server: Server) -> None:
    fetch(server).unlink()
    server.content = PROGRAM + b"!"
    with pytest.raises(ToolError, match="is not the benchmark_model that was fetched before"):
        fetch(server)
    assert not list(paths.state_dir().rglob("*.part"))


@pytest.mark.parametrize(("content", "length"), [(b"<html>log in</html>", None), (PROGRAM, 999)])
def test_what_is_no_whole_program_is_not_kept(
    server: Server, content: bytes, length: int | None
) -> None:
    server.content, server.length = content, length
    with pytest.raises(ToolError):
        fetch(server)
    assert [p for p in paths.state_dir().rglob("*") if p.is_file()] == []


def test_a_platform_that_is_not_published_fails_with_the_way_out(server: Server) -> None:
    with pytest.raises(ToolError, match="404") as caught:
        fetch(server, "linux_arm64")
    assert "--benchmark-binary" in caught.value.hint


def test_offline_says_what_to_do_by_hand(server: Server) -> None:
    with pytest.raises(ToolError, match="--offline") as caught:
        fetch(server, offline=True)
    assert caught.value.exit_code == 4
    assert "--benchmark-binary PATH" in caught.value.hint
    assert server.requests == 0


def test_no_network_says_what_to_do_by_hand() -> None:
    with pytest.raises(ToolError, match="could not be fetched") as caught:
        fetch_benchmark_binary("2.2.0", "linux_arm64", base_url="http://127.0.0.1:1")
    assert "--benchmark-binary PATH" in caught.value.hint


@pytest.mark.parametrize("version", ["../../x", "", "a/b", "-"])
def test_a_version_cannot_lead_elsewhere(version: str) -> None:
    with pytest.raises(ToolError):
        fetch_benchmark_binary(version, "linux_x86_64", base_url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        ({"android": "14", "os": "Linux", "arch": "aarch64"}, "android_arm64"),
        ({"android": None, "os": "Linux", "arch": "x86_64"}, "linux_x86_64"),
        ({"android": None, "os": "Linux", "arch": "aarch64"}, "linux_arm64"),
        ({"os": "Darwin", "arch": "arm64"}, "macos_arm64"),
    ],
)
def test_the_platform_follows_from_the_devices_facts(
    facts: dict[str, object], platform: str
) -> None:
    assert platform_of(facts) == platform


def test_an_unpublished_processor_is_said_and_not_guessed() -> None:
    with pytest.raises(ToolError, match="armv7l"):
        platform_of({"android": "9", "os": "Linux", "arch": "armv7l"})
