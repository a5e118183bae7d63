"""edgetpu_compiler in a container image; the engine is a double of ours unless it is said."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from relu_chain import ENDED, block, chain, compiled, script, written

from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.container_host import ContainerHost
from edgeopt.compile.edgetpu import compile_model, compile_together
from edgeopt.errors import InputError, ToolError
from edgeopt.progress import Silent

TOOLS = Path(__file__).parents[1] / "tools"
IMAGE = "registry.test/edge:1"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path, chain=chain(0, 3))["chain"]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH whose docker is the double; the file where its calls are written."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy2(TOOLS / "docker_double", folder / "docker")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("EDGEOPT_CONTAINER_PROGRAM", str(TOOLS / "edgetpu_compiler_double"))
    monkeypatch.setenv("EDGEOPT_CONTAINER_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("EDGEOPT_COMPILER_DOUBLE", str(tmp_path / "play.json"))
    made = written(tmp_path, made=compiled(chain(0, 3)))["made"]
    text = "Model compiled successfully in 1 ms.\nCompilation succeeded! \n"
    script(tmp_path / "play.json", stdout=text, compiled=str(made))
    return tmp_path / "calls"


def run(source: Path, out: Path, **options: Any) -> CompileResult:
    settings = {"compiler": f"container:{IMAGE}", **options}
    return compile_model(source, out, CompileOptions(**settings), Silent())


def test_the_container_gets_no_network_and_one_folder(
    engine: Path, source: Path, tmp_path: Path
) -> None:
    found = run(source, tmp_path / "out")
    version, compile_call = [json.loads(line) for line in engine.read_text().splitlines()]
    assert version[-3:] == [IMAGE, "edgetpu_compiler", "--version"]
    assert compile_call[:4] == ["run", "--rm", "--network", "none"]
    at = compile_call.index(IMAGE)
    assert compile_call[at : at + 3] == [IMAGE, "edgetpu_compiler", "-s"]
    assert compile_call[-3:] == ["-o", "out", "model.tflite"]
    assert compile_call[compile_call.index("-w") + 1] == "/work"
    assert compile_call.count("-v") == 1
    assert not Path(compile_call[compile_call.index("-v") + 1].removesuffix(":/work")).exists()
    assert found.path.is_file() and found.is_double
    assert found.compiler_kind == "program in a container image"


def test_several_models_and_segments_pass_through_the_container(
    engine: Path, tmp_path: Path
) -> None:
    models = written(tmp_path, a=chain(0, 3), b=chain(0, 2))
    made = written(tmp_path, x=compiled(chain(0, 3)), y=compiled(chain(0, 2)))
    text = "Models compiled successfully in 9 ms.\n\n" + block("model_0", 3) + block("model_1", 2)
    script(tmp_path / "play.json", compiled=[str(p) for p in made.values()], stdout=text + ENDED)
    options = CompileOptions(compiler=f"container:{IMAGE}")
    both = compile_together(list(models.values()), tmp_path / "out", options, Silent())
    assert [r.path.name for r in both] == ["a_edgetpu.tflite", "b_edgetpu.tflite"]
    call = json.loads(engine.read_text().splitlines()[-1])
    assert call[-4:] == ["-o", "out", "model_0.tflite", "model_1.tflite"]
    pieces = written(tmp_path, s=compiled(chain(0, 1)), t=compiled(chain(1, 3)))
    script(tmp_path / "play.json", segments=[str(p) for p in pieces.values()], stdout=ENDED)
    found = run(models["a"], tmp_path / "out", extra={"num_segments": "2"})
    assert [s.placement.ops_total for s in found.segments] == [1, 2]


def test_a_container_is_removed_by_name_at_the_deadline(
    engine: Path, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "play.json").write_text(json.dumps({"sleep_s": 60}))
    with pytest.raises(ToolError, match="did not finish"):
        run(source, tmp_path / "out", timeout_s=1.5)
    calls = [json.loads(line) for line in engine.read_text().splitlines()]
    name = calls[-2][calls[-2].index("--name") + 1]
    assert calls[-1] == ["rm", "-f", name]


@pytest.mark.parametrize(
    ("code", "words"), [(125, "could not start"), (127, "has no edgetpu_compiler")]
)
def test_the_engines_own_failures_are_told_from_the_compilers(
    engine: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("EDGEOPT_CONTAINER_EXIT", str(code))
    monkeypatch.setenv("EDGEOPT_CONTAINER_SAYS", "daemon not there")
    with pytest.raises(ToolError, match=words) as caught:
        run(source, tmp_path / "out")
    assert caught.value.returncode == code and "daemon not there" in caught.value.message


def test_without_an_engine_the_error_names_what_is_missing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="docker or podman"):
        run(source, tmp_path / "out")
    with pytest.raises(ToolError, match="needs podman"):
        run(source, tmp_path / "out", extra={"engine": "podman"})


@pytest.mark.parametrize("image", ["", "--privileged", "a b", "x;rm"])
def test_what_is_no_image_name_is_refused(source: Path, tmp_path: Path, image: str) -> None:
    with pytest.raises(InputError, match="container image"):
        run(source, tmp_path / "out", compiler=f"container:{image}")


def test_another_processor_runs_the_image_as_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    host = ContainerHost(engine="/usr/bin/docker", image=IMAGE)
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert "linux/amd64" in host.argv("n", [], [])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert "--platform" not in host.argv("n", [], [])


def test_a_real_docker_without_a_daemon_is_a_tool_error(source: Path, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not docker:
        pytest.skip("docker is not installed")
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0:
        pytest.skip("a docker daemon runs here")
    with pytest.raises(ToolError, match="could not start"):
        run(source, tmp_path / "out", extra={"engine": "docker"})
