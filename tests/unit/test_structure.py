"""The arrows between modules point one way, and light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "edgeopt"

# A module may import from its own layer's folder and from layers above it in this list.
LAYERS = [
    {"__init__", "errors", "paths", "registry", "progress", "child", "fetch", "stop"},
    {"artifact", "facts", "findings", "store", "profile", "target", "dataset", "measurement",
     "parity", "feed", "toml_file", "plan", "effort", "load", "job",
     "training", "quality"},
    {"model"},
    {"optimize", "train", "zoo", "verify", "repair", "estimate", "compile", "device", "report"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
HEAVY = ("tensorflow", "tf_keras", "keras", "litert_quantizer", "ai_edge_litert", "paramiko",
         "adbutils", "PIL", "h5py", "google.protobuf", "numpy", "rich")  # fmt: skip


def _layer(part: str) -> int:
    for number, names in enumerate(LAYERS):
        if part in names:
            return number
    raise AssertionError(f"edgeopt/{part} is in no layer: add it to LAYERS where it belongs")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "edgeopt":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("edgeopt."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("edgeopt.")}
    return {name for name in found if not name.startswith("__version")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_arrows_point_one_way(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    for other in _imports(path) - {own}:
        lower, here = _layer(other), _layer(own)
        same_layer_noun = lower == here and here <= 1
        assert lower < here or same_layer_noun, f"{relative} imports edgeopt.{other}"


@pytest.mark.parametrize("folder", ["edgeopt", "tests", "benchmarks"])
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    lengths = {
        path.relative_to(REPOSITORY).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_function_of_the_package_is_longer_than_50_lines() -> None:
    lengths = {
        f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno} {node.name}": lines
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1)
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > 50} == {}


def _modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('====', *sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("====")[-1].split())


def test_the_command_line_loads_nothing_heavy_to_show_help() -> None:
    loaded = _modules_after(
        "import sys; sys.argv = ['edgeopt', '--help']; from edgeopt.cli import main; main()"
    )
    assert not {m for m in loaded if m.startswith((*HEAVY, "click", "asyncio", "inspect"))}


def test_the_verbs_load_nothing_heavy_until_they_run() -> None:
    loaded = _modules_after(
        "from edgeopt.cli.app import VERBS, app\n"
        "from click.testing import CliRunner\n"
        "for v in VERBS: assert CliRunner().invoke(app, [v, '--help']).exit_code == 0, v"
    )
    assert not {m for m in loaded if m.startswith(HEAVY)}
