"""A download that is led to another kind of address is given up."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import ToolError
from edgeopt.fetch import download


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/there":
            self.send_response(302)
            self.send_header("Location", "/here")
            self.end_headers()
            return
        if self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *_: Any) -> None:
        """Tests are silent."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Server) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def fetched(url: str, target: Path) -> None:
    download(url, target, what="It", by_hand="Fetch it.", max_bytes=100)


def test_a_redirection_of_the_same_kind_is_followed(server: str, tmp_path: Path) -> None:
    fetched(f"http://{server}/there", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"content"


def test_a_redirection_to_a_file_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="could not be fetched"):
        fetched(f"http://{server}/file", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_secure_address_that_leads_to_an_open_one_is_given_up(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double answers https as a server does that redirects to http: with the open address."""
    real = urllib.request.urlopen

    def led(url: str, **options: Any) -> Any:
        return real(url.replace("https:", "http:"), **options)

    monkeypatch.setattr(urllib.request, "urlopen", led)
    with pytest.raises(ToolError, match="another kind of address"):
        fetched(f"https://{server}/here", tmp_path / "x")
    assert not (tmp_path / "x").exists() or (tmp_path / "x").read_bytes() == b""
