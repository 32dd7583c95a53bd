"""How is the evidence told to a person, as Markdown and to a machine?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import afdplan
from afdplan.report.published_tables import (
    ablation_table,
    curve_table,
    fact_table,
    source_table,
    system_table,
)
from afdplan.report.tables import TextTable, to_markdown, to_rich
from afdplan.report.validation_tables import (
    band_table,
    baseline_table,
    cell_tables,
    method_table,
    order_table,
    ratio_table,
    trace_table,
)
from afdplan.report.verdict import READING, headline

if TYPE_CHECKING:
    from rich.console import RenderableType

    from afdplan.validation.run import Validation

__all__ = ["markdown_page", "render_validation", "validation_answer"]

SHOWN_CELLS = 12
"""Cells in the terminal; the page has all."""


def render_validation(result: Validation) -> RenderableType:
    """Return the verdict and its tables for a terminal."""
    from rich.console import Group
    from rich.markup import escape

    colour = "red" if result.broken else "green"
    parts: list[RenderableType] = [f"[bold {colour}]{escape(headline(result))}[/]"]
    for table in _tables(result, shown=SHOWN_CELLS):
        parts += ["", to_rich(table)]
    return Group(*parts)


def markdown_page(result: Validation) -> str:
    """Return the whole evidence as a Markdown page."""
    command = "afdplan validate " + ("all" if len(result.parts) == 3 else result.parts[0])
    command += " --full" if result.full else ""
    command += " --traces DIR" if result.traces else ""
    head = [
        "# Validation",
        "",
        f"Written by `{command} --markdown FILE`, afdplan {afdplan.__version__}.",
        "",
        f"**{headline(result)}.**",
        "",
        READING,
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(to_markdown(table) for table in _tables(result, None))


def validation_answer(result: Validation) -> dict[str, Any]:
    """Return what ``afdplan validate --json`` prints under the common head.

    Times are in the unit of their model: abstract in `paper`, `cells`, `traces` and `ratios`
    (every trace is given an abstract latency model), seconds in `published`.
    """
    return {
        "holds": not result.broken,
        "covered_fraction": result.covered_fraction,
        "bands": [{"holds": check.holds, **_fields(check)} for check in result.checks],
        "paper": result.paper,
        "cells": result.cells,
        "traces": result.traces,
        "ratios": result.ratios,
        "published": [
            {
                **_fields(system),
                "time_unit": "s",
                "points": [{**_fields(point), "error": point.error} for point in system.points],
            }
            for system in result.published
        ],
    }


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _tables(result: Validation, shown: int | None) -> Iterable[TextTable]:
    if result.checks:
        yield band_table(result.checks)
    if result.paper is not None:
        yield fact_table(result.paper.facts)
        yield curve_table(result.paper.curve)
        yield ablation_table(result.paper.ablations)
    if result.cells:
        yield method_table(result.all_cells)
        yield from cell_tables(result.cells, shown)
    if result.traces:
        yield trace_table(result.traces)
        yield order_table(result.traces)
    if result.ratios:
        yield baseline_table(result.ratios)
        yield ratio_table(result.ratios)
    if result.published:
        yield system_table(result.published)
        yield source_table(result.published)
