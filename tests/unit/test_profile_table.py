"""What benchmark_model prints with --enable_op_profiling, read by its titles and held to a file."""

from __future__ import annotations

import pytest
from builders import Net

from edgeopt.device.profiling.figures import figures
from edgeopt.device.profiling.table import operator_table, rows_of_table
from edgeopt.errors import DeviceError
from edgeopt.facts import ModelFacts

TITLES = ("node type", "first", "avg ms", "%", "cdf%", "mem KB", "times called", "Name")
HEAD = "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
RUN_ORDER = "============================== Run Order ==============================\n"
TOP = "============================== Top by Computation Time ==============================\n"


def row(*cells: str) -> str:
    return "\t" + "\t".join(f"{cell:>20}" for cell in cells) + "\n"


def table(*rows: tuple[str, str, str], titles: tuple[str, ...] = TITLES) -> str:
    """Rows of (type, mean, name), with the initialization's own table before, as it is printed."""
    head = row(*(f"[{title}]" for title in titles))
    lines = "".join(
        row(kind, "9.9", mean, "1%", "1%", "0.0", "1", name) for kind, mean, name in rows
    )
    init = f"INFO: Profiling Info for Benchmark Initialization:\n{RUN_ORDER}{head}"
    init += row("AllocateTensors", "9.0", "9.0", "100%", "100%", "5", "1", "AllocateTensors/0")
    return f"{init}{HEAD}{RUN_ORDER}{head}{lines}\n{TOP}{head}{lines}"


def model() -> ModelFacts:
    net = Net()
    data = net.input("float32", (1, 4))
    first = net.op("CONV_2D", data, out=("float32", (1, 4)))
    return net.facts(net.op("SOFTMAX", first, out=("float32", (1, 4))))


def names() -> list[str]:
    return [op.outputs[0].name for op in model().operators()]


def test_the_regular_runs_are_read_and_each_operator_once() -> None:
    log = table(
        ("CONV_2D", "0.830", f"[{names()[0]}]:0"), ("SOFTMAX", "0.005", f"[{names()[1]}]:1")
    )
    found = operator_table(log)
    assert [(line.kind, line.index, line.mean_ms) for line in found] == [
        ("CONV_2D", 0, 0.83),
        ("SOFTMAX", 1, 0.005),
    ]


def test_a_newer_program_with_another_column_is_read_by_its_titles() -> None:
    titles = ("node type", "start", "avg ms", "first", "%", "mem KB", "times called", "Name")
    log = table(("CONV_2D", "0.830", f"[{names()[0]}]:0"), titles=titles)
    assert operator_table(log)[0].mean_ms == 0.83


def test_times_are_those_of_the_operators_of_that_index_and_type() -> None:
    log = table(
        ("CONV_2D", "0.830", f"[{names()[0]}]:0"), ("SOFTMAX", "0.170", f"[{names()[1]}]:1")
    )
    facts = model()
    rows, told = rows_of_table(operator_table(log), facts)
    found = figures(rows, [], facts, held_against="profiler_on", whole_ns=[1_050_000.0], told=told)
    assert [op["typical_ns"] for op in found["operators"]] == [830_000, 170_000]
    assert found["sum"]["agrees"] and found["sum"]["share_of_whole"] == pytest.approx(1 / 1.05)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TfLiteGpuDelegateV2", "[out]:7"),
        ("SOFTMAX", "[t1]:0"),
        ("Delegate/Convolution (NHWC, F32) IGEMM", "[Delegate]:0"),
        ("CONV_2D", "[another tensor]:0"),
        ("CONV_2D", "no index"),
    ],
)
def test_what_is_no_operator_of_the_file_is_a_row_of_its_own(kind: str, name: str) -> None:
    rows, told = rows_of_table(operator_table(table((kind, "0.5", name))), model())
    assert [r.matched for r in rows] == ["", "", ""]
    assert rows[2].operator is None and told[id(rows[2])]["typical_ns"] == 500_000
    assert rows[2].name.startswith(kind)


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Inference timings in us: Init: 1",
        HEAD,
        table(),
        table(("CONV_2D", "-1", "[t1]:0")),
        table(("CONV_2D", "1e300", "[t1]:0")),
        table(("CONV_2D", "nan", "[t1]:0")),
        table(("CONV_2D", "fast", "[t1]:0")),
    ],
)
def test_a_log_without_a_whole_table_is_refused(log: str) -> None:
    with pytest.raises(DeviceError, match="no usable profile"):
        operator_table(log)
