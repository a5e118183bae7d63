"""A compiler is an entry in the registry, a profile and a target: nowhere an if."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from builders import Net, conv

from edgeopt.errors import InputError
from edgeopt.registry import BUILTINS, MAKES, load
from edgeopt.target import list_targets, load_target
from edgeopt.verify import predict

PACKAGE = Path(__file__).resolve().parents[2] / "edgeopt"
# "passthrough" is not a compiler's name but says that there is none.
NAMES = {*BUILTINS["compilers"], *MAKES.values(), *(t.name for t in list_targets())}
NAMES -= {"passthrough", "cpu"}  # a place too
ADAPTERS = ("registry.py", "compile/", "estimate/", "device/")


def _compared(tree: ast.AST) -> set[str]:
    """Every string that is compared with something, looked up by, or matched."""
    found: set[str] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        for part in parts:
            inner = part.elts if isinstance(part, (ast.Tuple, ast.List, ast.Set)) else [part]
            found |= {c.value for c in inner if isinstance(c, ast.Constant) and c.value in NAMES}
    return found


@pytest.mark.parametrize(
    "path",
    sorted(
        p
        for p in PACKAGE.rglob("*.py")
        if not p.relative_to(PACKAGE).as_posix().startswith(ADAPTERS)
    ),
    ids=lambda p: p.relative_to(PACKAGE).as_posix(),
)
def test_no_module_compares_the_name_of_a_compiler_or_target(path: Path) -> None:
    assert _compared(ast.parse(path.read_text(encoding="utf-8"))) == set()


def test_the_check_above_sees_such_a_comparison() -> None:
    for text in (
        'x.compiler == "vela"',
        'y in ("edgetpu", "gpu")',
        '{"edgetpu-custom-op": 1}',
        '"ethos-u" != z',
    ):
        assert _compared(ast.parse(text)), text


@pytest.mark.parametrize("name", sorted(MAKES))
def test_every_compiler_of_machine_code_has_its_parts(name: str) -> None:
    form = load("compiled_formats", MAKES[name])
    target = load_target(form.target)
    assert target.compiler == name and form.operation == MAKES[name]
    assert target.profile.partition.compiled_operation == form.operation
    assert target.profile.partition.place == form.place
    assert callable(load("compilers", name)) and callable(load("compiler_identities", name))
    assert len(load("compiler_checks", name)()) == 4


def test_a_target_whose_compiler_makes_other_code_is_refused(tmp_path: Path) -> None:
    shipped = load_target("ethos-u55").path
    assert shipped is not None
    file = tmp_path / "wrong.toml"
    file.write_text(shipped.read_text().replace("ethos-u55-u65", "edgetpu-v1"))
    with pytest.raises(InputError, match=r"makes ethos-u, and edgetpu-v1 wants edgetpu-custom-op"):
        load_target(str(file))


def test_all_parts_are_mapped_where_the_profile_says_so() -> None:
    net = Net()
    first = conv(net, net.input())
    left = net.op("GATHER", first, net.integers(0))
    last = conv(net, left)
    facts = net.facts(last)
    placement = predict(facts, load_target("ethos-u55").profile)
    assert placement is not None
    assert [op.placement for op in placement.ops] == ["ethos-u", "cpu", "ethos-u"]
    assert (placement.ops_mapped, placement.subgraphs) == (2, 2)
    one = predict(facts, load_target("edgetpu").profile)
    assert one is not None and (one.ops_mapped, one.subgraphs) == (1, 1)
