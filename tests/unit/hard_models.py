"""Models made hard to quantize on purpose: the same function with badly scaled channels.

Every channel of every inner activation gets a factor of its own (a change of units): whatever
writes the channel multiplies by it, whatever reads it divides. One vector belongs to all tensors
that share their channels, found by uniting the tensors around each ADD, pooling, MEAN, RELU,
RESHAPE: a residual stream is rescaled as a whole. Works on the schema's objects and knows nothing
of how edgeopt equalizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeopt.dataset import Dataset
from edgeopt.feed import feed, real_values
from edgeopt.model import read
from edgeopt.model.packing import add_buffer, pack, unpack

_OP = schema.BuiltinOperator
_ACTIVATION = schema.ActivationFunctionType
_HOMOGENEOUS = (_ACTIVATION.NONE, _ACTIVATION.RELU)  # f(s x) = s f(x) for s > 0
_CARRIERS = {_OP.ADD, _OP.AVERAGE_POOL_2D, _OP.MAX_POOL_2D, _OP.MEAN, _OP.RELU, _OP.RESHAPE}
_WEIGHED = {_OP.CONV_2D, _OP.DEPTHWISE_CONV_2D, _OP.FULLY_CONNECTED}


class _Graph:
    """The main subgraph, its operators as (code, inputs, outputs, operator)."""

    def __init__(self, data: bytes) -> None:
        self.model: Any = unpack(data)
        self.graph = self.model.subgraphs[0]

    def code(self, op: Any) -> int:
        code = self.model.operatorCodes[op.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def constant(self, index: int) -> bool:
        return self.model.buffers[self.graph.tensors[index].buffer].data is not None

    def channels(self, index: int) -> int:
        return int(self.graph.tensors[index].shape[-1])

    def values(self, index: int) -> np.ndarray:
        tensor = self.graph.tensors[index]
        data = np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), np.float32)
        return data.reshape(tensor.shape)

    def store(self, index: int, values: np.ndarray) -> None:
        """In a buffer of its own: constants may be shared."""
        tensor = self.graph.tensors[index]
        tensor.buffer = add_buffer(self.model)
        self.model.buffers[tensor.buffer].data = values.astype("<f4").tobytes()

    def bytes(self) -> bytes:
        return pack(self.model)


class _Streams:
    """Which tensors share their channels (union-find), and which must stay as they are."""

    def __init__(self, net: _Graph) -> None:
        self.net = net
        self.parent = list(range(len(net.graph.tensors)))
        self.frozen: set[int] = set()
        for op in net.graph.operators:
            self._visit(op)
        for index in (*net.graph.inputs, *net.graph.outputs):
            self.frozen.add(int(index))
        self.frozen = {self.of(index) for index in self.frozen}

    def of(self, index: int) -> int:
        while self.parent[index] != index:
            index = self.parent[index]
        return index

    def _visit(self, op: Any) -> None:
        code = self.net.code(op)
        edges = [int(i) for i in op.inputs if i >= 0 and not self.net.constant(int(i))]
        made = [int(i) for i in op.outputs]
        if code in _CARRIERS and len({self.net.channels(i) for i in (*edges, *made)}) == 1:
            for index in (*edges, *made):
                self.parent[self.of(index)] = self.of(made[0])
        elif code not in _WEIGHED:
            self.frozen.update((*edges, *made))
        activation = getattr(op.builtinOptions, "fusedActivationFunction", _ACTIVATION.NONE)
        if activation not in _HOMOGENEOUS:
            self.frozen.update(made)

    def factors(self, orders: float, seed: int) -> dict[int, np.ndarray]:
        """Log-uniform over `orders` orders of magnitude around 1; exact powers would be too easy
        to undo."""
        rng = np.random.default_rng(seed)
        made = {}
        for index in range(len(self.parent)):
            stream, tensor = self.of(index), self.net.graph.tensors[index]
            if stream not in made and len(tensor.shape) and not self.net.constant(index):
                exponents = rng.uniform(-orders / 2, orders / 2, self.net.channels(index))
                free = stream not in self.frozen
                made[stream] = 10.0**exponents if free else np.ones(len(exponents))
        return made


def rescaled(data: bytes, *, orders: float = 3.0, seed: int = 0) -> bytes:
    """`data` (a float .tflite), its function kept, with the factors of one stream spread over
    `orders` orders of magnitude. Channels behind an activation that is not homogeneous (RELU6) and
    the model's own inputs and outputs stay as they are."""
    net = _Graph(data)
    streams = _Streams(net)
    factors = streams.factors(orders, seed)
    for op in net.graph.operators:
        code = net.code(op)
        if code not in _WEIGHED:
            continue
        read, written = factors[streams.of(int(op.inputs[0]))], factors[streams.of(op.outputs[0])]
        weights = net.values(int(op.inputs[1])).astype(np.float64)
        if code == _OP.DEPTHWISE_CONV_2D:
            weights = weights * written / np.repeat(read, len(written) // len(read))
        else:
            left = (-1,) + (1,) * (weights.ndim - 1)
            weights = weights / read * written.reshape(left)
        net.store(int(op.inputs[1]), weights)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            net.store(int(op.inputs[2]), net.values(int(op.inputs[2])) * written)
    return net.bytes()


def without_clamps(data: bytes) -> bytes:
    """Every fused RELU6 as a RELU: another function, whose channels may be scaled."""
    net = _Graph(data)
    for op in net.graph.operators:
        if getattr(op.builtinOptions, "fusedActivationFunction", 0) == _ACTIVATION.RELU6:
            op.builtinOptions.fusedActivationFunction = _ACTIVATION.RELU
    return net.bytes()


def with_residual_adds(data: bytes, *, seed: int = 0) -> bytes:
    """Every convolution that keeps its shape (1 x 1, as many channels out as in) written as
    ADD(a, b) of two, whose kernels are random and add up to the old one."""
    net, rng = _Graph(data), np.random.default_rng(seed)
    made = []
    for op in net.graph.operators:
        made.append(op)
        if net.code(op) != _OP.CONV_2D:
            continue
        weights = net.values(int(op.inputs[1]))
        if weights.shape[0] == weights.shape[3] and weights.shape[1:3] == (1, 1):
            part = weights * rng.uniform(0, 1, weights.shape)
            made += _joined(net, op, (part, weights - part))
    net.graph.operators = made
    return net.bytes()


def _joined(net: _Graph, op: Any, parts: tuple[np.ndarray, np.ndarray]) -> list[Any]:
    """Make `op` the first branch; the second branch and the ADD that takes its activation."""
    result, activation = int(op.outputs[0]), op.builtinOptions.fusedActivationFunction
    op.builtinOptions.fusedActivationFunction = _ACTIVATION.NONE
    branches = [_copy(net, result, f"_branch{side}") for side in "ab"]
    twin = schema.OperatorT()
    vars(twin).update(vars(op))
    kernel = _copy(net, int(op.inputs[1]), "_twin")
    bias = _copy(net, int(op.inputs[2]), "_twin")
    twin.inputs, twin.outputs = [int(op.inputs[0]), kernel, bias], [branches[1]]
    op.outputs = [branches[0]]
    net.store(int(op.inputs[1]), parts[0])
    net.store(kernel, parts[1])
    net.store(bias, np.zeros(net.channels(bias)))
    add = schema.OperatorT()
    add.opcodeIndex = _code(net, _OP.ADD)
    add.inputs, add.outputs = branches, [result]
    add.builtinOptionsType = schema.BuiltinOptions.AddOptions
    add.builtinOptions = schema.AddOptionsT()
    add.builtinOptions.fusedActivationFunction = activation
    return [twin, add]


def _copy(net: _Graph, index: int, ending: str) -> int:
    tensor, old = schema.TensorT(), net.graph.tensors[index]
    vars(tensor).update(vars(old))
    tensor.name = bytes(old.name) + ending.encode()
    if not net.constant(index):
        tensor.buffer = add_buffer(net.model)
    net.graph.tensors.append(tensor)
    return len(net.graph.tensors) - 1


def _code(net: _Graph, builtin: int) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    net.model.operatorCodes.append(code)
    return len(net.model.operatorCodes) - 1


def with_unknown_operation(data: bytes) -> bytes:
    """ABS before the last FULLY_CONNECTED: the LiteRT quantizer has no int8 of it."""
    net = _Graph(data)
    [place] = [i for i, op in enumerate(net.graph.operators) if net.code(op) == _OP.FULLY_CONNECTED]
    dense = net.graph.operators[place]
    op = schema.OperatorT()
    op.opcodeIndex = _code(net, _OP.ABS)
    op.inputs, op.outputs = [int(dense.inputs[0])], [_copy(net, int(dense.inputs[0]), "_abs")]
    dense.inputs = [op.outputs[0], *map(int, dense.inputs[1:])]
    net.graph.operators.insert(place, op)
    return net.bytes()


def answers(model: Path, data: Dataset) -> np.ndarray:
    """Real values of the first output, a row a sample."""
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    facts = read(model)
    [source] = interpreter.get_input_details()
    result = interpreter.get_output_details()[0]
    rows = []
    for sample in data.samples():
        interpreter.set_tensor(source["index"], feed(sample, facts.inputs)[0])
        interpreter.invoke()
        found = interpreter.get_tensor(result["index"])
        rows.append(real_values([found], [facts.outputs[0]])[0].ravel())
    return np.array(rows)


def agreement(one: Path, other: Path, data: Dataset) -> float:
    """Share of the samples whose largest output is the same."""
    return float(np.mean(answers(one, data).argmax(1) == answers(other, data).argmax(1)))
