"""The rows of a table as a TOML file says them, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.dataset import Preprocess
from edgeopt.errors import InputError
from edgeopt.optimize.recipes import CALIBRATED, SCHEMES
from edgeopt.paths import data_dir
from edgeopt.quality import QualityRequest
from edgeopt.toml_file import Section, did_you_mean, read_toml
from edgeopt.training import TrainingRequest
from edgeopt.verify.decode import Decode
from edgeopt.verify.metrics import METRICS, PAIR_METRICS
from edgeopt.zoo import BUILDERS, Builder, builder_named

__all__ = ["CELLS", "Row", "TableSpec", "load_spec", "shipped_specs"]

CELLS = (*SCHEMES, "qat")  # qat: int8 after quantization-aware training
SLOW = "int16x8"
_ENDINGS = (".keras", ".h5", ".tflite")
_EXAMPLE = 'For example schemes = ["float32", "int8"].'


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of the table: a `builder` or a `model` file. Data as `--calibration` takes it, with
    absolute paths; `samples` is how many random ones stand in for calibration data.

    `slow_runs` is how many timed runs int16x8 gets, whose kernels are slow, in one process.
    `published` is shown beside what was measured, and never used for anything else.
    """

    name: str
    builder: Builder | None
    model: Path | None
    options: Mapping[str, float]
    weights: Path | None
    seed: int
    schemes: tuple[str, ...]
    metric: str | None
    decode: str | None
    labels: str | None
    on_device: bool
    calibration: str | None
    samples: int
    train_data: str | None
    eval_data: str | None
    preprocess: Preprocess
    quality: QualityRequest
    training: TrainingRequest
    runs: int
    slow_runs: int
    warmup: int
    processes: int
    threads: int
    timeout_s: float
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """False for weights that are random: their accuracy says nothing and is not measured."""
        return self.model is not None or self.weights is not None


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The whole file. `target` and `device` are as the flags of deploy."""

    path: Path
    title: str
    target: str | None
    device: str | None
    rows: tuple[Row, ...]


def shipped_specs() -> dict[str, Path]:
    """The tables that come with edgeopt, by name."""
    found = {path.stem: path for path in data_dir("tables").glob("*.toml")}
    return dict(sorted(found.items()))


def load_spec(text: str) -> TableSpec:
    """The table that a path or the name of a shipped one means.

    Raises InputError naming file, line and key for what cannot be.
    """
    shipped = shipped_specs()
    path = shipped.get(text, Path(text))
    if not path.is_file():
        raise InputError(
            f"There is no table {text}.{did_you_mean(text, shipped)}",
            f"Give a .toml file, or one of those that come with edgeopt: {', '.join(shipped)}.",
        )
    root = read_toml(path)
    if root.integer("schema", 1) != 1:
        raise root.error("schema", "this version reads schema 1.")
    defaults = root.section("defaults", required=False)
    rows = tuple(_row(section, defaults) for section in root.sections("model"))
    spec = TableSpec(
        path=path,
        title=root.text("title", path.stem),
        target=root.text("target", "") or None,
        device=root.text("device", "") or None,
        rows=rows,
    )
    for section in (root, defaults):
        section.finish()
    if not rows:
        raise root.error(None, "there is no [[model]].", "Add one for each row of the table.")
    names = [row.name.casefold() for row in rows]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(f"{path}: two models are named {rows[place].name!r}.", "Rename one.")
    return spec


class _Keys:
    """A model's keys with [defaults] behind them; `at` is the section that has a key."""

    def __init__(self, own: Section, defaults: Section) -> None:
        self._own, self._defaults = own, defaults

    def at(self, key: str) -> Section:
        for section in (self._own, self._defaults):
            section.value(key)  # known, wherever it stands
        return self._own if key in self._own or key not in self._defaults else self._defaults

    def text(self, key: str) -> str | None:
        return self.at(key).text(key, "") or None

    def integer(self, key: str, default: int, least: int = 1) -> int:
        return self.at(key).integer(key, default, least=least)

    def path(self, key: str) -> Path | None:
        """A file or folder, looked for beside the spec."""
        text = self.text(key)
        if text is None:
            return None
        section = self.at(key)
        path = section.path.parent / Path(text).expanduser()
        if not path.exists():
            raise section.error(key, f"there is nothing at {path}.", "Check the path.")
        return path.resolve()

    def data(self, key: str) -> str | None:
        """A data spec whose file, where it has one, is looked for beside the table's."""
        text = self.text(key)
        if text is None:
            return None
        base = self.at(key).path.parent
        file, colon, rest = text.rpartition(":") if not (base / text).exists() else (text, "", "")
        path = base / Path(file).expanduser()
        if file and path.exists():
            return f"{path.resolve()}{colon}{rest}"
        if colon and not file.endswith((".py", ".npz", ".npy")) and rest.isidentifier():
            return text  # module:function, found by Python
        raise self.at(key).error(key, f"there is no data at {base / text}.", "Check the path.")


def _row(own: Section, defaults: Section) -> Row:
    keys = _Keys(own, defaults)
    builder, model = _source(own)
    schemes = _schemes(keys, own)
    runs = keys.integer("runs", 20)
    row = Row(
        name=own.text("name"),
        builder=builder,
        model=model,
        options=_options(own, builder),
        weights=keys.path("weights"),
        seed=keys.integer("seed", 0, 0),
        schemes=schemes,
        metric=_metric(keys) or (builder.metric if builder else None),
        decode=_decode(keys),
        labels=_text_of(keys.path("labels")),
        on_device=keys.at("on_device").flag("on_device", False),
        calibration=keys.data("calibration"),
        samples=keys.integer("samples", 12),
        train_data=keys.data("train_data"),
        eval_data=keys.data("eval_data"),
        preprocess=_preprocess(keys),
        quality=_quality(keys),
        training=_training(keys, "qat" in schemes),
        runs=runs,
        slow_runs=keys.integer("slow_runs", min(runs, 3)),
        warmup=keys.integer("warmup", 2, 0),
        processes=keys.integer("processes", min(runs, 3)),
        threads=keys.integer("threads", 1),
        timeout_s=keys.at("timeout").number("timeout", 1800.0),
        published=_published(own),
    )
    own.finish()
    _consistent(row, own)
    return row


