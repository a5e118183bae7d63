"""Profiles: what ships is valid, and a wrong one is refused at its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.paths import data_dir
from edgeopt.profile import load_profile, profile_names
from edgeopt.profile.rules import RULES
from edgeopt.toml_file import read_toml

SHIPPED = ("android-gpu", "cpu-int8", "cpu-int8-tflite-2.14", "edgetpu-v1")


def _edited(tmp_path: Path, old: str, new: str, name: str = "edgetpu-v1") -> tuple[Path, int]:
    """A copy of a shipped profile with one change, and the line of the change."""
    text = (data_dir("hardware_profiles") / f"{name}.toml").read_text()
    assert old in text
    changed = text.replace(old, new, 1)
    file = tmp_path / "mine.toml"
    file.write_text(changed)
    return file, text[: text.index(old)].count("\n") + 1


def _refusal(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_profile(str(file))
    return str(caught.value)


def test_the_shipped_profiles_load() -> None:
    assert set(SHIPPED) <= set(profile_names())
    for name in SHIPPED:
        assert load_profile(name).name == name


def test_every_rule_of_a_profile_names_its_source() -> None:
    for name in SHIPPED:
        profile = load_profile(name)
        assert profile.runtime.source and all(s.source for s in profile.schemes.values())
        for rule in profile.operations.values():
            assert rule.source, rule.name
            assert all(check.source for check in rule.checks), rule.name


def test_every_rule_name_has_a_function() -> None:
    import edgeopt.verify.operations  # noqa: F401 - registers them
    from edgeopt.verify.checks import CHECKS

    assert set(CHECKS) == set(RULES)


def test_the_edge_tpu_takes_eight_bit_static_batch_one() -> None:
    profile = load_profile("edgetpu-v1")
    assert profile.weight_types == ("int8", "uint8") == profile.activation_types
    assert profile.static_shapes and profile.max_batch == 1 and not profile.float_fallback
    assert profile.preferred == ("int8",) and profile.default_io == "int8"


def test_int16x8_is_marked_slow_on_a_cpu() -> None:
    scheme = load_profile("cpu-int8").schemes["int16x8"]
    assert scheme.suits and scheme.slow and "35" in scheme.note


def test_op_versions_of_tensorflow_2_5_are_those_its_interpreter_takes() -> None:
    versions = load_profile("edgetpu-v1").runtime.operations
    assert versions["CONV_2D"] == (1, 5)  # 6 is refused: google-coral/edgetpu issue 631
    assert versions["TRANSPOSE_CONV"] == (1, 3)
    assert versions["QUANTIZE"] == (1, 2) and versions["EXP"] == (1, 1)
    assert versions["BROADCAST_TO"] == (2, 3)
    assert "GELU" not in versions


def test_the_android_gpu_rules_cover_eighty_builtins_and_four_customs() -> None:
    rules = load_profile("android-gpu").operations.values()
    assert (len(rules), sum(rule.custom for rule in rules)) == (84, 4)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean edgetpu-v1"):
        load_profile("edgetpu-v2")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_batch = 1", "max_bach = 1", "shapes.max_bach: unknown key. Did you mean max_batch?"),
        ('rule = "same_dilation"', 'rule = "same_dilatoin"', "Did you mean same_dilation?"),
        ("static = true", 'static = "yes"', "shapes.static: must be true or false"),
        ("max_batch = 1", "max_batch = 0", "shapes.max_batch: 0 is too small"),
        ("max_batch = 1", "max_batch = true", "must be a whole number"),
        ('pick = "first"', 'pick = "frist"', "Did you mean first?"),
        ("limit = 57600", "limit = 99999999", "is above refused_from"),
        (
            'runtime = "tensorflow-2.5"',
            'runtime = "tensorflow-2.4"',
            "Did you mean tensorflow-2.5?",
        ),
        ("free_inner_dims = 3", "free_inner_dims = 3\nfree_inner_dims = 2", "not valid TOML"),
        ("limit = 16000", "limt = 16000", "unknown key. Did you mean limit?"),
        ('name = "ADD"', 'name = "ADDD"', "operation ADDD is no operation of"),
    ],
)
def test_a_mistake_is_refused_at_its_line(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    file, line = _edited(tmp_path, old, new)
    said = _refusal(file)
    assert expected in said
    assert f"{file}:{line + new.count(chr(10))}:" in said


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('preferred = ["int8"]', 'preferred = ["float32"]', "no scheme that suits"),
        ('default = "int8"', 'default = "float32"', "is not among io.types"),
        (
            'granularity = ["per_channel", "per_tensor"]',
            'granularity = ["per_tensor"]',
            "per_channel",
        ),
        (
            'name = "int16x8"\nsuits = false',
            'name = "int16x8"\nsuits = true',
            "int16 is not among activations.types",
        ),
        ('types = ["int8", "uint8"]\ngran', 'types = ["uint8"]\ngran', "int8 is not among weights"),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    file, _ = _edited(tmp_path, old, new)
    said = _refusal(file)
    assert expected in said and f"{file}:" in said


def test_float_io_without_a_float_fallback_is_refused(tmp_path: Path) -> None:
    old = '[io]\ntypes = ["int8", "uint8"]'
    file, line = _edited(tmp_path, old, '[io]\ntypes = ["int8", "uint8", "float32"]')
    said = _refusal(file)
    assert f"{file}:{line + 1}:" in said and "float32" in said


def test_an_invalid_profile_cannot_be_made_in_python() -> None:
    with pytest.raises(InputError, match="contradicts itself"):
        replace(load_profile("edgetpu-v1"), default_io="float32")


def test_a_profile_of_ones_own_may_stand_anywhere(tmp_path: Path) -> None:
    file, _ = _edited(tmp_path, "max_batch = 1", "max_batch = 2")
    assert load_profile(str(file)).max_batch == 2


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a = [\n", b"schema = 2", b"", b"x" * (2 << 20)]
)
def test_what_is_no_profile_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    assert str(file) in _refusal(file)


def test_lines_are_found_in_nested_and_multi_line_values(tmp_path: Path) -> None:
    file = tmp_path / "lines.toml"
    file.write_text(
        'a = """\n[not]\n"""\n[t]\nb = [\n  { c = "]", d = 1 }, # x\n  { c = \'}\', d = 2 },\n]\n'
        '[[u]]\n"k.x" = 1\n[[u]]\nv.w = 2\n'
    )
    root = read_toml(file)
    second = root.section("t").sections("b")[1]
    assert (root.line("a"), second.line("d"), root.sections("u")[1].section("v").line("w")) == (
        1,
        7,
        12,
    )


def test_the_gpu_rules_agree_with_the_delegates_source(shared: Path) -> None:
    read = json.loads((shared / "android_gpu/op_rules.json").read_text())
    expected = {op.get("custom_name") or op["op"]: op["max_version"] for op in read["ops"]}
    rules = load_profile("android-gpu").operations
    assert {name: rule.max_version for name, rule in rules.items()} == expected
    assert not {op["op"] for op in read["unsupported_ops"]} & set(rules)


def test_the_edge_tpu_rules_agree_with_what_the_compiler_mapped(shared: Path) -> None:
    read = json.loads((shared / "edgetpu/op_rules.json").read_text())
    rules = load_profile("edgetpu-v1").operations
    assert set(rules) == {rule["tflite_op"] for rule in read["rules"]}
    for seen in read["rules"]:
        rule = rules[seen["tflite_op"]]
        documented = [
            c.parameters["runtime"] for c in rule.checks if c.rule == "documented_runtime"
        ]
        runtime = documented[0] if documented else rule.min_runtime
        # Two are contradicted by models of google-coral/test_data that were compiled for 12.
        contradicted = seen["tflite_op"] in ("QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM")
        assert runtime == (12 if contradicted else seen["min_runtime"])
        assert all(v <= (rule.max_version or v) for v in seen["versions_mapped"])
        assert {name.lower() for name in seen["dtypes_mapped"]} <= set(rule.types)
    assert not set(read["never_mapped_in_truth"]) & set(rules)
