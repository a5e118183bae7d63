"""LiteRT's compiled model and its profiler, through ctypes on the wheel's libLiteRt.so.

No header comes with the wheel, and names, arguments and structures change between releases: only
the versions in PROVEN are called, each of which was seen to work. A wrong call would crash this
process, which the host names.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from .lines import AgentError

PROVEN = ("2.3.0", "2.2.0", "2.1.6")  # of ai-edge-litert; 2.1.2 has other calls, and crashes
MACHINES = ("x86_64", "aarch64")  # 64-bit Linux: the same sizes and alignments in both
CPU = 1  # of the hardware accelerators
HOST_READ, HOST_WRITE = 0, 1  # lock modes of a tensor buffer


class Layout(ctypes.Structure):
    """A tensor's shape; the lowest 7 bits of `rank` are its rank."""

    _fields_ = [("rank", c_uint32), ("dimensions", c_int32 * 8), ("strides", c_uint32 * 8)]


class TensorType(ctypes.Structure):
    _fields_ = [("element", c_int), ("layout", Layout)]


class Event(ctypes.Structure):
    """One event of the profiler, times in microseconds.

    `kind` is 1 for a part of the runtime, 2 for an operator, 4 and 8 for one inside a delegate,
    above it is telemetry. `index` is the operator's or the one inside of the delegate.
    """

    _fields_ = [
        ("tag", c_char_p),
        ("kind", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_uint64 * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    ]


def is_open(kind: TensorType) -> bool:
    return any(size < 0 for size in kind.layout.dimensions[: kind.layout.rank & 127])


def library(runtime: Any) -> Any:
    """libLiteRt.so beside the runtime's module. Raises AgentError where it is not a proven one."""
    name, version, module = runtime
    if name != "ai_edge_litert":
        raise AgentError("no_profiler", name + " has no profiler that can be reached from Python")
    where = platform.machine()
    if version not in PROVEN or sys.platform != "linux" or where not in MACHINES:
        text = "ai-edge-litert {} on {} {}".format(version, sys.platform, where)
        raise AgentError("no_profiler", text, proven=list(PROVEN), machines=list(MACHINES))
    path = os.path.join(os.path.dirname(module.__file__), "libLiteRt.so")
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise AgentError("no_profiler", str(error)) from None


class Compiled:
    """A model compiled for the CPU with a profiler in it, and the buffers of one signature."""

    def __init__(
        self, runtime: Any, model: bytes, threads: int, kernels: str, shapes: dict[int, list[int]]
    ) -> None:
        """`shapes` of all inputs and outputs, by index: the file may leave them open."""
        self.lib, self.shapes = library(runtime), shapes
        self.model = ctypes.create_string_buffer(model, len(model))  # LiteRT keeps no copy
        self.env, self.handle = c_void_p(), c_void_p()
        self.call("CreateEnvironment", c_int(0), None, byref(self.env))
        size = c_size_t(len(model))
        self.call("CreateModelFromBuffer", self.env, self.model, size, byref(self.handle))
        self.compiled, self.profiler = c_void_p(), c_void_p()
        options = self.options(threads, kernels)
        self.call("CreateCompiledModel", self.env, self.handle, options, byref(self.compiled))
        self.call("CompiledModelGetProfiler", self.compiled, byref(self.profiler))
        if not self.profiler:
            raise AgentError("no_profiler", "LiteRT gave the compiled model no profiler")
        self.signature, self.graph = self.main_signature()
        self.resize()
        self.ins, self.outs = self.buffers("Input"), self.buffers("Output")
        self.arguments = (
            c_size_t(self.signature),
            c_size_t(len(self.ins)),
            (c_void_p * len(self.ins))(*[b for _, b in self.ins]),
            c_size_t(len(self.outs)),
            (c_void_p * len(self.outs))(*[b for _, b in self.outs]),
        )
        self.invoke = self.lib.LiteRtRunCompiledModel

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.lib, "LiteRt" + name)(*arguments)
        if status:
            raise AgentError("profiler", "LiteRt{} returned status {}".format(name, status))

    def options(self, threads: int, kernels: str) -> Any:
        found = c_void_p()
        self.call("CreateOptions", byref(found))
        self.call("SetOptionsHardwareAccelerators", found, c_int(CPU))
        cpu = 'kernel_mode = "{}"\nnum_threads = {}\n'.format(kernels, int(threads))
        for name, text in (
            ("runtime_options_string", "enable_profiling = true\n"),
            ("xnnpack", cpu),
        ):
            self.add(found, name, text)
        return found

    def add(self, options: Any, name: str, text: str) -> None:
        """Options by name, as TOML text that LiteRT frees with C's own free."""
        libc = ctypes.CDLL(None)
        libc.strdup.restype = c_void_p
        copy = c_void_p(libc.strdup(c_char_p(text.encode())))
        opaque, free = c_void_p(), ctypes.cast(libc.free, c_void_p)
        self.call("CreateOpaqueOptions", c_char_p(name.encode()), copy, free, byref(opaque))
        self.call("AddOpaqueOptions", options, opaque)

    def main_signature(self) -> Any:
        """The signature of the first subgraph, which is what an interpreter's invoke runs."""
        count, main = c_size_t(), c_void_p()
        self.call("GetModelSubgraph", self.handle, c_size_t(0), byref(main))
        self.call("GetNumModelSignatures", self.handle, byref(count))
        for index in range(count.value):
            signature, graph = c_void_p(), c_void_p()
            self.call("GetModelSignature", self.handle, c_size_t(index), byref(signature))
            self.call("GetSignatureSubgraph", signature, byref(graph))
            if graph.value == main.value:
                return index, signature
        raise AgentError("profiler", "no signature of the model runs its first subgraph")

    def tensors(self, side: str) -> list[Any]:
        """(index, type) of every input or output, in the signature's order."""
        count, found = c_size_t(), []
        self.call("GetNumSignature{}s".format(side), self.graph, byref(count))
        for index in range(count.value):
            tensor, kind, where = c_void_p(), TensorType(), c_uint32()
            at = c_size_t(index)
            self.call("GetSignature{}TensorByIndex".format(side), self.graph, at, byref(tensor))
            self.call("GetTensorIndex", tensor, byref(where))
            self.call("GetRankedTensorType", tensor, byref(kind))
            found.append((where.value, kind))
        return found

    def resize(self) -> None:
        """Inputs that the file leaves open take the shape that the interpreter has."""
        for index, (tensor, kind) in enumerate(self.tensors("Input")):
            if is_open(kind):
                shape = self.shapes[tensor]
                size, at = (c_int * len(shape))(*shape), c_size_t(index)
                where = (self.compiled, c_size_t(self.signature), at)
                self.call("CompiledModelResizeInputTensor", *where, size, c_size_t(len(shape)))

    def buffers(self, side: str) -> list[Any]:
        """(index of the tensor, buffer) of every input or output, in the signature's order."""
        found = []
        for index, (tensor, kind) in enumerate(self.tensors(side)):
            needs, buffer = c_void_p(), c_void_p()
            if is_open(kind):
                for axis, size in enumerate(self.shapes[tensor]):
                    kind.layout.dimensions[axis] = size
            where = (self.compiled, c_size_t(self.signature), c_size_t(index))
            self.call("GetCompiledModel{}BufferRequirements".format(side), *where, byref(needs))
            name = "CreateManagedTensorBufferFromRequirements"
            self.call(name, self.env, byref(kind), needs, byref(buffer))
            found.append((tensor, buffer))
        return found

    def write(self, contents: dict[int, bytes]) -> None:
        """Into the inputs, by index of the tensor."""
        for index, buffer in self.ins:
            if index not in contents:
                raise AgentError("profiler", "LiteRT knows an input by another index")
            address = self.locked(buffer, HOST_WRITE, len(contents[index]))
            ctypes.memmove(address, contents[index], len(contents[index]))
            self.call("UnlockTensorBuffer", buffer)

    def read(self, sizes: dict[int, int]) -> dict[int, bytes]:
        """The outputs by index of the tensor, so many bytes of each."""
        found = {}
        for index, buffer in self.outs:
            if index in sizes:
                address = self.locked(buffer, HOST_READ, sizes[index])
                found[index] = ctypes.string_at(address, sizes[index])
                self.call("UnlockTensorBuffer", buffer)
        return found

    def locked(self, buffer: Any, mode: int, size: int) -> Any:
        """The buffer's memory, which must hold `size` bytes at least."""
        held, address = c_size_t(), c_void_p()
        self.call("GetTensorBufferSize", buffer, byref(held))
        if held.value < size:
            raise AgentError("profiler", "a buffer holds {} of {} bytes".format(held.value, size))
        self.call("LockTensorBuffer", buffer, byref(address), c_int(mode))
        return address

    def run(self) -> None:
        status = self.invoke(self.compiled, *self.arguments)
        if status:
            raise AgentError("profiler", "LiteRtRunCompiledModel returned status {}".format(status))

    def start(self) -> None:
        self.call("ResetProfiler", self.profiler)
        self.call("StartProfiler", self.profiler)

    def stop(self) -> list[Any]:
        """(tag, kind, start_us, elapsed_us, index, subgraph) of every event since `start`."""
        self.call("StopProfiler", self.profiler)
        count = c_int()
        self.call("GetNumProfilerEvents", self.profiler, byref(count))
        if count.value < 1:
            return []
        events = (Event * count.value)()
        function = self.lib.LiteRtGetProfilerEvents
        function.argtypes = (c_void_p, c_int, POINTER(Event * count.value))
        self.call("GetProfilerEvents", self.profiler, count, byref(events))
        return [
            (
                (e.tag or b"").decode("utf-8", "replace")[:200],
                int(e.kind),
                int(e.start_us),
                int(e.elapsed_us),
                int(e.index),
                int(e.subgraph),
            )
            for e in events
        ]
