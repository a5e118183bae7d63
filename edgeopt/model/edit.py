"""Change a .tflite's edges, never its arithmetic: bytes in, bytes out, each result read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeopt.model.edit_batch import set_batch
from edgeopt.model.edit_io import with_io
from edgeopt.model.packing import pack, unpack
from edgeopt.model.tflite import parse

__all__ = ["compact", "ensure_signature", "in_order", "inline_buffers", "set_batch", "with_io"]

SIGNATURE = "serving_default"


def inline_buffers(data: bytes) -> bytes:
    """Bring constants that stand behind the FlatBuffer back into it; `data` itself if none do.

    Readers of the TensorFlow 2.5 era, edgetpu_compiler among them, know only inline constants.
    Raises ModelError over 2 GB.
    """
    return pack(unpack(data)) if parse(data).out_of_line_buffers else data


def compact(data: bytes) -> bytes:
    """The same model, smaller where its tensors repeat each other's zero points.

    Per-channel weights and biases have one of 8 bytes a channel, all zero: 6% of MobileNet v2 in
    int8. A FlatBuffer may point at one list from several places; readers see no difference.
    """
    packed = pack(unpack(data), share_zero_points=True)
    return packed if len(packed) < len(data) else data


def in_order(data: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The same model with its inputs and outputs in the order of these signature names.

    TensorFlow's converter orders both as it likes, and boards address them by number. An order
    that does not name exactly what the only signature has changes nothing.
    """
    model = unpack(data)
    if len(model.signatureDefs or []) != 1 or model.signatureDefs[0].subgraphIndex != 0:
        return data
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    placed = _placed(signature.inputs, inputs, graph.inputs)
    answered = _placed(signature.outputs, outputs, graph.outputs)
    if placed == list(graph.inputs) and answered == list(graph.outputs):
        return data
    graph.inputs, graph.outputs = placed, answered
    return pack(model)


def _placed(entries: Any, names: Sequence[str], indices: Any) -> list[int]:
    known = {entry.name.decode("utf-8", "replace"): entry.tensorIndex for entry in entries or []}
    wanted = [known.get(name, -1) for name in names]
    present = [int(index) for index in indices]
    return wanted if sorted(wanted) == sorted(present) else present


def ensure_signature(data: bytes) -> bytes:
    """Add the signature `serving_default` when none names the main subgraph.

    Its inputs and outputs are called as the tensors are (without ":0"), or "input_0", "output_0"
    where a tensor has no name or shares it.
    """
    model = unpack(data)
    if any(signature.subgraphIndex == 0 for signature in model.signatureDefs or []):
        return data
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.inputs = _tensor_maps(graph, graph.inputs, "input")
    signature.outputs = _tensor_maps(graph, graph.outputs, "output")
    model.signatureDefs = [*(model.signatureDefs or []), signature]
    return pack(model)


def _tensor_maps(graph: Any, indices: Any, role: str) -> list[Any]:
    from ai_edge_litert import schema_py_generated as schema

    maps: list[Any] = []
    used: set[str] = set()
    for position, index in enumerate(indices):
        name = (graph.tensors[index].name or b"").decode("utf-8", "replace").removesuffix(":0")
        if not name or name in used:
            name = f"{role}_{position}"
        used.add(name)
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), int(index)
        maps.append(entry)
    return maps
