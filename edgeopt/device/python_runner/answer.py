"""Reads what the agent sent back, trusting nothing: each field is checked before it counts."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edgeopt.device.printable import clean_text
from edgeopt.device.told import plain, told
from edgeopt.errors import DeviceError

__all__ = ["PHASES", "SCHEMA", "Answer", "Asked", "Listener", "OutputFile", "checked"]

SCHEMA = "edgeopt.agent/1"
_TYPES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "int32": 4}
_TYPES.update({"uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8, "complex64": 8})
_MAX_NS = 10**16  # 115 days: no clock of ours runs so long
_MOST_WARMUP = 10_000_000
_CLOCK_SLACK_NS = 1_000_000_000
_MAX_LINE_BYTES = 32 << 20  # a million runs are a line of 20 MB
_MAX_NOISE_BYTES = 1 << 18  # a greeting is passed over, a flood is not


PHASES = ("first", "warmup", "samples")


@dataclass
class Listener:
    """Takes the agent's stdout as it comes; knows where it is, for progress and for crashes.

    `most` is how many times of each phase are taken; `times` are nanoseconds, as they were sent.
    """

    on_progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    stage: str = "start"
    runtime: str = ""
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    times: dict[str, array[int]] = field(default_factory=dict)
    spoiled: str = ""  # a time that is none
    noise: bytes = b""  # the beginning of what was passed over
    _rest: bytearray = field(default_factory=bytearray)
    _noise_bytes: int = 0

    def feed(self, chunk: bytes) -> None:
        """A raw chunk of stdout. Lines that are not JSON objects of ours are passed over.

        Raises DeviceError for a flood of them, or of a line that does not end.
        """
        first, *more = chunk.split(b"\n")
        self._rest += first
        if len(self._rest) > _MAX_LINE_BYTES:
            self._flood()
        for part in more:
            self._take(bytes(self._rest))
            self._rest = bytearray(part)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return self._pass_over(line)
        if not isinstance(message, dict) or not isinstance(message.get("event"), str):
            return self._pass_over(line)
        self._heed(message)
        return None

    def _pass_over(self, line: bytes) -> None:
        self.noise = (self.noise + line[:200] + b"\n")[:200]
        self._noise_bytes += len(line) + 1
        if self._noise_bytes > _MAX_NOISE_BYTES:
            self._flood()

    def _flood(self) -> NoReturn:
        said = " ".join(clean_text(self.noise.decode(errors="replace"), 80).split())
        said = said or "a line without an end"
        raise DeviceError(
            f"The device prints without end where the agent's answer should be: {said}.",
            "Is the Python named for it one? See --device-python, and `python` in devices.toml.",
        )

    def _heed(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "stage":
            self.stage = clean_text(str(message.get("stage")), 40)
            self.runtime = clean_text(str(message.get("runtime") or self.runtime), 40)
        elif event == "progress":
            done, total = message.get("done"), message.get("total")
            if isinstance(done, int) and isinstance(total, int):
                self.on_progress(clean_text(str(message.get("phase")), 40), done, total)
        elif event == "times":
            self._add(message.get("phase"), message.get("ns"))
        else:
            self.lines.setdefault(event, message)

    def _add(self, phase: Any, times: Any) -> None:
        """Takes a block of run times."""
        if not isinstance(phase, str) or phase not in self.most or not isinstance(times, list):
            self.spoiled = self.spoiled or _short(times)
            return
        wrong = [value for value in times if not _whole(value, 1, _MAX_NS)]
        taken = self.times.setdefault(phase, array("q"))
        if wrong or len(taken) + len(times) > self.most[phase]:
            why = _short(wrong[0]) if wrong else "more runs than asked for"
            self.spoiled = self.spoiled or why
            return
        taken.extend(times)
        self.on_progress(phase, len(taken), self.most[phase])

    def answer(self) -> dict[str, Any]:
        """The `result` line with the times that came before it."""
        first, warmup, samples = (list(self.times.get(p, ())) for p in PHASES)
        return {
            **self.lines["result"],
            "first_ns": first[0] if first else None,
            "warmup_ns": warmup,
            "samples_ns": self.spoiled or samples,
        }


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """The raw outputs' layout: per sample, per output, (dtype, shape)."""

    layout: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A `result` line that passed every check."""

    runtime: str
    runtime_version: str | None
    accelerator: str
    model_sha256: str
    init_ns: int
    first_ns: int | None
    warmup_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    peak_rss_bytes: int | None
    base_rss_bytes: int | None
    conditions: dict[str, Any]
    facts: dict[str, Any]
    outputs: OutputFile | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an answer is held against. `warmup` None: as many as it took; see RunRequest."""

    device: str
    model_sha256: str
    accelerator: str
    runs: int
    time_s: float
    max_runs: int
    warmup: int | None
    samples: int

    @property
    def most(self) -> dict[str, int]:
        """How many times of each phase can come."""
        if not self.runs:
            return dict.fromkeys(PHASES, 0)
        warmup = _MOST_WARMUP if self.warmup is None else self.warmup
        samples = max(self.runs, self.max_runs) if self.time_s else self.runs
        return {"first": 1, "warmup": warmup, "samples": samples}


def checked(message: dict[str, Any], asked: Asked, *, elapsed_ns: int) -> Answer:
    """The result as it was asked for. Raises DeviceError naming the first field that is not.

    `elapsed_ns` is the host's own time around the run: no sum of samples may exceed it.
    """
    return _Checks(asked, message).answer(elapsed_ns)


