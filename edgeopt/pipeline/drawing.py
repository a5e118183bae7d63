"""What `--picture` and `--node-data` show: the placement predicted, read, or proven."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.errors import InputError
from edgeopt.facts import ModelFacts, Subgraph
from edgeopt.model.layer_names import layer_names
from edgeopt.pipeline.proving import Proof
from edgeopt.report.picture import Place, draw_svg, page

if TYPE_CHECKING:
    from edgeopt.pipeline.inspecting import Inspection

__all__ = ["Drawing", "draw"]

_SOURCES = {
    "predicted": "predicted, not compiled",
    "compiled_file": "read from the compiled file",
    "compiler": "from the compiler",
}


def draw(found: Inspection, picture: Path | None, node_data: Path | None) -> list[Path]:
    """Write what was asked for, each file whole or not at all; returns the files.

    Raises InputError where one cannot be written or a graph is too large to draw.
    """
    drawing = Drawing.of(found)
    if picture is not None:
        drawing.write(picture, nodes=False)
    if node_data is not None:
        drawing.write(node_data, nodes=True)
    return [path for path in (picture, node_data) if path is not None]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One graph and where its operations run; `chip` is the accelerator's name for people."""

    graph: Subgraph
    places: dict[int, Place]
    title: str
    lines: tuple[str, ...]
    chip: str
    signature: str

    @classmethod
    def of(cls, found: Inspection) -> Drawing:
        """From a proof the source's graph, else the file's own. Raises InputError where the format
        does not tell of operations."""
        if found.proof is not None and found.source is not None:
            return _proven(found.facts, found.source, found.proof, found.chip)
        if found.placement is None:
            raise InputError(
                f"{found.facts.path.name} is a {found.facts.format} model: where its layers run is "
                "decided once it is converted.",
                "Convert it first (edgeopt convert), and draw the .tflite.",
            )
        return _placed(found)

    def write(self, path: Path, *, nodes: bool) -> None:
        """The picture (its kind by the ending), or the node data; whole or not at all.

        Raises InputError where it cannot be written.
        """
        from edgeopt.store import publish, scratch

        with scratch() as folder:
            file = folder / "drawing"
            file.write_text(self.node_data() if nodes else self.picture(path), encoding="utf-8")
            publish(file, path)

    def picture(self, path: Path) -> str:
        """SVG, or HTML where the name ends so."""
        svg = draw_svg(self.graph, self.places, self.title, self.lines, self.chip)
        return page(svg, self.title, self._left()) if path.suffix == ".html" else svg

    def _left(self) -> list[tuple[int, str, str]]:
        return [
            (op.index, f"{op.op} #{op.index} {place.layer}".strip(), place.reason)
            for op in self.graph.operators
            if (place := self.places.get(op.index)) and place.kind != "chip"
        ]

    def node_data(self) -> str:
        """JSON for Model Explorer."""
        from edgeopt.report.node_data import node_data

        name = f"edgeopt: {self.chip} or CPU"
        content = node_data(self.graph, self.places, name, self.chip, self.signature)
        return json.dumps(content, indent=2) + "\n"


def _placed(found: Inspection) -> Drawing:
    placement = found.placement
    assert placement is not None
    graph = found.facts.subgraphs[0]
    names = layer_names(graph)
    places = {
        op.index: Place(
            kind="cpu" if where.placement == "cpu" else "chip",
            certain=where.certain,
            reason=_told(where.reason, where.hint),
            layer=where.layer or name or "",
        )
        for op, where, name in zip(graph.operators, placement.ops, names, strict=False)
    }
    line = f"{placement.ops_mapped} of {placement.ops_total} operations on the chip"
    doubt = sum(not place.certain for place in places.values())
    line += f", {doubt} uncertain" if doubt else ""
    return Drawing(
        graph=graph,
        places=places,
        title=found.facts.path.name,
        lines=(f"{line}, {placement.ops_cpu} on the CPU", _SOURCES[placement.source]),
        chip=found.chip,
        signature=next(iter(found.facts.signatures), ""),
    )


def _told(reason: str, hint: str) -> str:
    return "\n".join(filter(None, (reason, hint)))


def _proven(compiled: ModelFacts, source: ModelFacts, proof: Proof, chip: str) -> Drawing:
    graph, mapping = source.subgraphs[0], proof.mapping
    several = len(mapping.partitions) > 1
    groups = {
        index: number if several else None
        for number, partition in enumerate(mapping.partitions, 1)
        for index in partition.source_ops
    }
    surprises = {d.index: f"predicted: {d.predicted}" for d in proof.comparison.disagreements}
    left = set(mapping.cpu_ops)
    names = layer_names(graph)
    places = {}
    for op, where, name in zip(graph.operators, proof.predicted.ops, names, strict=False):
        on_cpu = op.index in left
        places[op.index] = Place(
            kind="chip" if op.index in groups else "cpu" if on_cpu else "none",
            reason=_told(where.reason, where.hint) if on_cpu else "",
            layer=where.layer or name or "",
            group=groups.get(op.index),
            surprise=surprises.get(op.index, ""),
        )
    line = f"{len(groups)} of {len(graph.operators)} operations in {len(mapping.partitions)} "
    line += f"partition{'s' * several}, {len(left)} on the CPU"
    other = "as predicted" if not surprises else f"{len(surprises)} not as predicted (red frame)"
    state = "proven" if mapping.proven else "not proven"
    return Drawing(
        graph=graph,
        places=places,
        title=f"{source.path.name} inside {compiled.path.name}",
        lines=(line, f"mapping {state} from the compiled file; {other}"),
        chip=chip,
        signature=next(iter(source.signatures), ""),
    )
