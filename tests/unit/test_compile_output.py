"""What edgetpu_compiler prints, read into values, causes and remedies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt.compile.compiler_failures import diagnose, facts, op_status
from edgeopt.compile.compiler_output import parse_output, says_double

BANNER = "Edge TPU Compiler version 16.0.384591198\n"
TIMER = "Started a compilation timeout timer of 180 seconds.\n"
HEADER = f"{'Operator':<31}{'Count':<11}Status\n\n"
LIMIT = "Operation is otherwise supported, but not mapped due to some unspecified limitation"


def row(op: str, count: int, status: str) -> str:
    return f"{op:<31}{count:<11}{status}\n"


def block(name: str, total: int, rows: str = "") -> str:
    return (
        f"Input model: {name}.tflite\nInput size: 7.37MiB\n"
        f"Output model: {name}_edgetpu.tflite\nOutput size: 8.34MiB\n"
        "On-chip memory used for caching model parameters: 6.08MiB\n"
        "On-chip memory remaining for caching model parameters: 0.00B\n"
        "Off-chip memory used for streaming uncached model parameters: 512.50KiB\n"
        f"Number of Edge TPU subgraphs: 1\nTotal number of operations: {total}\n"
        f"Operation log: {name}_edgetpu.log\n" + (HEADER + rows if rows else "")
    )


def test_a_published_success_is_read_completely(shared: Path) -> None:
    text = json.loads((shared / "edgetpu" / "compiler_facts.json").read_text())["stdout_success"]
    found = parse_output(text)
    (model,) = found.blocks
    assert found.version == "16.0.384591198" and found.succeeded and not found.failed
    assert (model.compile_ms, model.subgraphs, model.total_operations) == (3173.0, 2, 294)
    assert (model.mapped, model.cpu) == (289, 5)
    assert sum(r.count for r in model.operations) == 294
    assert sum(r.count for r in model.operations if not r.mapped) == 5
    assert all(r.cause and r.remedy for r in model.operations if not r.mapped)


def test_printed_sizes_are_marked_as_rounded() -> None:
    (model,) = parse_output(block("a", 3)).blocks
    assert model.on_chip_used is not None and model.on_chip_remaining is not None
    assert model.off_chip is not None and model.off_chip.bytes == 524800
    assert model.on_chip_used.bytes == round(6.08 * 1024 * 1024) and model.on_chip_used.rounded
    assert model.on_chip_used.fits(6_375_000) and not model.on_chip_used.fits(6_390_000)
    assert model.on_chip_remaining.to_json() == {"bytes": 0, "text": "0.00B", "rounded": False}
    assert model.on_chip_available is None


def test_rows_are_told_from_noise_and_long_names_from_counts() -> None:
    long_name = "A_VERY_LONG_CUSTOM_OPERATION_NAME"
    rows = (
        row("NON_MAX_SUPPRESSION_V4", 1, "Operation not supported")
        + "INFO: Created TensorFlow Lite delegate 2 times\n"
        + row(long_name, 17, "Mapped to Edge TPU")
        + row("CONV_2D", 62, "Mapped to Edge TPU")
        + row("CONV_2D", 1, LIMIT)
        + "WARNING 3 things happened\n"
    )
    (model,) = parse_output(BANNER + block("a", 81, rows)).blocks
    assert [(r.op, r.count, r.mapped) for r in model.operations] == [
        ("NON_MAX_SUPPRESSION_V4", 1, False),
        (long_name, 17, True),
        ("CONV_2D", 62, True),
        ("CONV_2D", 1, False),
    ]


def test_models_compiled_together_are_blocks_of_their_own() -> None:
    text = BANNER + TIMER + "\nModels compiled successfully in 55 ms.\n\n"
    text += block("a", 2, row("ADD", 2, "Mapped to Edge TPU"))
    text += "\n" + block("b", 1, row("MUL", 1, LIMIT)) + "Compilation succeeded! \n"
    found = parse_output(text)
    assert [b.input for b in found.blocks] == ["a.tflite", "b.tflite"]
    assert [len(b.operations) for b in found.blocks] == [1, 1]
    assert [b.compile_ms for b in found.blocks] == [55.0, 55.0]


def test_each_segment_restarts_the_banner_and_has_its_own_time() -> None:
    one = TIMER + "Model compiled successfully in {} ms.\n" + block("s", 4)
    found = parse_output(BANNER + one.format(10) + one.format(20))
    assert [b.compile_ms for b in found.blocks] == [10.0, 20.0]


def test_an_available_line_of_older_compilers_is_read() -> None:
    line = "On-chip memory available for caching model parameters: 1.73MiB\n"
    (model,) = parse_output("Input model: x.tflite\n" + line).blocks
    assert model.on_chip_available is not None
    assert model.on_chip_available.bytes == round(1.73 * (1 << 20))


def test_the_log_file_is_read_with_the_same_words() -> None:
    log = f"{BANNER}Input: /tmp/x.tflite\nOutput: x_edgetpu.tflite\n\n{HEADER}" + row(
        "ADD", 3, LIMIT
    )
    (model,) = parse_output(log).blocks
    assert (model.input, model.operations[0].op) == ("/tmp/x.tflite", "ADD")


def test_the_last_word_counts_while_a_delegate_is_searched() -> None:
    attempts = TIMER + "Compilation failed: x\nCompilation failed! \n"
    good = "Model compiled successfully in 9 ms.\nCompilation succeeded! \n"
    assert parse_output(attempts + good).succeeded
    assert parse_output(good + attempts).failed


@pytest.mark.parametrize(
    "text", ["", "\x00\xff", "Input size: ???\n", "Operator Count Status\n" * 3]
)
def test_nonsense_is_read_as_nothing(text: str) -> None:
    found = parse_output(text)
    assert found.version is None and found.blocks == () and not found.succeeded


def test_every_known_status_has_a_cause_and_a_remedy(shared: Path) -> None:
    known = json.loads((shared / "edgetpu" / "compiler_facts.json").read_text())["statuses"]
    for status in known:
        found = op_status("ADD", 1, status["s"])
        assert found.mapped or (found.cause and found.remedy), status


def test_an_unknown_status_is_kept_and_not_explained() -> None:
    found = op_status("ADD", 2, "Moon in the wrong phase")
    assert (found.mapped, found.status, found.cause) == (False, "Moon in the wrong phase", "")


FAILURES = {
    "not quantized": "model",
    "operation version": "model",
    "operation code": "model",
    "empty subgraph": "model",
    "large activations": "model",
    "dynamic tensors": "model",
    "custom operation": "model",
    "compile time": "tool",
    "no reason given": "tool",
    "internal error": "tool",
    "internal error, out of range": "tool",
    "segmentation fault": "tool",
    "nothing said": "tool",
}


def test_every_recorded_failure_text_is_known(shared: Path) -> None:
    entries = json.loads((shared / "edgetpu" / "compiler_facts.json").read_text())["failures"]
    texts = [
        e["text"].replace("\\n", "\n").replace("'OP' version 'N'", "'EXP' version '2'")
        for e in entries
    ]
    texts = ["" if text.startswith("only the version line") else text for text in texts]
    found = [diagnose(f"{BANNER}{text}\n", 1) for text in texts]
    assert [d.name if d else texts[i] for i, d in enumerate(found)] == list(FAILURES)
    assert {d.name: d.fault for d in found if d} == FAILURES
    assert all(d and d.message and d.hint and d.source for d in found)


def test_a_newer_operation_version_is_named_with_the_newest_that_maps() -> None:
    text = "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version\n"
    found = diagnose(text, 1)
    assert found is not None and found.fault == "model"
    assert "CONV_2D is of version 6" in found.message and "version 3" in found.message
    assert "grouped" in found.hint


def test_gelu_is_named_by_its_code() -> None:
    found = diagnose("ERROR: Op builtin_code out of range: 150. Are you using\n", 1)
    assert found is not None and "GELU" in found.message


@pytest.mark.parametrize("code", [139, -11])
def test_a_crash_is_named_whatever_was_printed(code: int) -> None:
    found = diagnose(BANNER + "Model not quantized", code)
    assert found is not None and found.name == "segmentation fault"


def test_a_killed_compiler_is_named() -> None:
    found = diagnose(BANNER + TIMER, 137)
    assert found is not None and "SIGKILL" in found.message and "memory" in found.hint


def test_an_unknown_failure_is_not_guessed() -> None:
    assert diagnose("flux capacitor overheated", 1) is None


def test_every_fact_of_a_failure_is_complete() -> None:
    for entry in facts()["failure"]:
        assert entry["fault"] in ("model", "tool") and entry["source"] and entry["hint"]


@pytest.mark.parametrize(
    ("text", "double"),
    [
        ("Edge TPU Compiler version 16.0.384591198", False),
        ("Edge TPU Compiler version 16.0 (edgeopt test double)", True),
        ("Edge TPU Compiler version 16.0 recorded", True),
        ("Input model: double_recording.tflite\nrecording done", False),
        ("not in the recording: x; this is a recording, not the compiler", True),
    ],
)
def test_a_stand_in_is_known_by_its_own_words(text: str, double: bool) -> None:
    assert says_double(text) is double