class _Checks:
    def __init__(self, asked: Asked, message: dict[str, Any]) -> None:
        self.asked = asked
        self.device = asked.device
        self.message = message

    def answer(self, elapsed_ns: int) -> Answer:
        asked = self.asked
        self._equal("model_sha256", asked.model_sha256)
        self._equal("accelerator", asked.accelerator)
        first = self._time("first_ns") if asked.runs else None
        warmup, samples = self._warmup(), self._samples()
        counts = {"first": int(first is not None), "warmup": len(warmup), "samples": len(samples)}
        if self.message.get("counts") != counts:
            self._refuse("counts", _short(self.message.get("counts")))
        if sum(samples) + sum(warmup) + (first or 0) > elapsed_ns + _CLOCK_SLACK_NS:
            self._refuse("samples_ns", "more time than passed here: its clock is wrong")
        return Answer(
            runtime=self._text("runtime") or self._refuse("runtime", "nothing"),
            runtime_version=self._text("runtime_version"),
            accelerator=asked.accelerator,
            model_sha256=asked.model_sha256,
            init_ns=self._time("init_ns"),
            first_ns=first,
            warmup_ns=warmup,
            samples_ns=samples,
            peak_rss_bytes=self._size("peak_rss_bytes"),
            base_rss_bytes=self._size("base_rss_bytes"),
            conditions=told(self._dict("conditions")),
            facts=plain(self._dict("facts"), 7),
            outputs=self._outputs(asked.samples),
        )

    def _warmup(self) -> tuple[int, ...]:
        wanted = self.asked.warmup if self.asked.runs else 0
        return self._times("warmup_ns", wanted or 0, _MOST_WARMUP if wanted is None else wanted)

    def _samples(self) -> tuple[int, ...]:
        """As many as were asked for; by time, unless the most allowed were made before."""
        asked = self.asked
        times = self._times("samples_ns", asked.runs, asked.most["samples"])
        full = len(times) == asked.most["samples"]
        if not full and sum(times) < asked.time_s * 1e9:
            self._refuse("samples_ns", f"short of {asked.time_s:g} s of runs")
        return times

    def _refuse(self, key: str, found: str) -> NoReturn:
        raise DeviceError(
            f"{self.device} sent back an answer that cannot be used: {key} is {found}.",
            "The run is not counted. Try again; if it repeats, look for what else writes there.",
        )

    def _equal(self, key: str, wanted: str) -> None:
        if self.message.get(key) != wanted:
            self._refuse(key, f"{_short(self.message.get(key))} instead of {wanted!r}")

    def _time(self, key: str) -> int:
        value = self.message.get(key)
        if not _whole(value, 1, _MAX_NS):
            self._refuse(key, _short(value))
        return int(value)  # type: ignore[arg-type] # _whole has seen it

    def _times(self, key: str, least: int, most: int) -> tuple[int, ...]:
        values = self.message.get(key)
        if not isinstance(values, list):
            self._refuse(key, f"made of {_short(values)}")
        for value in values:
            if not _whole(value, 1, _MAX_NS):
                self._refuse(key, f"made of {_short(value)}")
        if not least <= len(values) <= most:
            many = str(least) if least == most else f"{least} to {most}"
            self._refuse(key, f"{len(values)} numbers and not {many}")
        return tuple(values)

    def _text(self, key: str) -> str | None:
        value = self.message.get(key)
        if value is not None and not isinstance(value, str):
            self._refuse(key, _short(value))
        return clean_text(value, 100) if value else None

    def _size(self, key: str) -> int | None:
        value = self.message.get(key)
        if value is not None and not _whole(value, 1, 1 << 50):
            self._refuse(key, _short(value))
        return value

    def _dict(self, key: str) -> dict[str, Any]:
        value = self.message.get(key)
        if not isinstance(value, dict):
            self._refuse(key, _short(value))
        return value

    def _outputs(self, samples: int) -> OutputFile | None:
        found = self.message.get("outputs")
        if not samples:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("layout"), list):
            self._refuse("outputs", _short(found))
        layout = tuple(self._sample(row) for row in found["layout"])
        size = sum(_TYPES[kind] * math.prod(shape) for row in layout for kind, shape in row)
        if len(layout) != samples or not all(layout):
            self._refuse("outputs", f"for {len(layout)} samples instead of {samples}")
        if found.get("size_bytes") != size or not isinstance(found.get("sha256"), str):
            self._refuse("outputs", "of another size than its layout")
        return OutputFile(layout=layout, sha256=found["sha256"], size_bytes=size)

    def _sample(self, row: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
        if not isinstance(row, list) or len(row) > 1000:
            self._refuse("outputs", _short(row))
        items = []
        for item in row:
            kind = item.get("dtype") if isinstance(item, dict) else None
            shape = item.get("shape") if isinstance(item, dict) else None
            if kind not in _TYPES or not isinstance(shape, list) or len(shape) > 16:
                self._refuse("outputs", _short(item))
            if not all(_whole(d, 0, 1 << 31) for d in shape):
                self._refuse("outputs", _short(item))
            items.append((str(kind), tuple(shape)))
        return tuple(items)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _short(value: Any) -> str:
    try:
        return clean_text(repr(value), 60)
    except RecursionError:
        return "nested too deeply"


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
