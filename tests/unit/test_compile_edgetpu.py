"""The Edge TPU driver: recorded compilations end to end, and a double that plays each failure."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.compiler_host import VARIABLE, kind_of_program
from edgeopt.compile.edgetpu import compile_model
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.progress import Silent

DOUBLE = Path(__file__).parents[1] / "tools" / "edgetpu_compiler_double"
TIMER = "Started a compilation timeout timer of 180 seconds.\n"
GOOD = (
    f"{TIMER}\nModel compiled successfully in 55 ms.\n\nInput model: model.tflite\n"
    "Number of Edge TPU subgraphs: {subgraphs}\nTotal number of operations: {total}\n"
    "Compilation child process completed within timeout period.\nCompilation succeeded! \n"
)

Play = Callable[..., CompileResult]


def private_folders() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("edgeopt-compile-*")}


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def models(shared: Path) -> Path:
    return shared / "edgetpu" / "models"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def play(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Compile split_concat with the double; keywords are what it plays, `options` the options."""

    def compile_with(**script: Any) -> CompileResult:
        options = script.pop("options", {})
        source = script.pop("source", models / "split_concat.tflite")
        (tmp_path / "play.json").write_text(json.dumps(script))
        monkeypatch.setenv("EDGEOPT_COMPILER_DOUBLE", str(tmp_path / "play.json"))
        return compile_model(
            source, tmp_path / "out", CompileOptions(compiler=str(DOUBLE), **options), Silent()
        )

    return compile_with


@pytest.fixture
def good(models: Path) -> dict[str, Any]:
    return {
        "stdout": GOOD.format(subgraphs=1, total=3),
        "compiled": str(models / "split_concat_edgetpu.tflite"),
    }


PLAIN = (
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v1_1.0_224_quant_embedding_extractor",
    "movenet_single_pose_lightning_ptq",
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    "split_concat",
    "mobilenet_v2_1.0_224_inat_bird_quant",
    "mobilenet_v2_1.0_224_quant",
)


