"""Pipelines and models compiled together: every file is proven against what it was made from.

The compiler is a double of ours that hands over compiled doubles; nothing of them can be executed.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from relu_chain import ENDED, SUCCESS, block, chain, compiled, script, written
from rich.console import Console

from edgeopt import pipeline
from edgeopt.compile import CompileOptions, CompileResult
from edgeopt.compile.edgetpu import compile_model, compile_together
from edgeopt.errors import EdgeoptError, InputError, ModelError, ToolError
from edgeopt.job import Job
from edgeopt.model import read
from edgeopt.progress import Silent
from edgeopt.report.terminal import deploy_summary
from edgeopt.store import Store

DOUBLE = Path(__file__).parents[1] / "tools" / "edgetpu_compiler_double"
Play = Callable[..., Any]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Write what the double plays; it is on PATH by its real name."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "edgetpu_compiler").symlink_to(DOUBLE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("EDGEOPT_EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("EDGEOPT_COMPILER_DOUBLE", str(tmp_path / "play.json"))
    return lambda **content: script(tmp_path / "play.json", **content)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path, chain=chain(0, 6))["chain"]


def said(*counts: int, cpu: int = 0) -> str:
    """Segments of so many operations; the last has `cpu` of them on the CPU."""
    names = [f"model_segment_{i}_of_{len(counts)}" for i in range(len(counts))]
    parts = [
        SUCCESS + block(name, count, on_cpu=cpu if name == names[-1] else 0)
        for name, count in zip(names, counts, strict=True)
    ]
    return "".join(parts) + ENDED


def split(folder: Path, *pieces: bytes) -> list[str]:
    made = written(folder, **{f"piece{i}": data for i, data in enumerate(pieces)})
    return [str(path) for path in made.values()]


def segmented(source: Path, out: Path, count: int = 2) -> CompileResult:
    options = CompileOptions(extra={"num_segments": str(count)})
    return compile_model(source, out, options, Silent())


def test_segments_are_files_of_their_own_that_cover_the_model(
    play: Play, source: Path, tmp_path: Path
) -> None:
    pieces = split(tmp_path, compiled(chain(0, 2)), compiled(chain(2, 5)), compiled(chain(5, 6)))
    text = block("model", 6) + said(2, 3, 1)  # the whole model, then its segments
    play(segments=pieces, stdout=text, record=str(tmp_path / "seen.json"))
    found = segmented(source, tmp_path / "out", 3)
    assert [s.path.name for s in found.segments] == [
        f"chain_segment_{i}_of_3_edgetpu.tflite" for i in range(3)
    ]
    assert [s.path.read_bytes() for s in found.segments] == [Path(p).read_bytes() for p in pieces]
    assert [s.placement.ops_total for s in found.segments] == [2, 3, 1]
    assert [s.inputs for s in found.segments] == [(("t0", None),), (("t2", 0),), (("t5", 1),)]
    assert found.placement is not None
    assert (found.placement.ops_total, found.placement.ops_mapped) == (6, 6)
    assert [op.index for op in found.placement.ops] == list(range(6))
    assert found.placement.subgraphs == 3
    assert json.loads((tmp_path / "seen.json").read_text())["argv"][:4] == ["-s", "-n", "3", "-o"]
    assert json.loads(json.dumps(found.to_json()))["segments"][1]["inputs"] == [
        {"name": "t2", "from_segment": 0}
    ]


def test_what_a_segment_leaves_on_the_cpu_is_counted(
    play: Play, source: Path, tmp_path: Path
) -> None:
    pieces = split(tmp_path, compiled(chain(0, 3)), compiled(chain(3, 6), kept=1))
    play(segments=pieces, stdout=said(3, 3, cpu=1))
    found = segmented(source, tmp_path / "out")
    assert found.placement is not None and found.placement.ops_cpu == 1
    assert found.placement.ops[5].placement == "cpu"
    assert "More than one subgraph" in found.placement.ops[5].reason


GOOD = compiled(chain(0, 3))
WRONG: dict[str, tuple[list[bytes], str]] = {
    "a gap": ([GOOD, compiled(chain(4, 6))], "takes 't4', which is neither"),
    "an overlap": ([compiled(chain(0, 4)), compiled(chain(0, 6))], "computes RELU #0 .* again"),
    "another name": ([GOOD, compiled(chain(3, 6, prefix="u"))], "takes 'u3'"),
    "another shape": ([compiled(chain(0, 3, width=9)), compiled(chain(3, 6))], "int8.1, 9."),
    "another scale": ([GOOD, compiled(chain(3, 6, scale=0.25))], "another scale"),
    "the end is missing": ([GOOD, compiled(chain(3, 5))], "No segment gives .* 't6'"),
    "nothing mapped": ([GOOD, chain(3, 6)], "Segment 1: .* mapped no operation"),
    "damaged": ([GOOD, compiled(chain(3, 6))[:-64]], "cannot be used"),
    "one too few": ([GOOD], "wrote 1 of 2|other files"),
}


@pytest.mark.parametrize("case", WRONG)
def test_segments_that_are_not_the_model_are_refused(
    play: Play, source: Path, tmp_path: Path, case: str
) -> None:
    pieces, words = WRONG[case]
    play(segments=split(tmp_path, *pieces), stdout=said(3, 3))
    with pytest.raises(ToolError, match=words):
        segmented(source, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["chain_edgetpu.log"]


def test_a_text_that_counts_otherwise_than_the_segments_is_refused(
    play: Play, source: Path, tmp_path: Path
) -> None:
    pieces = split(tmp_path, GOOD, compiled(chain(3, 6)))
    play(segments=pieces, stdout=said(2, 4))
    with pytest.raises(ToolError, match=r"Segment 0: .* printed 2 operations, but its"):
        segmented(source, tmp_path / "out")
    play(segments=pieces, stdout=said(3, 3).replace("model_segment_1", "model_segment_7"))
    with pytest.raises(ToolError, match="not asked for"):
        segmented(source, tmp_path / "out")


def test_the_flow_publishes_every_segment_as_an_artifact(
    play: Play, source: Path, tmp_path: Path
) -> None:
    pieces = split(tmp_path, GOOD, compiled(chain(3, 6)))
    play(segments=pieces, stdout=said(3, 3))
    flags = {"num_segments": "2"}
    job = Job(model=source, target="edgetpu", compiler_flags=flags, output=tmp_path / "made")
    store = Store(tmp_path / "cache")
    report = pipeline.compile_model(job, store, Silent()).to_json()
    made = report["artifacts"][1:]
    assert [(a["stage"], a["index"]) for a in made] == [("compiled", 0), ("compiled", 1)]
    assert {a["parent_sha256"] for a in made} == {report["artifacts"][0]["sha256"]}
    assert [Path(a["path"]).name for a in made] == [
        f"chain_segment_{i}_of_2_edgetpu.tflite" for i in range(2)
    ]
    assert [s["path"] for s in report["compilation"]["segments"]] == [a["path"] for a in made]
    assert report["placement"]["ops_mapped"] == 6
    shown = Console(width=80, record=True, file=io.StringIO())
    shown.print(deploy_summary(pipeline.compile_model(job, store, Silent())))
    assert "t3 of segment 0" in shown.export_text()
    (entry,) = (store.root / name for name in store.root.iterdir())
    play(stderr="not again", exit_code=1)
    again = pipeline.compile_model(job, store, Silent()).to_json()
    assert again["compilation"]["cached"] and again["artifacts"] == report["artifacts"]
    (entry / "compiled_1.tflite").write_bytes(b"damaged")
    with pytest.raises(ToolError, match="not again"):
        pipeline.compile_model(job, store, Silent())


def test_segments_are_not_run_on_one_device_nor_written_to_one_file(
    play: Play, source: Path, tmp_path: Path
) -> None:
    job: dict[str, Any] = {"model": source, "target": "edgetpu"}
    job["compiler_flags"] = {"num_segments": "2"}
    with pytest.raises(InputError, match="needs an Edge TPU for each") as caught:
        pipeline.deploy(Job(**job), Store(tmp_path / "cache"), Silent())
    assert "--no-run" in caught.value.hint and "PipelinedModelRunner" in caught.value.hint
    with pytest.raises(InputError, match="makes several files"):
        pipeline.compile_model(
            Job(**job, output=tmp_path / "one.tflite"), Store(tmp_path / "cache"), Silent()
        )


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return list(written(tmp_path, a=chain(0, 3), b=chain(0, 2, width=4)).values())


def both(tmp_path: Path, *, tokens: tuple[int, int] = (5, 5), swap: bool = False) -> dict[str, Any]:
    files = [
        compiled(chain(0, 3), token=tokens[0]),
        compiled(chain(0, 2, width=4), token=tokens[1]),
    ]
    text = "Models compiled successfully in 9 ms.\n\n" + block("model_0", 3) + block("model_1", 2)
    return {"compiled": split(tmp_path, *files[:: -1 if swap else 1]), "stdout": text + ENDED}


def test_models_compiled_together_are_proven_each_and_share_a_token(
    play: Play, pair: list[Path], tmp_path: Path
) -> None:
    play(**both(tmp_path), record=str(tmp_path / "seen.json"))
    found = compile_together(pair, tmp_path / "out", CompileOptions(), Silent())
    assert [r.path.name for r in found] == ["a_edgetpu.tflite", "b_edgetpu.tflite"]
    assert [r.details["caching_token"] for r in found] == [5, 5]
    assert [r.details["position"] for r in found] == [0, 1]
    assert [r.placement.ops_total for r in found if r.placement] == [3, 2]
    assert [r.operations[0].count for r in found] == [3, 2]
    argv = json.loads((tmp_path / "seen.json").read_text())["argv"]
    assert argv[-2:] == ["model_0.tflite", "model_1.tflite"]


def test_files_with_different_tokens_or_in_the_wrong_place_are_refused(
    play: Play, pair: list[Path], tmp_path: Path
) -> None:
    play(**both(tmp_path, tokens=(5, 6)))
    with pytest.raises(ToolError, match="do not share one caching token"):
        compile_together(pair, tmp_path / "out", CompileOptions(), Silent())
    play(**both(tmp_path, swap=True))
    with pytest.raises(ToolError, match="inputs are not the source"):
        compile_together(pair, tmp_path / "out", CompileOptions(), Silent())
    assert not list((tmp_path / "out").glob("*.tflite"))


def test_one_file_of_two_is_a_failure(play: Play, pair: list[Path], tmp_path: Path) -> None:
    content = both(tmp_path)
    play(**{**content, "compiled": content["compiled"][:1]})
    with pytest.raises(ToolError, match="wrote 1 of 2 files"):
        compile_together(pair, tmp_path / "out", CompileOptions(), Silent())


def test_the_flow_reports_each_model_and_the_order_matters_to_the_cache(
    play: Play, pair: list[Path], tmp_path: Path
) -> None:
    play(**both(tmp_path))
    store = Store(tmp_path / "cache")
    jobs = [Job(model=model, target="edgetpu", output=tmp_path / "made") for model in pair]
    content = pipeline.compile_together(jobs, store, Silent()).to_json()
    assert content["caching_token"] == 5 and len(content["models"]) == 2
    for job, one in zip(jobs, content["models"], strict=True):
        made = one["artifacts"][-1]
        assert made["parent_sha256"] == one["model"]["sha256"]
        assert Path(made["path"]) == tmp_path / "made" / f"{job.model.stem}_edgetpu.tflite"
        assert read(Path(made["path"])).sha256 == made["sha256"]
    assert pipeline.compile_together(jobs, store, Silent()).to_json()["models"][1]["compilation"][
        "cached"
    ]
    with pytest.raises(EdgeoptError):  # the double plays the first order only
        pipeline.compile_together(jobs[::-1], store, Silent())


def test_the_flow_takes_neither_float_models_nor_two_of_a_name(
    play: Play, pair: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    twin = written(tmp_path / "other", a=chain(0, 4))["a"]
    jobs = [Job(model=m, target="edgetpu", output=tmp_path / "o") for m in (pair[0], twin)]
    with pytest.raises(InputError, match=r"would be called a_edgetpu\.tflite"):
        pipeline.compile_together(jobs, Store(tmp_path / "cache"), Silent())
    with pytest.raises(InputError, match="takes one model at a time"):
        cpu = [Job(model=m, target="cpu") for m in pair]
        pipeline.compile_together(cpu, Store(tmp_path / "cache"), Silent())


def test_a_model_at_fault_is_named_with_what_was_reached(
    play: Play, pair: list[Path], tmp_path: Path
) -> None:
    done = written(tmp_path, done=compiled(chain(0, 3)))["done"]
    jobs = [Job(model=m, target="edgetpu") for m in (pair[0], done)]
    with pytest.raises(ModelError, match="already compiled") as caught:
        pipeline.compile_together(jobs, Store(tmp_path / "cache"), Silent())
    content = caught.value.reached.to_json()
    assert len(content["models"]) == 2 and "already compiled" in content["error"]["message"]


def test_a_compiler_that_tells_no_placement_leaves_the_prediction(
    source: Path, tmp_path: Path
) -> None:
    copy = "import sys, shutil; shutil.copyfile(sys.argv[1], sys.argv[2])"
    words = json.dumps([sys.executable, "-c", copy, "{input}", "{output}"])
    target = tmp_path / "vendor.toml"
    target.write_text(
        'schema = 1\ndescription = "a vendor\'s"\nprofile = "cpu-int8"\ncompiler = "command"\n'
        f"[compiler_options]\ncommand = {words}\n"
    )
    job = Job(model=source, target=str(target), output=tmp_path / "made")
    report = pipeline.compile_model(job, Store(tmp_path / "cache"), Silent())
    assert report.placement is not None and report.placement.source == "predicted"
    assert report.compilation is not None and report.compilation["segments"] == []
