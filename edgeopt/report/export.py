"""`--report FILE`: the report as a file, its kind told by the ending."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgeopt.errors import InputError
from edgeopt.report.fleet import FleetReport
from edgeopt.report.report import Report

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeopt.report.variants import VariantsReport

__all__ = ["check_suffix", "export", "summary", "svg_format"]

_KINDS = (".json", ".html", ".svg", ".md", ".txt")


def check_suffix(path: Path | None) -> None:
    """Refuse what cannot be written, before any work is done (InputError)."""
    from edgeopt.store import check_place

    if path is None:
        return
    if path.suffix not in _KINDS:
        raise InputError(
            f"--report {path} has no known ending.", f"Use one of {', '.join(_KINDS)}."
        )
    check_place(path)


def export(
    report: Report | FleetReport | VariantsReport, path: Path, *, verb: str = "deploy"
) -> None:
    """Write it whole or not at all. Raises InputError where it cannot be written."""
    from edgeopt.store import publish_text

    publish_text(_text(report, path.suffix, verb), path)


def _text(report: Report | FleetReport | VariantsReport, suffix: str, verb: str) -> str:
    if suffix == ".json":
        content = {"schema": f"edgeopt.{verb}/1", **report.to_json()}
        return json.dumps(content, sort_keys=True, indent=2, allow_nan=False, default=str) + "\n"
    from rich.console import Console

    from edgeopt.report.fleet_view import fleet_markdown

    if suffix == ".md" and isinstance(report, FleetReport):
        return fleet_markdown(report, title=f"edgeopt {verb}")
    console = Console(file=io.StringIO(), record=True, width=118, highlight=False)
    console.print(summary(report))
    if suffix == ".html":
        return console.export_html(code_format=_HTML)
    if suffix == ".svg":
        return console.export_svg(title=f"edgeopt {verb}", code_format=svg_format())
    if suffix == ".md":
        return f"```text\n{console.export_text()}```\n"
    return console.export_text()


def summary(report: Report | FleetReport | VariantsReport) -> RenderableType:
    """What a person reads of it, in the terminal and in files."""
    from edgeopt.report.fleet_view import fleet_summary
    from edgeopt.report.terminal import deploy_summary
    from edgeopt.report.variants import VariantsReport, variants_summary

    if isinstance(report, FleetReport):
        return fleet_summary(report)
    if isinstance(report, VariantsReport):
        return variants_summary(report)
    return deploy_summary(report)


def svg_format() -> str:
    """rich's SVG frame, less the fonts that it would load from the web."""
    import re

    from rich._export_format import CONSOLE_SVG_FORMAT

    return re.sub(r"@font-face \{\{.*?\}\}\s*|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


_HTML = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>edgeopt report</title>
<style>{stylesheet} body {{ color: {foreground}; background: {background}; margin: 2em; }}
pre {{ font-family: ui-monospace, Menlo, Consolas, monospace; line-height: 1.35; }}</style>
</head><body><pre><code>{code}</code></pre></body></html>
"""