def _source(own: Section) -> tuple[Builder | None, Path | None]:
    """`builder` names an architecture, or is the path of a model."""
    text = own.text("builder")
    if text in BUILDERS:
        return BUILDERS[text], None
    path = own.path.parent / Path(text).expanduser()
    if path.exists():
        return None, path.resolve()
    if path.suffix in _ENDINGS or "/" in text:
        raise own.error("builder", f"there is no model at {path}.", "Check the path.")
    try:
        return builder_named(text), None
    except InputError as error:
        raise own.error("builder", error.message, error.hint) from error


def _options(own: Section, builder: Builder | None) -> dict[str, float]:
    table = own.section("options", required=False)
    given = {name: table.value(name) for name in table.names()}
    if builder is None:
        if given:
            raise own.error("options", "only a builder has options.", "Leave them out.")
        return {}
    try:
        return builder.chosen(given)
    except InputError as error:
        raise own.error("options", error.message, error.hint) from error


def _schemes(keys: _Keys, own: Section) -> tuple[str, ...]:
    section = keys.at("schemes")
    found = list(section.texts("schemes", ("float32", "int8")))
    for name in found:
        if name not in CELLS:
            raise section.unknown("schemes", name, CELLS)
    if not found:
        raise section.error("schemes", "is empty.", _EXAMPLE)
    if keys.at("qat").flag("qat", False):
        found.append("qat")
    return tuple(name for name in CELLS if name in found)


def _preprocess(keys: _Keys) -> Preprocess:
    section = keys.at("preprocess")
    value = section.value("preprocess")
    try:
        if isinstance(value, str):
            return Preprocess.parse(value)
        table = section.section("preprocess", required=False)
        return Preprocess.from_mapping({name: table.value(name) for name in table.names()})
    except InputError as error:
        raise section.error("preprocess", error.message, error.hint) from error


def _metric(keys: _Keys) -> str | None:
    """NAME or NAME@OUTPUT, of a metric that there is."""
    text = keys.text("metric")
    name = (text or "").partition("@")[0]
    if text and name not in (*METRICS, *PAIR_METRICS):
        raise keys.at("metric").unknown("metric", name, (*METRICS, *PAIR_METRICS))
    return text


def _decode(keys: _Keys) -> str | None:
    text = keys.text("decode")
    try:
        Decode.parse(text)
    except InputError as error:
        raise keys.at("decode").error("decode", error.message, error.hint) from error
    return text


def _text_of(path: Path | None) -> str | None:
    return str(path) if path else None


def _quality(keys: _Keys) -> QualityRequest:
    """Minimum and maximum unless the row asks for more: random weights are worth no search."""
    usual = {"ranges": "minmax", "equalization": "off", "bias_correction": "off"}
    chosen = {name: keys.text(name) or value for name, value in usual.items()}
    return QualityRequest(**chosen, fallback=keys.text("fallback") or "none")


def _training(keys: _Keys, wanted: bool) -> TrainingRequest:
    given: dict[str, Any] = {"seed": keys.integer("seed", 0, 0)}
    for name in ("epochs", "batch_size"):
        found = keys.at(name).optional(name, least=1)
        given |= {name: found} if found is not None else {}
    rate = keys.at("learning_rate")
    if "learning_rate" in rate:
        given["learning_rate"] = rate.number("learning_rate")
    return TrainingRequest(techniques=("qat",) if wanted else (), **given)


def _published(own: Section) -> dict[str, Any]:
    """Someone else's figures: accuracy (fractions), latency (ms), size (MB), each by scheme."""
    table = own.section("published", required=False)
    if "published" not in own:
        return {}
    found: dict[str, Any] = {"source": table.text("source"), "device": table.text("device", "")}
    for kind in ("accuracy", "latency_ms", "size_mb"):
        part = table.section(kind, required=False)
        for name in part.names():
            if name not in CELLS:
                raise part.unknown(name, name, CELLS)
        found[kind] = {name: part.number(name) for name in part.names()}
    found["metric"] = table.text("metric", "") or None
    table.finish()
    return found


def _consistent(row: Row, own: Section) -> None:
    """Refuse what would fail hours later, or give a number that means nothing."""
    if row.model is not None and row.weights is not None:
        raise own.error("weights", "a model file has its weights.", "Leave weights out.")
    if "qat" in row.schemes and row.train_data is None:
        raise own.error(
            None, f"{row.name}: qat needs labelled data to train with.", "Give train_data."
        )
    if "qat" in row.schemes and not row.trained:
        raise own.error(
            None, f"{row.name}: qat needs trained weights to begin with.", "Give weights."
        )
    if row.eval_data is not None and not row.trained:
        raise own.error(
            "eval_data", "random weights have no accuracy to measure.", "Give weights as well."
        )
    calibrated = [name for name in row.schemes if name in CALIBRATED or name == "qat"]
    if calibrated and row.calibration is None and row.trained:
        raise own.error(
            None,
            f"{row.name}: {calibrated[0]} needs representative data.",
            "Give calibration; random data stands in for it only where weights are random.",
        )
