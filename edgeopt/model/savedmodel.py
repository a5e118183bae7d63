"""Read a SavedModel's folder: the graph of its serving signature, function calls unfolded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.facts import Subgraph, Tensor
from edgeopt.model.contents import Contents
from edgeopt.model.flatbuffer import CorruptFile
from edgeopt.model.saved_model_pb import dtype_name, parse
from edgeopt.model.source import read_bytes
from edgeopt.model.tf_graph import GraphReader, Scope, shape_tuple
from edgeopt.model.tf_ops import VARIABLES

__all__ = ["read"]

_MAX_GRAPH_BYTES = 2 << 30  # protobuf's own limit
_DEFAULT = "serving_default"
_INIT = "__saved_model_init_op"


def read(path: Path) -> Contents:
    """Raises CorruptFile when saved_model.pb cannot be read, ModelError without a signature."""
    file = path / "saved_model.pb"
    if not file.resolve().is_relative_to(path.resolve()):
        raise ModelError(f"{file} is a link that leaves its folder.", "Copy the file into it.")
    try:
        return _contents(parse(read_bytes(file, _MAX_GRAPH_BYTES)), path)
    except (KeyError, ValueError) as error:  # an attribute or output left out; text not UTF-8
        raise CorruptFile(f"its graph is not one of TensorFlow ({error!r})") from error


def _contents(saved_model: Any, path: Path) -> Contents:
    meta = _graph_to_serve(saved_model, path)
    signatures = {s.key: s.value for s in meta.signatures if s.key != _INIT}
    if not signatures:
        raise ModelError(
            f"{path} has no signature: nothing says which inputs and outputs to serve.",
            "Save it again with tf.saved_model.save(model, folder, signatures=...).",
        )
    _require_variables(meta, path)
    name = _DEFAULT if _DEFAULT in signatures else min(signatures)
    subgraph, trained = _subgraph(meta.graph, signatures[name], name)
    return Contents(
        subgraphs=(subgraph,),
        parameters=trained,
        description=f"TensorFlow {meta.info.version}" if meta.info.version else "",
        signatures=tuple(sorted(signatures)),
    )


def _graph_to_serve(saved_model: Any, path: Path) -> Any:
    metas = list(saved_model.meta_graphs)
    if not metas:
        raise CorruptFile(f"{path / 'saved_model.pb'} holds no graph")
    return next((meta for meta in metas if "serve" in meta.info.tags), metas[0])


def _require_variables(meta: Any, path: Path) -> None:
    uses_variables = any(node.op in VARIABLES for node in meta.graph.nodes)
    if uses_variables and not (path / "variables" / "variables.index").is_file():
        raise ModelError(
            f"{path} has no variables/variables.index: its weights are missing.",
            "Copy the whole folder, with variables/ in it.",
        )


def _subgraph(graph: Any, signature: Any, name: str) -> tuple[Subgraph, int | None]:
    """The serving graph, and how many trained values it takes."""
    reader = GraphReader({f.signature.name: f for f in graph.library.functions})
    bound: dict[str, Tensor] = {}
    inputs = []
    for entry in sorted(signature.inputs, key=lambda entry: str(entry.key)):
        dtype, shape = dtype_name(entry.value.dtype), shape_tuple(entry.value.shape)
        tensor = reader.tensor(entry.key, shape, dtype)
        inputs.append(tensor)
        bound[_node_of(entry.value.name)] = tensor
    wanted = sorted(signature.outputs, key=lambda entry: str(entry.key))
    references = [entry.value.name for entry in wanted]
    outputs = reader.values(Scope.of("", graph.nodes, bound, references), references)
    for index, entry in enumerate(wanted):
        outputs[index] = reader.state(outputs[index], shape_tuple(entry.value.shape))
    return reader.subgraph(name, inputs, outputs), reader.trained_values()


def _node_of(reference: str) -> str:
    return reference.partition(":")[0]
