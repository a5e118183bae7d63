"""The native runner's C program on its own: compiled without a warning, run under sanitizers."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
from pathlib import Path

import pytest
from native_programs import MODEL, SANITIZERS, answers, built, lines_for, why_no_compiler

from edgeopt.device.agent.overhead import EMPTY
from edgeopt.device.agent.settle import Settle

pytestmark = pytest.mark.skipif(bool(why_no_compiler()), reason=why_no_compiler())


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With address and undefined-behaviour sanitizers: whatever they find ends it by a signal."""
    return built(tmp_path_factory.mktemp("native"), *SANITIZERS)


def test_a_run_is_clean_under_the_sanitizers(checked: Path, tmp_path: Path) -> None:
    samples = bytes(4 * 28 * 28 * 2)
    (tmp_path / "inputs").write_bytes(samples)
    sample = "sample -\ninput float32 1,28,28,1\n"
    request = lines_for(
        inputs=tmp_path / "inputs",
        inputs_sha256=hashlib.sha256(samples).hexdigest(),
        outputs=tmp_path / "outputs",
        lock=tmp_path / "lock",
        warmup=-1,
        ceiling_runs=20,
        time_ns=1_000_000,
    ).replace("end\n", 2 * sample + "end\n")
    result = answers(checked, request)[-1]
    assert result["event"] == "result", result
    assert result["counts"]["warmup"] == 20
    assert result["outputs"]["layout"] == [[{"dtype": "float32", "shape": [1, 10]}]] * 2
    written = (tmp_path / "outputs").read_bytes()
    assert result["outputs"]["sha256"] == hashlib.sha256(written).hexdigest()
    assert result["outputs"]["size_bytes"] == len(written) == 80


