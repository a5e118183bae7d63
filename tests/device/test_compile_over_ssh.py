"""edgetpu_compiler on another host: a real sshd, the real ssh client, a double as the compiler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tools.sshd import Sshd, why_no_sshd

from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.edgetpu import compile_model, compile_together
from edgeopt.errors import InputError, ToolError
from edgeopt.progress import Silent

pytestmark = pytest.mark.device

DOUBLE = Path(__file__).parents[1] / "tools" / "edgetpu_compiler_double"
GOOD = "Model compiled successfully in 1 ms.\nCompilation succeeded! \n"


@dataclass
class Host:
    """A compile host: its address with the double's path, its temporary folder, its script."""

    sshd: Sshd
    source: Path
    folder: Path

    @property
    def far_tmp(self) -> Path:
        return self.folder / "far tmp"

    @property
    def address(self) -> str:
        return f"{self.sshd.url}{DOUBLE}"

    def plays(self, **script: Any) -> None:
        (self.folder / "play.json").write_text(json.dumps(script))

    def compile(self, address: str = "", **options: Any) -> CompileResult:
        extra = {"ssh_config": str(self.folder / "ssh_config")}
        settings = CompileOptions(compiler=address or self.address, extra=extra, **options)
        return compile_model(self.source, self.folder / "out", settings, Silent())

    def knows(self, text: str) -> None:
        (self.folder / "known_hosts").write_text(text)

    def leftovers(self, wait_s: float = 8.0) -> list[str]:
        """What is still in its temporary folder once it had the time to clean up."""
        deadline = time.monotonic() + wait_s
        while (left := [p.name for p in self.far_tmp.iterdir()]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


@pytest.fixture
def host(tmp_path: Path, shared: Path) -> Iterator[Host]:
    if reason := why_no_sshd():
        pytest.skip(reason)
    far = f'SetEnv EDGEOPT_COMPILER_DOUBLE={tmp_path}/play.json "TMPDIR={tmp_path}/far tmp"\n'
    source = shared / "edgetpu" / "models" / "split_concat.tflite"
    with Sshd(tmp_path / "board", extra=far) as sshd:
        made = Host(sshd, source, tmp_path)
        made.far_tmp.mkdir()
        made.plays(stdout=GOOD, compiled=str(source.with_name("split_concat_edgetpu.tflite")))
        public = (sshd.folder / "host_ed25519.pub").read_text()
        made.knows(f"[{sshd.host}]:{sshd.port} {public}")
        (tmp_path / "ssh_config").write_text(
            f"IdentityFile {sshd.key}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {tmp_path}/known_hosts\n"
        )
        yield made


def test_the_model_goes_there_and_the_compiled_file_comes_back(host: Host) -> None:
    host.plays(
        stdout=GOOD,
        compiled=str(host.source.with_name("split_concat_edgetpu.tflite")),
        record=str(host.folder / "seen.json"),
        log="a log",
    )
    found = host.compile()
    seen = json.loads((host.folder / "seen.json").read_text())
    assert seen["bytes"] == host.source.stat().st_size
    assert seen["cwd"].startswith(str(host.far_tmp))
    assert (
        found.path.read_bytes() == host.source.with_name("split_concat_edgetpu.tflite").read_bytes()
    )
    assert found.is_double and found.compiler_version == "16.0.384591198"
    assert found.log is not None and "a log" in found.log.read_text()
    assert host.leftovers() == []


def test_several_models_go_there_in_order_and_come_back_each(host: Host) -> None:
    names = ("mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.5_160_quant")
    folder = host.source.parent
    sources = [folder / f"{name}.tflite" for name in names]
    made = [
        folder / f"{one}_cocompiled_with_{other}_edgetpu.tflite"
        for one, other in (names, names[::-1])
    ]
    record = host.folder / "seen.json"
    host.plays(stdout=GOOD, compiled=[str(path) for path in made], record=str(record))
    extra = {"ssh_config": str(host.folder / "ssh_config")}
    options = CompileOptions(compiler=host.address, extra=extra)
    found = compile_together(sources, host.folder / "out", options, Silent())
    seen = json.loads(record.read_text())
    assert seen["sizes"] == [path.stat().st_size for path in sources]
    assert seen["argv"][-2:] == ["model_0.tflite", "model_1.tflite"]
    assert [r.path.read_bytes() for r in found] == [path.read_bytes() for path in made]
    assert found[0].details["caching_token"] == found[1].details["caching_token"]
    assert host.leftovers() == []


def test_an_unknown_or_changed_host_key_is_refused(host: Host) -> None:
    pinned = (host.folder / "known_hosts").read_text()
    host.knows("")
    with pytest.raises(ToolError, match="Host key verification failed"):
        host.compile()
    host.knows(pinned)
    host.sshd.new_host_key()
    with pytest.raises(ToolError) as caught:
        host.compile()
    assert "not the one you accepted" in caught.value.hint


def test_a_host_without_the_compiler_says_so(host: Host) -> None:
    with pytest.raises(ToolError, match="has no /opt/none/edgetpu_compiler"):
        host.compile(f"{host.sshd.url}/opt/none/edgetpu_compiler")
    assert host.leftovers() == []


def test_a_failure_there_is_explained_as_one_here(host: Host) -> None:
    host.plays(stderr="flux capacitor overheated", exit_code=7)
    with pytest.raises(ToolError, match="flux capacitor") as caught:
        host.compile()
    assert caught.value.returncode == 7
    assert host.leftovers() == []


def test_the_deadline_ends_the_compiler_there(host: Host) -> None:
    host.plays(sleep_s=60, record=str(host.folder / "seen.json"))
    with pytest.raises(ToolError, match="did not finish"):
        host.compile(timeout_s=1)
    pid = json.loads((host.folder / "seen.json").read_text())["pid"]
    assert not Path(f"/proc/{pid}").exists()
    assert host.leftovers() == []


def test_nobody_there_is_a_tool_error(host: Host) -> None:
    host.sshd.stop()
    with pytest.raises(ToolError, match="Connection refused"):
        host.compile()


@pytest.mark.parametrize(
    "address", ["ssh://", "ssh://-oProxyCommand=x", "ssh://a@b:notaport", "ssh://u:pw@h"]
)
def test_a_malformed_address_is_refused(shared: Path, tmp_path: Path, address: str) -> None:
    source = shared / "edgetpu" / "models" / "split_concat.tflite"
    with pytest.raises(InputError) as caught:
        compile_model(source, tmp_path, CompileOptions(compiler=address), Silent())
    assert "pw" not in caught.value.message


def test_ctrl_c_here_ends_the_compiler_there_and_removes_its_folder(host: Host) -> None:
    seen = host.folder / "seen.json"
    host.plays(sleep_s=60, record=str(seen))
    code = (
        "import sys; from pathlib import Path; from edgeopt.compile.edgetpu import compile_model\n"
        "from edgeopt.compile import CompileOptions; from edgeopt.progress import Silent\n"
        "options = CompileOptions(compiler=sys.argv[3], extra={'ssh_config': sys.argv[4]})\n"
        "compile_model(Path(sys.argv[1]), Path(sys.argv[2]), options, Silent())"
    )
    words = [str(host.source), str(host.folder / "out"), host.address]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words, str(host.folder / "ssh_config")],
        env={**os.environ, "PYTHONPATH": str(DOUBLE.parents[2])},
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 20
        while not (seen.exists() and seen.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert host.leftovers() == []
    assert not Path(f"/proc/{json.loads(seen.read_text())['pid']}").exists()
