"""Decoders: from a model's outputs to what a metric compares, chosen by `--decode`.

`NAME[,key=value...]` or `module:function` for everything else. A decoder gets the outputs in real
units without the batch axis, the inputs, and what the data says about the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError, ModelError
from edgeopt.facts import ModelFacts
from edgeopt.verify.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Decode", "Decoder", "Outputs", "Settings", "make_decoder"]


@dataclass(kw_only=True, slots=True)  # not frozen: made for every sample
class Outputs:
    """What one inference gave: `arrays` without batch axis, and the `target` of the data."""

    arrays: Sequence[Array]
    given: Callable[[], Sequence[NDArray[Any]]]  # few decoders ask for the inputs
    target: Any = None

    @property
    def inputs(self) -> Sequence[NDArray[Any]]:
        """In real units, without batch axis."""
        return self.given()


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """`compared` are the outputs it reads: those that are held against the float model's too."""

    run: Callable[[Outputs], Any]
    compared: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class Decode:
    """What `--decode` says. Raises InputError when it is not to be understood."""

    name: str = ""  # empty: the metric's usual one
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Decode:
        if not text or not text.strip():
            return cls()
        head, *pairs = (part.strip() for part in text.split(","))
        options: dict[str, str] = {}
        if "=" in head and ":" not in head.partition("=")[0]:
            head, pairs = "", [head, *pairs]
        for pair in pairs:
            name, equals, value = (piece.strip() for piece in pair.partition("="))
            if not (name and equals and value) or name in options:
                raise InputError(
                    f"--decode has {pair!r}; it takes NAME,key=value pairs.",
                    "Example: --decode ctc,alphabet=letters.txt,blank=last",
                )
            options[name] = value
        return cls(name=head, options=options)

    @property
    def function(self) -> bool:
        return ":" in self.name

    def to_json(self) -> str | None:
        text = ",".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])
        return text.strip(",") or None


