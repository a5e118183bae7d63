"""Proofs that a repaired file computes the same: run beside the original, in another process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Child, ChildDied
from edgeopt.errors import ModelError
from edgeopt.model.tflite import parse
from edgeopt.repair.split import Part, cut
from edgeopt.repair.static import Seen, computed_shapes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Proof", "Prover", "runnable"]

_WORKER = "edgeopt.repair.proof_worker"
_RANDOM_SAMPLES = 8
_TIMEOUT_S = 300.0
# Custom operations that LiteRT registers itself (tensorflow/lite/core/kernels/register.cc).
_REGISTERED = ("TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Whether every output was equal, to the bit, on how many samples and with which kernels.

    `kernels` lists each kind: TensorFlow Lite's "own", which define the operations, and "xnnpack",
    which LiteRT uses where it can. `beyond` names operations that LiteRT does not have: they and
    what follows them were carried over unchanged and not run.
    """

    identical: bool
    samples: int
    kernels: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""
    beyond: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "identical": self.identical,
            "samples": self.samples,
            "kernels": [dict(entry) for entry in self.kernels],
            "reason": self.reason or None,
            "not_run": list(self.beyond),
        }


def runnable(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The model up to custom operations that LiteRT does not have, and what those are.

    Raises ModelError when nothing is left.
    """
    graph = parse(data).subgraphs[0]
    beyond = [op for op in graph.operators if op.custom and op.op not in _REGISTERED]
    if not beyond:
        return data, ()
    blocked = {op.index for op in beyond}
    tensors = {t.index for op in beyond for t in op.outputs}
    for op in graph.operators:
        if any(t is not None and t.index in tensors for t in op.inputs):
            blocked.add(op.index)
            tensors.update(t.index for t in op.outputs)
    first = frozenset(op.index for op in graph.operators) - blocked
    if not first:
        raise ModelError(
            f"LiteRT does not have {beyond[0].op}, and nothing comes before it.",
            "It cannot be proven that a repair changes nothing.",
        )
    part = cut(data, [("tpu", first), ("tail", frozenset(blocked))])[0]
    return part.data, tuple(dict.fromkeys(op.where for op in beyond))


def _beyond(data: bytes) -> list[Any]:
    """What the part that is not run consists of, for comparing it as it is written."""
    graph = parse(data).subgraphs[0]
    blocked: set[int] = set()
    found = []
    for op in graph.operators:
        unknown = op.custom and op.op not in _REGISTERED
        if unknown or any(t is not None and t.index in blocked for t in op.inputs):
            blocked.update(t.index for t in op.outputs)
            options = None if op.custom_options is None else bytes(op.custom_options)
            found.append((op.op, op.version, dict(op.options), options))
    return found


class Prover:
    """Runs proofs in a process of its own, with files in `folder` (scratch); a context manager.

    `given` are arrays for the original's inputs, sample after sample. With `own_only` it is enough
    that TensorFlow Lite's own kernels agree, which define the operations.
    """

    def __init__(
        self,
        original: bytes,
        folder: Path,
        *,
        given: Sequence[NDArray[np.generic]] = (),
        own_only: bool = False,
    ) -> None:
        self._folder, self._given, self._own_only = folder, given, own_only
        self._child: Child | None = None
        self._rest = _beyond(original)
        reference, self.beyond = runnable(original)
        self._original = self._write("original.tflite", reference)
        self._edges = _edges(reference)

    def __enter__(self) -> Prover:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if one was started; the next proof starts another."""
        if self._child is not None:
            self._child.__exit__(None, None, None)
            self._child = None

    def run_original(self) -> None:
        """Raises ModelError when LiteRT does not run the original: nothing can be proven then."""
        self._ask({"action": "observe", "path": str(self._original), "values": []})

    def observe(self, data: bytes) -> dict[int, Seen]:
        """Every tensor's shape at run time, and the values of computed shapes.

        Raises ModelError when the model does not run.
        """
        values = [t.index for op in computed_shapes(parse(data).subgraphs[0]) for t in op.outputs]
        path = self._write("observed.tflite", data)
        answer = self._ask({"action": "observe", "path": str(path), "values": values})
        return {
            int(index): Seen(
                shape=tuple(row["shape"]),
                data=bytes.fromhex(row["data"]) if "data" in row else None,
            )
            for index, row in answer["seen"].items()
        }

    def same(self, data: bytes) -> Proof:
        """Hold one file that takes the original's place against it."""
        candidate, _ = runnable(data)
        if _beyond(data) != self._rest:
            return Proof(identical=False, samples=0, reason="what LiteRT cannot run was changed")
        path = self._write("candidate.tflite", candidate)
        inputs, outputs = _edges(candidate)
        if (inputs, outputs) != self._edges:
            return Proof(identical=False, samples=0, reason="inputs or outputs were lost")
        return self._compare(_one_file(path, inputs, outputs))

    def same_as(self, data: bytes, made: bytes) -> Proof:
        """Hold `made` against another file than the original, such as a part of it."""
        path, other = self._write("single.tflite", data), self._write("repaired.tflite", made)
        inputs, outputs = _edges(data)
        if _edges(made) != (inputs, outputs):
            return Proof(identical=False, samples=0, reason="inputs or outputs were lost")
        wires = _one_file(other, inputs, outputs)
        return self._compare(wires, original=path, given=())

    def chain(self, parts: Sequence[Part], whole: bytes) -> Proof:
        """Hold files that run one after the other against the original; `whole` was cut to them."""
        graph = parse(whole).subgraphs[0]
        runs = [part for part in parts if not self._has_unknown(part)]
        if len(runs) < len(parts):
            return self._chain_to_the_unknown(parts, runs, whole)
        inputs, outputs = ([t.index for t in side] for side in (graph.inputs, graph.outputs))
        return self._compare(self._wired(parts, inputs, outputs))

    def _chain_to_the_unknown(
        self, parts: Sequence[Part], runs: Sequence[Part], whole: bytes
    ) -> Proof:
        """Only the last part may hold what LiteRT does not have; its inputs are then the proof."""
        if not runs or list(runs) != list(parts[: len(runs)]) or len(parts) - len(runs) != 1:
            return Proof(identical=False, samples=0, reason="a part cannot be run by LiteRT")
        graph = parse(whole).subgraphs[0]
        made = {t.index for op in graph.operators for t in op.outputs}
        kept = [i for i in parts[-1].inputs if i in made]
        first = frozenset(i for part in runs for i in part.operators)
        rest = frozenset(op.index for op in graph.operators) - first
        head = cut(whole, [("tpu", first), ("tail", rest)])[0]
        if not set(kept) <= set(head.outputs):
            return Proof(identical=False, samples=0, reason="a part cannot be run by LiteRT")
        path = self._write("head.tflite", head.data)
        return self._compare(self._wired(runs, head.inputs, head.outputs), original=path, given=())

    def _wired(
        self, parts: Sequence[Part], inputs: Sequence[int], outputs: Sequence[int]
    ) -> dict[str, Any]:
        """Files that run one after the other, with the tensors that go in and come out."""
        wired = []
        for number, part in enumerate(parts):
            path = self._write(f"part{number}.tflite", part.data)
            wired.append(
                {"path": str(path), "inputs": list(part.inputs), "outputs": list(part.outputs)}
            )
        return {"inputs": list(inputs), "outputs": list(outputs), "parts": wired}

    @staticmethod
    def _has_unknown(part: Part) -> bool:
        operators = parse(part.data).subgraphs[0].operators
        return any(op.custom and op.op not in _REGISTERED for op in operators)

    def _compare(
        self,
        chain: Mapping[str, Any],
        *,
        original: Path | None = None,
        given: Sequence[NDArray[Any]] | None = None,
    ) -> Proof:
        answer = self._ask(
            {
                "action": "compare",
                "original": str(original or self._original),
                "chain": chain,
                "kernels": ["own"] if self._own_only else ["own", "xnnpack"],
                "samples": _RANDOM_SAMPLES,
                "seed": 0,
            },
            self._given if given is None else given,
        )
        kernels = tuple(answer["kernels"])
        failed = next((k for k in kernels if not k["identical"]), None)
        return Proof(
            identical=failed is None,
            samples=min(k["samples"] for k in kernels),
            kernels=kernels,
            reason=failed["reason"] if failed else "",
            beyond=self.beyond,
        )

    def _ask(self, message: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> dict[str, Any]:
        if self._child is None:
            self._child = Child(_WORKER)
        with _deadline(self._child):
            try:
                self._child.send(message, arrays)
                return self._child.answer()
            except ChildDied as error:
                self.close()
                ended = str(error).splitlines()[0] if str(error) else "no reason given"
                raise ModelError(
                    f"The LiteRT runtime crashed or hung on this model ({ended}).",
                    "Nothing is repaired that cannot be proven; convert the model again.",
                ) from error

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        return path


def _one_file(path: Path, inputs: int, outputs: int) -> dict[str, Any]:
    """A chain of one file, whose edges are counted through."""
    into = list(range(inputs))
    out = list(range(inputs, inputs + outputs))
    part = {"path": str(path), "inputs": into, "outputs": out}
    return {"inputs": into, "outputs": out, "parts": [part]}


def _edges(data: bytes) -> tuple[int, int]:
    graph = parse(data).subgraphs[0]
    return len(graph.inputs), len(graph.outputs)


@contextmanager
def _deadline(child: Child) -> Iterator[None]:
    timer = threading.Timer(_TIMEOUT_S, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
