"""Every way in which edgetpu_compiler is known to fail, played by a double, and what is made of it.

The texts are those of compiler_facts.toml, as they were seen.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from relu_chain import ENDED, SUCCESS, block, chain, compiled, script, written

from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.bounded import Execution
from edgeopt.compile.compiler_failures import facts, op_status
from edgeopt.compile.edgetpu import compile_model
from edgeopt.compile.judge import judged
from edgeopt.errors import ModelError, ToolError
from edgeopt.progress import Silent

DOUBLE = Path(__file__).parents[1] / "tools" / "edgetpu_compiler_double"
FAILURES: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in facts()["failure"]}
# What the message or the hint must tell, beyond that it failed.
TELLS = {
    "not in the recording": "recorded compilations",
    "not quantized": "--calibration",
    "operation version": "grouped convolution",
    "operation code": "GELU",
    "empty subgraph": "Subgraph 0",
    "large activations": "--search-delegate .*--intermediate-tensors.*--num-segments",
    "dynamic tensors": "fixed input shape",
    "custom operation": "Atan",
    "interpreter": "edgeopt inspect",
    "could not be parsed": "TensorFlow 2.5",
    "could not open": "TMPDIR",
    "compile time": "--retry-search-delegate",
    "segmentation fault": "crashed",
    "internal error, out of range": "out_of_range",
    "internal error": "not repeatable",
    "no reason given": "gave no reason",
    "nothing said": "segments",
}


def compile_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **extra: str) -> CompileResult:
    monkeypatch.setenv("EDGEOPT_COMPILER_DOUBLE", str(tmp_path / "play.json"))
    source = written(tmp_path, chain=chain(0, 3))["chain"]
    options = CompileOptions(compiler=str(DOUBLE), extra=extra)
    return compile_model(source, tmp_path / "out", options, Silent())


def test_no_failure_is_without_a_test() -> None:
    assert FAILURES.keys() == TELLS.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_a_known_failure_is_raised_as_whose_fault_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = FAILURES[name]
    script(tmp_path / "play.json", stderr=entry["example"], exit_code=1)
    kind = {"model": ModelError, "tool": ToolError}[entry["fault"]]
    with pytest.raises(kind) as caught:
        compile_here(tmp_path, monkeypatch)
    error = caught.value
    assert re.search(TELLS[name], f"{error.message} {error.hint}"), (error.message, error.hint)
    assert "{" not in error.message + error.hint
    assert [a["outcome"] for a in error.details["attempts"]] == [name]
    assert entry["example"].strip() in Path(error.details["log"]).read_text()
    assert not list((tmp_path / "out").glob("*.tflite"))


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_exits_with_success_is_still_one(name: str, tmp_path: Path) -> None:
    """Whatever a wrapper returns: without the words of success there is none."""
    text = FAILURES[name]["example"].encode()
    ended = Execution(argv=("x",), exit_code=0, stdout=text, stderr=b"", seconds=1)
    found = judged(ended, tmp_path, ["model_edgetpu.tflite"], tmp_path / "log", CompileOptions())
    assert found.name == name and isinstance(found.error, (ModelError, ToolError))


def test_every_public_failure_text_is_an_example_here(shared: Path) -> None:
    known = json.loads((shared / "edgetpu" / "compiler_facts.json").read_text())["failures"]
    examples = [_like(entry["example"]) for entry in FAILURES.values()]
    for entry in known:
        if not entry["text"].startswith("only the version line"):
            assert _like(entry["text"].replace("\\n", "\n")) in examples, entry["text"]


def _like(text: str) -> str:
    """The text without what stands for one model, operation or process."""
    for name, sign in (("X.tflite", "model.tflite"), ("NNNN", "1234"), ("OP", "CONV_2D")):
        text = re.sub(rf"\b{name}\b", sign, text)
    return re.sub(r"version '\w+'", "version '6'", text).strip()


@pytest.mark.parametrize("status", [entry["text"] for entry in facts()["status"]])
def test_every_status_phrase_reaches_the_operations_with_cause_and_remedy(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = op_status("RELU", 1, status).mapped
    made = written(tmp_path, made=compiled(chain(0, 3), kept=0 if mapped else 1))["made"]
    text = block("model", 3, on_cpu=0 if mapped else 1)
    text = text.replace("More than one subgraph is not supported", status)
    script(tmp_path / "play.json", compiled=str(made), stdout=SUCCESS + text + ENDED)
    found = compile_here(tmp_path, monkeypatch)
    assert found.placement is not None
    last = found.placement.ops[2]
    if mapped:
        assert (last.placement, last.reason) == ("edgetpu", "")
    else:
        assert (last.placement, last.reason) == ("cpu", status) and last.hint
        assert all(row.cause and row.remedy for row in found.operations if not row.mapped)


RETRIED = facts()["retry_with_search_delegate"]


@pytest.mark.parametrize("name", [name for name in RETRIED if name != "deadline"])
def test_a_retry_with_fewer_operations_is_told_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(tmp_path, made=compiled(chain(0, 3), kept=1))["made"]
    good = {"compiled": str(made), "stdout": SUCCESS + block("model", 3, on_cpu=1) + ENDED}
    bad = {"stderr": FAILURES[name]["example"], "exit_code": 1}
    script(tmp_path / "play.json", **bad, **{"with": {"-d": good}})
    found = compile_here(tmp_path, monkeypatch, retry_search_delegate="true")
    attempts = found.details["attempts"]
    assert [a["outcome"] for a in attempts] == [name, "compiled"]
    assert ["-d" in a["flags"] for a in attempts] == [False, True]
    assert any("second attempt" in text for text in found.warnings)
    assert found.log is not None and FAILURES[name]["example"].strip() in found.log.read_text()
    with pytest.raises((ModelError, ToolError)) as caught:
        compile_here(tmp_path, monkeypatch)
    assert len(caught.value.details["attempts"]) == 1


def test_our_own_deadline_is_retried_too_and_both_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"stderr": FAILURES["large activations"]["example"], "exit_code": 1}
    script(tmp_path / "play.json", sleep_s=60, **{"with": {"-d": bad}})
    with pytest.raises(ModelError, match="too large") as caught:
        compile_here(tmp_path, monkeypatch, retry_search_delegate="true", timeout_s="4")
    outcomes = [a["outcome"] for a in caught.value.details["attempts"]]
    assert outcomes == ["deadline", "large activations"]


def test_what_fewer_operations_cannot_mend_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "play.json", stderr=FAILURES["not quantized"]["example"], exit_code=1)
    with pytest.raises(ModelError) as caught:
        compile_here(tmp_path, monkeypatch, retry_search_delegate="true")
    assert len(caught.value.details["attempts"]) == 1