@pytest.mark.parametrize("name", PLAIN)
def test_a_recorded_compilation_gives_the_recorded_file_and_counts(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = shared / "edgetpu"
    pair = next(
        p
        for p in json.loads((folder / "pairs.json").read_text())
        if p["source"] == f"{name}.tflite" and p["how"] == "plain"
    )
    monkeypatch.setenv("PATH", f"{folder / 'recorded'}{os.pathsep}{os.environ['PATH']}")
    found = compile_model(
        folder / "models" / pair["source"], tmp_path / "out", CompileOptions(), Silent()
    )
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == pair["compiled_sha256"]
    assert found.placement is not None
    assert (found.placement.ops_mapped, found.placement.ops_cpu) == (pair["mapped"], pair["cpu"])
    payload = pair["edgetpu_custom_ops"][0]
    assert found.placement.on_chip_bytes == payload["on_chip_cached_bytes"]
    assert found.placement.off_chip_bytes == payload["off_chip_streamed_bytes"]
    assert found.compiler_version == "16.0.384591198"
    assert found.is_double and found.compiler_kind == "script, not Google's binary"
    assert found.compile_ms is None
    assert json.loads(json.dumps(found.to_json()))["is_double"] is True


def test_reasons_of_the_compiler_reach_the_operations(shared: Path, tmp_path: Path) -> None:
    recorded = shared / "edgetpu" / "recorded"
    source = shared / "edgetpu" / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    found = compile_model(source, tmp_path, CompileOptions(compiler=str(recorded)), Silent())
    assert found.placement is not None
    left = [op for op in found.placement.ops if op.placement == "cpu"]
    assert len(left) == 8 and all("unspecified limitation" in op.reason for op in left)


def test_a_model_that_was_not_recorded_says_that_the_program_is_a_recording(
    shared: Path, tmp_path: Path
) -> None:
    recorded = shared / "edgetpu" / "recorded" / "edgetpu_compiler"
    source = shared / "models" / "ic_resnet8" / "ref_int8.tflite"
    with pytest.raises(ToolError, match="recorded compilations"):
        compile_model(source, tmp_path, CompileOptions(compiler=str(recorded)), Silent())


def test_without_a_compiler_the_error_says_what_to_install_and_where(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError) as caught:
        compile_model(models / "split_concat.tflite", tmp_path, CompileOptions(), Silent())
    for word in ("edgetpu-compiler", "x86-64", "container:", "ssh://", VARIABLE):
        assert word in caught.value.hint
    assert caught.value.exit_code == 4
    assert not list(tmp_path.glob("*_edgetpu*"))


def test_the_variable_names_the_compiler(
    play: Play, good: dict[str, Any], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(**good)
    monkeypatch.setenv(VARIABLE, str(DOUBLE))
    found = compile_model(models / "split_concat.tflite", tmp_path, CompileOptions(), Silent())
    assert found.argv[0] == str(DOUBLE)


def test_a_missing_or_unexecutable_compiler_is_a_tool_error(models: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for path, words in ((tmp_path / "none", "not there"), (plain, "not executable")):
        with pytest.raises(ToolError, match=words):
            compile_model(
                models / "split_concat.tflite",
                tmp_path,
                CompileOptions(compiler=str(path)),
                Silent(),
            )


@pytest.mark.parametrize("content", ["no program at all\n", "#!/bin/sh\necho something else\n"])
def test_another_program_is_refused(models: Path, tmp_path: Path, content: str) -> None:
    other = tmp_path / "other"
    other.write_text(content)
    other.chmod(0o755)
    with pytest.raises(ToolError, match=r"does not (start|answer)"):
        compile_model(
            models / "split_concat.tflite", tmp_path, CompileOptions(compiler=str(other)), Silent()
        )


def test_the_users_names_never_reach_the_command_line(
    play: Play, good: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    source = tmp_path / "-o my 'strange' $(name) ü.tflite"
    shutil.copyfile(models / "split_concat.tflite", source)
    found = play(**good, source=source, record=str(tmp_path / "seen.json"))
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["argv"][-1] == "model.tflite" and "strange" not in " ".join(seen["argv"])
    assert seen["bytes"] == source.stat().st_size
    assert found.path == tmp_path / "out" / "-o my 'strange' $(name) ü_edgetpu.tflite"
    assert found.log is not None and "edgeopt test double" in found.log.read_text()
    assert private_folders() == set()


def test_a_very_long_name_still_compiles(
    play: Play, good: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    source = tmp_path / f"{'n' * 240}.tflite"
    shutil.copyfile(models / "split_concat.tflite", source)
    assert play(**good, source=source).path.is_file()


def test_flags_reach_the_compiler(play: Play, good: dict[str, Any], tmp_path: Path) -> None:
    record = str(tmp_path / "seen.json")
    play(**good, record=record, options={"min_runtime_version": 13, "timeout_s": 100})
    argv = json.loads(Path(record).read_text())["argv"]
    assert argv[:6] == ["-s", "-m", "13", "-t", "95", "-o"]
    play(**good, record=record, options={"extra": {"search_step": "4", "num_segments": "1"}})
    assert json.loads(Path(record).read_text())["argv"][:5] == ["-s", "-d", "-k", "4", "-o"]


@pytest.mark.parametrize(
    "extra", [{"serch_delegate": "1"}, {"search_step": "0"}, {"search_delegate": "maybe"}]
)
def test_unknown_and_senseless_options_are_refused(play: Play, extra: dict[str, str]) -> None:
    with pytest.raises(InputError):
        play(options={"extra": extra})


def failure(play: Play, **script: Any) -> EdgeoptError:
    with pytest.raises(EdgeoptError) as caught:
        play(**script)
    assert private_folders() == set()
    return caught.value


def test_a_float_model_is_the_models_fault(play: Play, tmp_path: Path) -> None:
    error = failure(play, stderr="Invalid model: model.tflite\nModel not quantized", exit_code=1)
    assert isinstance(error, ModelError) and "--calibration" in error.hint
    assert Path(error.details["log"]).is_file()
    assert not list((tmp_path / "out").glob("*.tflite"))


def test_a_crash_is_named(play: Play) -> None:
    error = failure(play, stdout=TIMER, signal=int(signal.SIGSEGV))
    assert isinstance(error, ToolError) and "segmentation fault" in error.message


def test_an_unknown_failure_is_shown_as_it_is_with_the_log(play: Play) -> None:
    error = failure(play, stderr="flux capacitor overheated", exit_code=3)
    assert isinstance(error, ToolError) and error.returncode == 3
    assert "flux capacitor overheated" in error.message
    assert error.log is not None and "flux capacitor" in error.log.read_text()


def test_success_in_words_alone_is_a_failure(play: Play, good: dict[str, Any]) -> None:
    assert "wrote no compiled file" in failure(play, stdout=good["stdout"]).message
    assert "exit code 1" in failure(play, **good, exit_code=1).message
    silent = failure(play, compiled=good["compiled"])
    assert isinstance(silent, ToolError)


def test_a_file_without_a_partition_is_a_failure(play: Play, models: Path) -> None:
    script = {
        "stdout": GOOD.format(subgraphs=0, total=3),
        "compiled": str(models / "split_concat.tflite"),
    }
    error = failure(play, **script, options={"min_runtime_version": 11})
    assert isinstance(error, ToolError) and "mapped no operation" in error.message
    assert "--min-runtime-version 11" in error.hint
    assert isinstance(failure(play, **script), ToolError)


def test_a_file_of_another_model_is_a_failure(
    play: Play, good: dict[str, Any], models: Path
) -> None:
    other = str(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert "inputs are not the source" in failure(play, **{**good, "compiled": other}).message


def test_a_damaged_file_is_a_failure(play: Play, good: dict[str, Any], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(Path(good["compiled"]).read_bytes()[:3000])
    error = failure(play, **{**good, "compiled": str(damaged)})
    assert isinstance(error, ToolError) and "cannot be used" in error.message


def test_words_that_contradict_the_file_are_a_failure(play: Play, good: dict[str, Any]) -> None:
    error = failure(play, **{**good, "stdout": GOOD.format(subgraphs=2, total=3)})
    assert "printed 2 Edge TPU subgraphs, but its file says 1" in error.message


def test_a_table_that_contradicts_the_file_is_a_failure(play: Play, good: dict[str, Any]) -> None:
    table = f"{'Operator':<31}{'Count':<11}Status\n\n{'ADD':<31}{3:<11}Mapped to Edge TPU\n"
    error = failure(play, **{**good, "stdout": GOOD.format(subgraphs=1, total=3) + table})
    assert "but its file says" in error.message


def test_a_runtime_that_is_too_old_is_a_failure(play: Play, good: dict[str, Any]) -> None:
    error = failure(play, **good, options={"runtime_version": 12})
    assert "needs Edge TPU runtime 13" in error.message


def test_the_deadline_ends_the_compiler_and_its_children(play: Play, tmp_path: Path) -> None:
    begin = time.monotonic()
    error = failure(
        play,
        stdout=TIMER,
        sleep_s=60,
        child_s=60,
        child_pid=str(tmp_path / "child"),
        record=str(tmp_path / "seen.json"),
        options={"timeout_s": 1.5},
    )
    assert isinstance(error, ToolError) and "did not finish within 1.5 s" in error.message
    assert "--search-delegate" in error.hint and time.monotonic() - begin < 20
    assert not alive(int((tmp_path / "child").read_text()))
    assert not alive(json.loads((tmp_path / "seen.json").read_text())["pid"])


def test_children_left_behind_are_ended(play: Play, good: dict[str, Any], tmp_path: Path) -> None:
    play(**good, child_s=60, child_pid=str(tmp_path / "child"))
    deadline = time.monotonic() + 5
    while alive(int((tmp_path / "child").read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int((tmp_path / "child").read_text()))


def test_a_compiler_that_prints_without_end_is_stopped(play: Play) -> None:
    assert "without end" in failure(play, flood=True).message


def test_ctrl_c_leaves_nothing_behind(models: Path, tmp_path: Path) -> None:
    (tmp_path / "play.json").write_text(
        json.dumps({"stdout": TIMER, "sleep_s": 60, "record": str(tmp_path / "seen.json")})
    )
    code = (
        "import sys; from pathlib import Path; from edgeopt.compile.edgetpu import compile_model\n"
        "from edgeopt.compile import CompileOptions; from edgeopt.progress import Silent\n"
        "compile_model(Path(sys.argv[1]), Path(sys.argv[2]), "
        "CompileOptions(compiler=sys.argv[3]), Silent())"
    )
    env = {
        **os.environ,
        "EDGEOPT_COMPILER_DOUBLE": str(tmp_path / "play.json"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(DOUBLE.parents[2]),
    }
    source = models / "split_concat.tflite"
    words = [sys.executable, "-c", code, str(source), str(tmp_path / "out"), str(DOUBLE)]
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        seen = tmp_path / "seen.json"
        while not (seen.exists() and seen.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    assert not alive(json.loads(seen.read_text())["pid"])
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_compiled_model_is_not_compiled_again(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="already compiled"):
        compile_model(models / "split_concat_edgetpu.tflite", tmp_path, CompileOptions(), Silent())


def test_a_missing_source_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        compile_model(tmp_path / "none.tflite", tmp_path, CompileOptions(), Silent())


def test_programs_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    wrapper = tmp_path / "edgetpu_compiler"
    wrapper.write_text("#!/bin/bash\n${d}/edgetpu_compiler_bin/ld-linux-x86-64.so.2 $@")
    assert kind_of_program(wrapper) == ("script, not Google's binary", False)
    (tmp_path / "edgetpu_compiler_bin").mkdir()
    assert kind_of_program(wrapper) == ("Google's wrapper script", False)
    assert kind_of_program(Path(sys.executable).resolve())[0] == "ELF program"
    assert kind_of_program(DOUBLE) == ("script, not Google's binary", True)