class Settings:
    """A decoder's options, each read once; `finish` refuses those that nobody read."""

    def __init__(self, decode: Decode, name: str) -> None:
        self.name = name
        self._left = dict(decode.options)
        self._known: list[str] = []

    def text(self, key: str, default: str = "", among: Sequence[str] = ()) -> str:
        self._known.append(key)
        value = self._left.pop(key, default)
        if among and value not in among:
            raise InputError(
                f"--decode {self.name}: {key} cannot be {value!r}.", f"Use {', '.join(among)}."
            )
        return value

    def number(self, key: str) -> float | None:
        value = self.text(key)
        try:
            return float(value) if value else None
        except ValueError as error:
            raise InputError(f"--decode {self.name}: {key}={value!r} is no number.") from error

    def whole(self, key: str, default: int) -> int:
        value = self.number(key)
        if value is not None and not value.is_integer():
            raise InputError(f"--decode {self.name}: {key} must be a whole number.")
        return default if value is None else int(value)

    def output(self, facts: ModelFacts, key: str = "output") -> int | None:
        """The output that the user named, by name or number; None when none was."""
        from edgeopt.dataset.fitting import plain_name

        wanted = self.text(key)
        if not wanted:
            return None
        names = [t.name for t in facts.outputs]
        for known in (names, [plain_name(n) for n in names], list(map(str, range(len(names))))):
            if known.count(wanted) == 1:
                return known.index(wanted)
        raise InputError(
            f"{facts.path.name} has no output {wanted!r}.",
            f"It has {', '.join(f'{i}: {n}' for i, n in enumerate(names))}.",
        )

    def finish(self) -> None:
        if self._left:
            wrong = next(iter(self._left))
            near = get_close_matches(wrong, self._known, 1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise InputError(
                f"The decoder {self.name} has no option {wrong!r}.{guess}",
                f"It has: {', '.join(self._known)}.",
            )


def make_decoder(decode: Decode, metric: Metric, facts: ModelFacts) -> Decoder:
    """The decoder for a metric on a model of these facts; its outputs come in that order.

    Raises InputError when the name, an option or the model's outputs do not suit the metric.
    """
    if decode.function:
        return _users(decode, metric)
    name = decode.name or _usual(metric, facts)
    if name not in metric.decoders or name not in _MAKERS:
        usable = [n for n in metric.decoders if n in _MAKERS]
        raise InputError(
            f"The decoder {name!r} makes nothing that {metric.name} compares.",
            f"Use {', '.join(usable)}, or module:function.",
        )
    settings = Settings(decode, name)
    made = _MAKERS[name](settings, facts)
    settings.finish()
    return made


def _usual(metric: Metric, facts: ModelFacts) -> str:
    """An autoencoder ranks by its reconstruction error, one value is a score."""
    if metric.name == "auc":
        first, given = facts.outputs[0], facts.inputs
        if len(given) == 1 and given[0].shape == first.shape and _size(first.shape) > 1:
            return "reconstruction"
        if _size(first.shape) == 1:
            return "score"
    return metric.decoders[0]


def _size(shape: Sequence[int] | None) -> int:
    total = 1
    for side in (shape or ())[1:]:
        total *= side if side > 0 else 2
    return total


def _scores(settings: Settings, facts: ModelFacts) -> Decoder:
    """Class scores; `first` is the label of the first class, `threshold` splits one value."""
    at = settings.output(facts) or 0
    first = settings.whole("first", 0)
    given = settings.number("threshold")
    threshold = _own_threshold(facts, at) if given is None else given

    def run(outputs: Outputs) -> Array:
        import numpy as np

        scores = outputs.arrays[at].ravel()
        if scores.size == 1:
            if threshold is None:
                raise InputError(
                    f"{facts.path.name} answers with one value, which is no choice of a class.",
                    "For two classes give --decode scores,threshold=0.5 (or 0 for logits); for a "
                    "number give --metric mae; to rank give --metric auc.",
                )
            scores = np.array([threshold - scores[0], scores[0] - threshold])
        if first > 0:
            return np.concatenate([np.full(first, -np.inf), scores])
        return np.asarray(scores[-first:])

    return Decoder(run=run, compared=(at,))


def _own_threshold(facts: ModelFacts, at: int) -> float | None:
    """0.5 where the output is a logistic function's, through a dequantization or not."""
    makers = {t.index: op for op in facts.operators() for t in op.outputs}
    maker = makers.get(facts.outputs[at].index)
    while maker is not None and maker.op in ("DEQUANTIZE", "QUANTIZE", "RESHAPE"):
        source = maker.inputs[0]
        maker = makers.get(source.index) if source is not None else None
    return 0.5 if maker is not None and maker.op == "LOGISTIC" else None


def _values(settings: Settings, facts: ModelFacts) -> Decoder:
    """An output as it is."""
    at = settings.output(facts) or 0
    return Decoder(run=lambda outputs: outputs.arrays[at], compared=(at,))


def _score(settings: Settings, facts: ModelFacts) -> Decoder:
    """One number of an output: its only one, or that at `index`; `sign=-` ranks the other way."""
    at = settings.output(facts) or 0
    index = settings.text("index")
    sign = -1.0 if settings.text("sign", "+", ("+", "-")) == "-" else 1.0

    def run(outputs: Outputs) -> float:
        flat = outputs.arrays[at].ravel()
        if not index and flat.size != 1:
            raise InputError(
                f"{facts.path.name} answers with {flat.size} values, not with one score.",
                "Name one with --decode score,index=N, or use --decode scores.",
            )
        if index and not (index.isdigit() and int(index) < flat.size):
            raise InputError(f"--decode score,index={index}: there are {flat.size} values.")
        return sign * float(flat[int(index or 0)])

    return Decoder(run=run, compared=(at,))


def _reconstruction(settings: Settings, facts: ModelFacts) -> Decoder:
    """An autoencoder's anomaly score: the mean squared error between its input and output."""
    at = settings.output(facts) or 0

    def run(outputs: Outputs) -> float:
        import numpy as np

        given, made = outputs.inputs[0], outputs.arrays[at]
        if given.size != made.size:
            raise InputError(
                f"{facts.path.name} answers with {made.size} values to an input of {given.size}: "
                "there is no reconstruction to compare.",
                "Use --decode score, or module:function.",
            )
        return float(np.square(given.ravel().astype(np.float64) - made.ravel()).mean())

    return Decoder(run=run, compared=(at,))


def _users(decode: Decode, metric: Metric) -> Decoder:
    """`module:function`, called with the list of outputs (and the inputs, where it takes two)."""
    import inspect

    from edgeopt.dataset.user_function import users_code, users_function

    if decode.options:
        raise InputError(f"--decode {decode.name} takes no options: they belong in the function.")
    function = users_function(decode.name)
    try:
        parameters = inspect.signature(function).parameters.values()
        two = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) > 1
    except (TypeError, ValueError):  # a builtin does not tell
        two = False

    def run(outputs: Outputs) -> Any:
        with users_code(decode.name):
            given = (list(outputs.arrays), list(outputs.inputs))
            answer = function(*given) if two else function(given[0])
        return _checked(answer, metric, decode.name)

    return Decoder(run=run)


def _checked(answer: Any, metric: Metric, name: str) -> Any:
    """What a user's function returned, in the kind that the metric compares."""
    import numpy as np

    if metric.target in ("texts", "answers"):
        if not isinstance(answer, str):
            raise InputError(f"{name} returned {type(answer).__name__}; {metric.name} takes text.")
        return answer
    if metric.target == "boxes":
        from edgeopt.verify.decode_boxes import checked_boxes

        return checked_boxes(answer, name)
    try:
        array = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} returned {type(answer).__name__}, not numbers.") from error
    if array.size == 0 or np.isnan(array).any():
        raise ModelError(f"{name} returned no numbers, or NaN.")
    return array.ravel() if metric.target == "classes" else array


def _elsewhere(module: str, name: str) -> Callable[[Settings, ModelFacts], Decoder]:
    """A maker in a module that imports this one."""

    def make(settings: Settings, facts: ModelFacts) -> Decoder:
        from importlib import import_module

        made: Decoder = getattr(import_module(f"edgeopt.verify.{module}"), name)(settings, facts)
        return made

    return make


_MAKERS: dict[str, Callable[[Settings, ModelFacts], Decoder]] = {
    "scores": _scores,
    "score": _score,
    "reconstruction": _reconstruction,
    "values": _values,
    "ctc": _elsewhere("decode_text", "ctc"),
    "ids": _elsewhere("decode_text", "ids"),
    "detections": _elsewhere("decode_boxes", "detections"),
    "span": _elsewhere("decode_text", "span"),
}
