"""What vela prints and writes is read exactly, and a program that lies is refused."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import Net
from tflite_models import fully_connected

from edgeopt.compile import CompileOptions
from edgeopt.compile.vela import compile_model, find_program
from edgeopt.compile.vela_output import operator_counts, read_refusals, read_summary
from edgeopt.errors import InputError, ModelError, ToolError
from edgeopt.estimate.vela import of_compiled
from edgeopt.facts import ModelFacts
from edgeopt.model.compiled import is_compiled, read_parts
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.progress import Silent

SAID = """Warning: No memory mode specified. Using a default of Shared_Sram.

Warning (supported operators) operator: CUSTOM, ofm: 'poses'
Reason: Unsupported opType

Warning (supported operators) operator: RESIZE_BILINEAR, ofm: 'it's; a name'
Reason: Scaling matches and operation has unsupported scale-factor=16
IF not (IFM H == IFM W == 1) AND not IFM Shape == OFM Shape:
  Scale-factor needs to be one of: 2x/4x/8x

Network summary for model
CPU operators = 2 (5.0%)
NPU operators = 38 (95.0%)
"""
OPTIONS = {
    "accelerator_config": "ethos-u55-128",
    "system_config": "Ethos_U55_High_End_Embedded",
    "memory_mode": "Shared_Sram",
}


def test_refusals_are_read_with_reason_and_rule() -> None:
    found = read_refusals(SAID)
    assert list(found) == ["poses", "it's; a name"]
    assert (found["poses"].reason, found["poses"].rule) == ("Unsupported opType", "")
    assert found["it's; a name"].op == "RESIZE_BILINEAR"
    assert found["it's; a name"].reason.endswith("scale-factor=16")
    assert found["it's; a name"].rule.endswith("one of: 2x/4x/8x")
    assert operator_counts(SAID) == (2, 38)
    assert operator_counts("nothing of the kind") == (None, None)


def _summary(folder: Path, values: str, names: str = "inference_time,sram_memory_used") -> Path:
    (folder / "model_summary_x.csv").write_text(f"{names}\n{values}\n")
    return folder


def test_the_summary_is_read_in_bytes_and_seconds(tmp_path: Path) -> None:
    names = "inference_time,sram_memory_used,cycles_npu,cycles_sram_access,core_clock,memory_mode"
    found = read_summary(_summary(tmp_path, "0.002,1.5,10,90,1000,Shared", names), tmp_path)
    assert (found["inference_time_s"], found["sram_bytes"]) == (0.002, 1536)
    assert found["cycles_total"] is None and found["memory_mode"] == "Shared"
    estimate = of_compiled({"performance": found}, 3)
    assert estimate is not None
    told = estimate.to_json()
    assert told["latency_ms"]["value"] == 2.0 and told["latency_ms"]["low"] is None
    assert (told["source"], told["estimator"]) == ("estimate", "vela")
    assert told["latency_ms"]["bound"] == "SRAM" and told["memory_bytes"] == {"SRAM": 1536}
    assert "3 operations on the CPU" in told["notes"][0]
    assert of_compiled({}, 0) is None


@pytest.mark.parametrize("values", ["x,1", "nan,1", "-1,1", "1,1\n2,2", "inf,3"])
def test_a_summary_that_cannot_be_is_refused(tmp_path: Path, values: str) -> None:
    with pytest.raises(ToolError, match="summary"):
        read_summary(_summary(tmp_path, values), tmp_path)
    with pytest.raises(ToolError, match="0 summaries"):
        read_summary(tmp_path / "nowhere", tmp_path)


def _compiled(stream: bytes, own: int = 4) -> ModelFacts:
    net = Net()
    data = memoryview(stream)
    words = net.constant("uint8", (len(stream),), data=data, size_bytes=len(stream))
    rest = [net.tensor("uint8", (64,), size_bytes=64) for _ in range(own - 1)]
    given = net.input("int8", (1, 4))
    made = net.op("ethos-u", words, *rest, given, out=("int8", (1, 2)), custom=True)
    return net.facts(made)


def _stream(macs_log2: int = 7, words: int = 5) -> bytes:
    head = [0x31504F43, 0x00100001, 0x1800 | macs_log2, 0x10066001, 5, 5, 5, words << 16 | 2]
    return struct.pack(f"<{len(head) + words}I", *head, *[9] * words)


def test_a_part_says_its_chip_and_sizes() -> None:
    facts = _compiled(_stream())
    (part,) = read_parts(facts)
    assert is_compiled(facts)
    assert dict(part.rows())["chip"] == "Ethos-U55 with 128 MACs a cycle"
    assert part.instruction_bytes == 20 and part.to_json()["arena_bytes"] == 64
    assert part.to_json()["inputs"] == [facts.inputs[0].name]


def test_every_truncation_and_damage_of_a_stream_is_an_error_or_a_part() -> None:
    whole = _stream()
    for end in range(len(whole)):
        with pytest.raises(CorruptFile):
            read_parts(_compiled(whole[:end]))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read_parts(_compiled(bytes(damaged)))
        except CorruptFile:
            pass
    with pytest.raises(CorruptFile, match="inputs that vela gives"):
        facts = _compiled(whole)
        (op,) = facts.subgraphs[0].operators
        short = replace(facts.subgraphs[0], operators=(replace(op, inputs=op.inputs[:3]),))
        read_parts(replace(facts, subgraphs=(short,)))


def _double(folder: Path, body: str, version: str = "5.2.0") -> str:
    """A program that stands in for vela, and says so in its name."""
    program = folder / "vela-double"
    program.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        f"if '--version' in sys.argv: print({version!r}); sys.exit()\n"
        f"out = pathlib.Path('out'); out.mkdir()\n{body}\n"
    )
    program.chmod(0o755)
    return str(program)


COPY = "(out / 'model_vela.tflite').write_bytes(pathlib.Path('model.tflite').read_bytes())\n"
CSV = "(out / 'model_summary_x.csv').write_text('inference_time\\n0.1\\n')\n"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("sys.exit(3)", ToolError, "exit code 3"),
        ("raise RuntimeError('Compilation failed')", ToolError, "RuntimeError: Compilation failed"),
        ("import os; os.kill(os.getpid(), 11)", ToolError, "signal 11"),
        ("pass", ToolError, "wrote no file"),
        ("(out / 'model_vela.tflite').write_bytes(b'x' * 99)\n" + CSV, ToolError, "cannot be used"),
        (COPY, ToolError, "summary"),
        (COPY + CSV, ToolError, "no count of operators, but its file has none"),
        (COPY + CSV + "print('NPU operators = 3 (')", ToolError, "3 operators for the NPU"),
        (COPY + CSV + "print('NPU operators = 0 (')", ModelError, "mapped no operation"),
        ("import time; time.sleep(60)", ToolError, "did not finish"),
    ],
)
def test_only_exit_code_file_and_text_together_are_success(
    tmp_path: Path, body: str, kind: type[Exception], expected: str
) -> None:
    source = tmp_path / "m.tflite"
    source.write_bytes(fully_connected())
    slow = "sleep" in body
    options = CompileOptions(
        compiler=_double(tmp_path, body), timeout_s=1.5 if slow else 60, extra=OPTIONS
    )
    with pytest.raises(kind, match=expected):
        compile_model(source, tmp_path / "out", options, Silent())
    assert not list((tmp_path / "out").glob("*.tflite"))


def test_options_that_vela_has_not_or_needs_are_refused(tmp_path: Path) -> None:
    def run(**more: object) -> None:
        compile_model(tmp_path / "m", tmp_path, CompileOptions(**more), Silent())  # type: ignore[arg-type]

    with pytest.raises(InputError, match="no option 'num_segments'"):
        run(extra={**OPTIONS, "num_segments": "2"})
    with pytest.raises(InputError, match="min-runtime-version"):
        run(extra=OPTIONS, min_runtime_version=13)
    with pytest.raises(InputError, match="memory_mode"):
        run(extra={k: v for k, v in OPTIONS.items() if k != "memory_mode"})
    with pytest.raises(ToolError, match="no program /nowhere/vela"):
        find_program(CompileOptions(compiler="/nowhere/vela"))
    with pytest.raises(ToolError, match="as vela does"):
        words = _double(tmp_path, "", version="hello")
        source = tmp_path / "m.tflite"
        source.write_bytes(fully_connected())
        compile_model(source, tmp_path, CompileOptions(compiler=words, extra=OPTIONS), Silent())