@pytest.mark.parametrize(
    "request_text",
    [
        "",
        "end\n",
        "mode run\n",
        "mode fly\nend\n",
        "no-value\nend\n",
        "wings 2\nend\n",
        "runs many\nend\n",
        "runs 99999999999999999999\nend\n",
        "warmup -2\nend\n",
        "threads 0\nend\n",
        "input float32 1\nend\n",
        "sample -\nsample -\ninput float32 1\nend\n",
        "sample -\ninput string 1\nend\n",
        "sample -\ninput float32\nend\n",
        "sample -\ninput float32 1,1,1,1,1,1,1,1,1\nend\n",
        "sample -\ninput float32 2147483647,2147483647,2147483647\nend\n",
        "sample -\ninput float32 -1\nend\n",
        "sample -\ninput float32 1,,2\nend\n",
        lines_for(library=None),
        lines_for(library="/nowhere/libLiteRt.so"),
        lines_for(library=MODEL),
        lines_for(library="libm.so.6"),
        lines_for(model_sha256="0" * 64),
        lines_for(model_sha256=None),
        lines_for(lock="/nowhere/lock"),
        lines_for(kernels="imaginary"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_by_name(checked: Path, request_text: str) -> None:
    said = answers(checked, request_text)
    assert said[-1]["event"] == "error"
    assert said[-1]["code"] in ("request", "inputs", "library", "model_hash", "failed")
    assert said[-1]["text"]


def test_garbage_never_ends_it_by_a_signal(checked: Path) -> None:
    source = random.Random(5)
    good = lines_for(runs=1).encode()
    for _ in range(40):
        broken = bytearray(good)
        for _ in range(source.randint(1, 8)):
            broken[source.randrange(len(broken))] = source.choice(b"\n \0a9-\xff,")
        assert answers(checked, bytes(broken))[-1]["event"] in ("error", "result")


def test_a_damaged_model_is_refused_or_run_but_its_hash_is_that_of_the_file(
    program: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(MODEL.read_bytes()[:1000])
    last = answers(program, lines_for(cut))[-1]
    assert (last["event"], last["code"]) == ("error", "load")
    other = answers(program, lines_for(cut, model_sha256="f" * 64))[-1]
    assert other["code"] == "model_hash"
    assert other["text"] == hashlib.sha256(cut.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 65537])
def test_its_sha256_is_everybodys(program: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(random.Random(size).randbytes(size))
    last = answers(program, lines_for(file, model_sha256="0" * 64))[-1]
    assert last["text"] == hashlib.sha256(file.read_bytes()).hexdigest()


def traces() -> list[list[int]]:
    """Runs of a few us to a second: steady, with a ramp, a step, noise, outliers."""
    source, found = random.Random(11), []
    for scale in (20_000, 300_000, 9_000_000, 900_000_000):
        for ramp in (0.0, 0.4, -0.3):
            for noise in (0.0, 0.01, 0.15):
                count = min(20_000, max(8, int(2e9 / scale)))
                level = [
                    scale
                    * (1 + ramp * max(0.0, 1 - i / (count / 3)))
                    * (1 + source.gauss(0, noise))
                    for i in range(count)
                ]
                found.append([max(1, int(t * source.choice((1, 1, 1, 1, 3)))) for t in level])
                if noise:
                    found.append([max(1, int(t)) for t in level])
    return found


def test_it_settles_when_the_agent_does(program: Path) -> None:
    """The same rule in two languages: the same run ends the warm-up, for the same reason."""
    limits = [(), (1, 0.0, 100_000, 5.0), (30, 0.4, 2_000, 1.5)]
    ends = set()
    for trace in traces():
        for limit in limits:
            rule = Settle(*limit)
            ended = next((n for n, time_ns in enumerate(trace, 1) if rule.add(time_ns)), None)
            runs, over = ended or len(trace), ended is not None
            text = "\n".join(map(str, trace))
            argv = [str(program), "settle", *map(str, limit)]
            done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
            assert done.stdout.split() == [str(runs), str(int(over)), str(int(rule.settled))]
            ends.add((over, rule.settled))
    assert {(True, True), (True, False)} <= ends  # both ways to end were there


def test_the_empty_model_is_the_agents_and_has_no_operation(program: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(EMPTY)
    assert not list(
        model.subgraphs[0].operators if model.subgraphs[0].operators is not None else ()
    )
    assert len(model.subgraphs[0].tensors) == 1
    assert EMPTY in program.read_bytes()


def test_a_call_costs_less_than_the_runs_that_hold_it(program: Path) -> None:
    said = answers(program, lines_for(runs=50))
    times = next(m["ns"] for m in said if m["event"] == "times" and m["phase"] == "samples")
    assert 0 < said[-1]["conditions"]["call_overhead_ns"] < min(times)


def test_its_memory_without_the_model_is_less_than_its_peak(program: Path) -> None:
    result = answers(program, lines_for())[-1]
    assert 1_000_000 < result["base_rss_bytes"] < result["peak_rss_bytes"]


def test_the_same_board_reads_the_same_through_both(program: Path) -> None:
    """The keys of every part, and the values that do not move."""
    from edgeopt.device.agent.readings import readings
    from edgeopt.device.agent.watch import Watch

    watch = Watch()
    watch.begin()
    watch.look()
    agent = {"before": readings(), "during": watch.end()}
    native = answers(program, lines_for())[-1]["conditions"]
    assert set(native["before"]) == set(native["after"]) == set(agent["before"])
    assert set(native["during"]) == set(agent["during"])
    assert set(native["during"]["usage"]) == set(agent["during"]["usage"])
    assert set(native["during"]["readings"][0]) == set(agent["during"]["readings"][0])
    for key in ("governor", "max_frequency_khz", "passive_trip_c", "undervoltage", "power_supply"):
        assert native["before"][key] == agent["before"][key]
    assert abs(native["before"]["time"] - agent["before"]["time"]) < 60
    assert native["during"]["cores"] == agent["during"]["cores"]


def test_it_ends_when_nobody_waits_for_it(program: Path) -> None:
    """stdin stays open and silent: it ends by the signal that says so, long before its work."""
    request = lines_for(runs=1, time_ns=60 * 10**9, silence_ms=300, max_runs=10**8).encode()
    began = time.monotonic()
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    ) as running:
        assert running.stdin is not None
        running.stdin.write(request)
        running.stdin.flush()
        assert running.wait(timeout=20) == -10  # SIGUSR1, as the agent's ALONE
    assert time.monotonic() - began < 10
