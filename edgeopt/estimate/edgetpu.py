"""Memory and latency of a model on the Edge TPU, before it is compiled.

The bytes are those of the compiler's own layout (`layout`), the split is by whole layers (`cache`),
the coefficients of the latency are fitted to half of published measurements and held against the
other half (benchmarks/estimate.py, docs/ESTIMATES.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.estimate.advice import advice_of
from edgeopt.estimate.cache import MIB, limits, split
from edgeopt.estimate.contract import Estimate, EstimateOptions, Latency, Memory
from edgeopt.estimate.features import Features, Mapped, features_of, mapped_of, peak
from edgeopt.estimate.layout import parameter_bytes_most
from edgeopt.estimate.rates import Rates, read_rates
from edgeopt.facts import ModelFacts
from edgeopt.findings import Placement
from edgeopt.profile import HardwareProfile

__all__ = ["estimate", "latency_of", "memory_of", "rates"]

DATA = Path(__file__).with_name("edgetpu.toml")
_SHORT = 0.02  # the largest error against a compiled file is 1.2%, the mean 0.3%
_SLACK = 0.02
_WIDER = 1.5  # an interval outside the fitted range: its factors to this power
_CPU_SHARE = 0.1  # more of the time on the CPU than this was in no fitted network


@cache
def rates() -> Rates:
    """The fitted coefficients that ship with edgeopt."""
    return read_rates(DATA)


def estimate(
    facts: ModelFacts, placement: Placement, profile: HardwareProfile, options: EstimateOptions
) -> Estimate | None:
    """Raises InputError for a host that is not known; None for a file that has no operations to
    estimate: nothing mapped, already compiled, open shapes, or layers instead of operations."""
    del profile  # its rules have already decided the placement
    known = rates()
    host = options.host or known.default_host
    if host not in known.hosts:
        raise InputError(
            f"There is no host named {host!r} to estimate for.",
            f"Known: {', '.join(sorted(known.hosts))}.",
        )
    if facts.format != "tflite" or placement.source == "compiled_file" or not placement.ops_mapped:
        return None
    mapped = mapped_of(facts, placement)
    if any(t.dynamic for op in mapped.operators for t in op.outputs):
        return None

    def timed(features: Features) -> Latency:
        return latency_of(features, host, known)

    latency = timed(features_of(mapped))
    return Estimate(
        estimator="edgetpu",
        memory=memory_of(mapped),
        latency=latency,
        advice=advice_of(mapped, placement, options.beside, latency, timed),
        notes=_notes(mapped, placement),
    )


def memory_of(mapped: Mapped) -> Memory:
    """Bytes cached and streamed, and whether all of them fit."""
    sizes = [w.parameters for w in mapped.work]
    expected, least, most = limits(len(sizes))
    cached, streamed = split(sizes, expected)
    total = sum(sizes)
    high = max(
        round(total * (1 + _SHORT)), sum(parameter_bytes_most(op) for op in mapped.operators)
    )
    low = round(total * (1 - _SLACK))
    fits = "yes" if high <= least else "no" if low > most else "uncertain"
    return Memory(
        on_chip=cached,
        off_chip=sum(sizes[i] for i in streamed),
        limit=expected,
        limit_low=least,
        limit_high=most,
        fits=fits,
        activations=peak(mapped),
        low=low,
        high=high,
    )


def latency_of(features: Features, host: str, known: Rates) -> Latency:
    """The sum of the terms, with the interval of the networks that were fitted."""
    terms = terms_of(features, host, known)
    value = sum(terms.values())
    beyond = _beyond(features, terms, value, known)
    power = _WIDER if beyond else 1.0
    bound = max(terms, key=lambda name: terms[name])
    return Latency(
        value_ms=value,
        low_ms=value * known.factors[0] ** power,
        high_ms=value * known.factors[1] ** power,
        host=host,
        terms_ms=terms,
        bound=bound,
        reason=_reason(bound, terms[bound] / value, features),
        coverage=None if beyond else known.coverage,
        data=known.data,
        extrapolated=beyond,
    )


def terms_of(features: Features, host: str, known: Rates) -> dict[str, float]:
    """Milliseconds of each part of one inference."""
    own, at = known.ns, known.hosts[host]
    nanoseconds = {
        "compute": own["macs"] * features.macs + own["reads"] * features.reads,
        "streaming": at["link_ns_per_byte"] * features.streamed,
        "transfer": at["link_ns_per_byte"] * (features.inputs + features.outputs),
        "instructions": own["operations"] * features.operations,
        "cpu": at["cpu_ns_per_mac"] * features.cpu_macs
        + at["cpu_ns_per_value"] * features.cpu_values,
        "fixed": at["fixed_ns"],
    }
    return {name: ns / 1e6 for name, ns in nanoseconds.items()}


def _beyond(
    features: Features, terms: Mapping[str, float], value: float, known: Rates
) -> tuple[str, ...]:
    """What is outside of the fitted data, in words."""
    found = []
    for name, (least, most) in known.range.items():
        is_ = getattr(features, name)
        if is_ > most * 1.1:
            found.append(f"{name} {is_:,} is above the {most:,.0f} of the fitted data")
        elif is_ < least * 0.9:
            found.append(f"{name} {is_:,} is below the {least:,.0f} of the fitted data")
    if terms["cpu"] > _CPU_SHARE * value:
        found.append("operations on the CPU: no fitted network had any")
    return tuple(found)


_WORDS = {
    "compute": "Bound by computing",
    "streaming": "Bound by parameter streaming",
    "transfer": "Bound by the transfer of input and output",
    "instructions": "Bound by the number of operations",
    "cpu": "Bound by the operations on the CPU",
    "fixed": "Bound by the fixed time of a call",
}


def _reason(bound: str, share: float, features: Features) -> str:
    detail = {
        "compute": f"{features.macs / 1e9:.2f} billion multiply-accumulates with padding",
        "streaming": f"{features.streamed / MIB:.2f} MiB cross the link with every inference",
        "transfer": f"{(features.inputs + features.outputs) / 1e6:.2f} MB in and out",
        "instructions": f"{features.operations} operations",
        "cpu": f"{features.cpu_operations} operations",
        "fixed": "the model is small",
    }[bound]
    return f"{_WORDS[bound]}: {100 * share:.0f}% of the time, {detail}."


def _notes(mapped: Mapped, placement: Placement) -> tuple[str, ...]:
    found: list[str] = []
    if unsure := sum(not op.certain for op in placement.ops):
        found.append(
            f"The placement of {unsure} operation{'s' * (unsure > 1)} is not certain: estimated as "
            "predicted."
        )
    if any(op.op.endswith("LSTM") for op in mapped.operators):
        found.append("The size of an LSTM is known from one compiled file only.")
    return tuple(found)
