"""Inputs into an interpreter, outputs out of it."""

from __future__ import annotations

import hashlib
from typing import Any

from .lines import AgentError, Lines


def random_inputs(details: list[Any], seed: int) -> list[Any]:
    """One sample in the model's own types: full range for 8 bit, 0..1 for indices, else -1..1."""
    import numpy

    source, arrays = numpy.random.RandomState(seed), []
    for detail in details:
        kind = numpy.dtype(detail["dtype"])
        shape = [max(1, int(d)) for d in detail["shape"]]
        if kind.kind == "f":
            arrays.append(source.uniform(-1, 1, shape).astype(kind))
        elif kind.kind in "iub":
            full = kind.itemsize <= 2 and kind.kind != "b"
            low, high = (numpy.iinfo(kind).min, numpy.iinfo(kind).max) if full else (0, 1)
            arrays.append(source.randint(low, high + 1, shape).astype(kind))
        else:
            raise AgentError("inputs", "no random input can be made for type " + str(kind))
    return arrays


def given_inputs(spec: dict[str, Any]) -> list[list[Any]]:
    """The samples of the pushed file: raw little-endian arrays, one after the other."""
    import numpy

    with open(spec["path"], "rb") as stream:
        content = stream.read()
    if hashlib.sha256(content).hexdigest() != spec["sha256"]:
        raise AgentError("inputs", "the inputs on the device are not those that were sent")
    samples, offset = [], 0
    for layout in spec["layout"]:
        sample = []
        for item in layout:
            kind = numpy.dtype(item["dtype"])
            count = int(numpy.prod(item["shape"], dtype=numpy.int64))
            sample.append(numpy.frombuffer(content, kind, count, offset).reshape(item["shape"]))
            offset += count * kind.itemsize
        samples.append(sample)
    return samples


def set_inputs(interpreter: Any, details: list[Any], sample: list[Any]) -> None:
    if len(sample) != len(details):
        raise AgentError("inputs", "the model has {} inputs".format(len(details)))
    try:
        for detail, array in zip(details, sample):
            interpreter.set_tensor(detail["index"], array)
    except ValueError as error:
        raise AgentError("inputs", str(error)) from None


def fit_shapes(interpreter: Any, sample: list[Any]) -> None:
    """Give open dimensions the sample's size, before tensors are allocated."""
    for detail, array in zip(interpreter.get_input_details(), sample):
        if list(detail["shape"]) != list(array.shape):
            signature = list(detail.get("shape_signature", ()))
            if len(signature) != array.ndim or -1 not in signature:
                text = "the input takes {}, not {}".format(list(detail["shape"]), list(array.shape))
                raise AgentError("inputs", text)
            interpreter.resize_tensor_input(detail["index"], list(array.shape))


def collect(
    request: dict[str, Any], interpreter: Any, details: list[Any], samples: list[Any], lines: Lines
) -> Any:
    """Every sample's outputs, raw and one after the other in one file; its layout and hash."""
    if not request.get("outputs") or not samples:
        return None
    import numpy

    lines.say("stage", stage="outputs")
    digest, layout, size = hashlib.sha256(), [], 0
    with open(request["outputs"], "wb") as stream:
        for index, sample in enumerate(samples):
            interpreter.reset_all_variables()  # what an LSTM remembers of other samples
            set_inputs(interpreter, details, sample)
            interpreter.invoke()
            row = []
            for detail in interpreter.get_output_details():
                array = numpy.ascontiguousarray(interpreter.get_tensor(detail["index"]))
                content = array.tobytes()
                digest.update(content)
                stream.write(content)
                size += len(content)
                row.append({"dtype": array.dtype.name, "shape": [int(d) for d in array.shape]})
            layout.append(row)
            lines.beat("outputs", index + 1, len(samples))
    return {"layout": layout, "sha256": digest.hexdigest(), "size_bytes": size}
