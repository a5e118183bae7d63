"""The command compiler: a vendor's tool as an argv template and a JSON contract."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt import registry
from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.command import compile_model
from edgeopt.errors import InputError, ToolError
from edgeopt.progress import Silent

COPY = "import sys,shutil; shutil.copyfile(sys.argv[1], sys.argv[2])"
WITH_REPORT = f"{COPY}; open(sys.argv[3],'w').write(sys.argv[4])"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my model.tflite"
    path.write_bytes(b"weights")
    return path


def compile_with(source: Path, *words: str, **options: Any) -> CompileResult:
    settings = CompileOptions(command=(sys.executable, "-c", *words), **options)
    return compile_model(source, source.parent / "out", settings, Silent())


def report(source: Path, data: object) -> CompileResult:
    return compile_with(source, WITH_REPORT, "{input}", "{output}", "{report}", json.dumps(data))


def test_the_command_gets_real_paths_and_its_file_is_kept(source: Path) -> None:
    found = compile_with(source, COPY, "{input}", "{output}")
    assert found.path == source.parent / "out" / "my model_compiled.tflite"
    assert found.path.read_bytes() == b"weights"
    assert found.placement is None and found.compile_ms is None
    assert sorted(p.name for p in found.path.parent.iterdir()) == [
        "my model_compiled.log",
        "my model_compiled.tflite",
    ]


def test_a_template_may_come_as_one_line(source: Path) -> None:
    line = f"{sys.executable} -c '{COPY}' {{input}} {{output}}"
    options = CompileOptions(extra={"command": line, "suffix": ".bin"})
    assert compile_model(source, source.parent, options, Silent()).path.suffix == ".bin"


def test_a_relative_script_is_looked_for_in_the_users_folder(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source.parent / "tools").mkdir()
    (source.parent / "tools" / "vendor.py").write_text(COPY)
    monkeypatch.chdir(source.parent)
    options = CompileOptions(command=(sys.executable, "tools/vendor.py", "{input}", "{output}"))
    assert compile_model(source, source.parent / "out", options, Silent()).path.is_file()


def test_the_report_becomes_version_placement_and_operations(source: Path) -> None:
    found = report(
        source,
        {
            "version": "1.2",
            "compile_ms": 5,
            "placement": {"ops_total": 3, "ops_mapped": 2, "ops_cpu": 1},
            "operations": [{"op": "ADD", "count": 2, "mapped": True}],
            "warnings": ["slow"],
        },
    )
    assert (found.compiler_version, found.compile_ms, found.warnings) == ("1.2", 5, ("slow",))
    assert found.placement is not None and found.placement.on_chip_bytes is None
    assert (found.placement.ops_mapped, found.operations[0].op) == (2, "ADD")


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"schema": "other/1"},
        {"version": 3},
        {"placement": {"ops_total": 3, "ops_mapped": 1, "ops_cpu": 1}},
        {"placement": {"ops_total": True, "ops_mapped": 1, "ops_cpu": 0}},
        {"placement": {"ops_total": -1, "ops_mapped": -1, "ops_cpu": 0}},
        {"operations": [{"op": "ADD"}]},
        {"operations": {"op": "ADD"}},
        {"warnings": [1]},
    ],
)
def test_a_report_that_breaks_the_contract_is_refused(source: Path, data: object) -> None:
    with pytest.raises(ToolError, match="breaks the contract"):
        report(source, data)


def test_a_report_that_is_missing_or_no_json_is_refused(source: Path) -> None:
    with pytest.raises(ToolError, match="was not written"):
        compile_with(source, COPY, "{input}", "{output}", "{report}")
    with pytest.raises(ToolError, match="not JSON"):
        compile_with(source, WITH_REPORT, "{input}", "{output}", "{report}", "{")


def test_a_failing_command_shows_what_it_said(source: Path) -> None:
    with pytest.raises(ToolError, match="licence expired") as caught:
        compile_with(source, "import sys; sys.exit('licence expired')", "{input}", "{output}")
    assert caught.value.returncode == 1
    assert caught.value.log is not None and "licence" in caught.value.log.read_text()


def test_a_command_without_output_or_end_is_refused(source: Path) -> None:
    with pytest.raises(ToolError, match="wrote no output"):
        compile_with(source, "pass", "{input}", "{output}")
    with pytest.raises(ToolError, match="did not finish"):
        compile_with(source, "import time; time.sleep(60)", "{input}", "{output}", timeout_s=0.3)


def test_a_missing_program_is_a_tool_error(source: Path) -> None:
    options = CompileOptions(command=("no-such-compiler", "{input}", "{output}"))
    with pytest.raises(ToolError, match="not on PATH"):
        compile_model(source, source.parent, options, Silent())


@pytest.mark.parametrize(
    "words", [(), ("cc", "{input}"), ("cc", "{input}", "{output}", "{reprot}"), ("cc", "{out}")]
)
def test_a_template_that_cannot_work_is_refused(source: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        compile_model(source, source.parent, CompileOptions(command=words), Silent())


def test_passthrough_returns_the_file_itself(source: Path) -> None:
    compiler = registry.load("compilers", "passthrough")
    found = compiler(source, source.parent / "out", CompileOptions(), Silent())
    assert found.path == source and not (source.parent / "out").exists()
    with pytest.raises(InputError):
        compiler(source.parent / "none", source.parent, CompileOptions(), Silent())


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_senseless_deadline_is_refused(timeout_s: float) -> None:
    with pytest.raises(InputError):
        CompileOptions(timeout_s=timeout_s)
