"""A measurement read back from a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeopt.errors import InputError, ResultError
from edgeopt.measurement.measurement import Measurement, measure
from edgeopt.measurement.process import ProcessRun

__all__ = ["read_measurement"]


def read_measurement(document: Mapping[str, Any]) -> Measurement:
    """The measurement of a report, with statistics made anew from its raw numbers.

    One without `processes` (of an older version) is one process. Raises InputError for a document
    that is not a measurement.
    """
    try:
        rows = document.get("processes")
        return measure(
            processes=list(_processes(document, rows)) if rows else [_process(document, document)],
            asked=_number(document.get("processes_asked")) if rows else None,
            precision=_fraction((document.get("precision") or {}).get("asked")),
            judged=bool(document.get("judged", True)),
        )
    except (TypeError, ValueError, AttributeError, KeyError, ResultError) as error:
        raise InputError(
            f"The report's measurement cannot be read: {error}",
            "Give a report that edgeopt deploy or edgeopt benchmark wrote.",
        ) from error


def _processes(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[ProcessRun]:
    """Each with its share of the pooled times, in order; those left out have their own."""
    pools = {key: list(_whole(document.get(key)) or ()) for key in ("warmup_ns", "samples_ns")}
    for row in rows:
        times = {key: row.get(key) for key in pools}
        if row["pooled"]:
            warm, runs = _number(row["warmup_runs"]), _number(row["runs"])
            times["warmup_ns"] = None if warm is None else _take(pools["warmup_ns"], warm)
            times["samples_ns"] = None if row["summary_ns"] else _take(pools["samples_ns"], runs)
        yield _process(row, times)
    if any(pools.values()):
        raise ValueError("it has more times than its processes have.")


def _process(row: Mapping[str, Any], times: Mapping[str, Any]) -> ProcessRun:
    """Its timed runs begin where the device began them: `moved_runs` before the steady state."""
    warmup, samples = _whole(times.get("warmup_ns")), _whole(times.get("samples_ns"))
    if moved := _number(row.get("moved_runs")):
        trace = (warmup or ()) + (samples or ())
        start = len(warmup or ()) - moved
        if start < 0:
            raise ValueError("more runs were moved than there are.")
        warmup, samples = trace[:start], trace[start:]
    return ProcessRun(
        warmup_ns=warmup,
        samples_ns=samples,
        first_ns=_number(row.get("first_ns")),
        init_ns=_number(row.get("init_ns")),
        peak_rss_bytes=_number(row.get("peak_rss_bytes")),
        base_rss_bytes=_number(row.get("base_rss_bytes")),
        summary_ns=row.get("summary_ns"),
        conditions=dict(row.get("conditions") or {}),
        invalid_reasons=_given_reasons(row),
        notes=tuple(map(str, row.get("notes") or ())) if "pooled" in row else (),
        started_s=_fraction(row.get("started_s")),
    )


def _given_reasons(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the conditions; the ones of its times are found anew."""
    reasons = tuple(map(str, row.get("invalid_reasons") or ()))
    return tuple(r for r in reasons if not r.startswith("never settled"))


def _take(pool: list[int], count: int | None) -> list[int]:
    taken, pool[:] = pool[: count or 0], pool[count or 0 :]
    if len(taken) != (count or 0):
        raise ValueError("it has fewer times than its processes have.")
    return taken


def _number(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number.")
    return value


def _fraction(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number.")
    return float(value)


def _whole(values: Any) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise TypeError("its times are not lists of whole nanoseconds.")
    return tuple(values)
