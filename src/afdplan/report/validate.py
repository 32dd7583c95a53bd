"""How is the evidence told to a person, as Markdown and to a machine?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.mode_tables import mode_table, pool_table
from afdplan.report.published_tables import (
    ablation_table,
    curve_table,
    fact_table,
    source_table,
    system_table,
)
from afdplan.report.tables import TextTable, to_markdown
from afdplan.report.telling import Telling
from afdplan.report.validation_tables import (
    band_table,
    baseline_table,
    cell_tables,
    method_table,
    order_table,
    ratio_table,
    trace_table,
)
from afdplan.report.validation_words import (
    ASSUMPTIONS,
    READING,
    WITHOUT_BARRIER,
    facts,
    headline,
    validation_subject,
    verdict,
)
from afdplan.version import __version__

if TYPE_CHECKING:
    from afdplan.validation.run import Validation

__all__ = ["evidence_tables", "markdown_page", "validation_answer", "validation_told"]

SHOWN_CELLS = 12
"""Cells in the terminal; the page has all."""


def validation_told(result: Validation, folder: str | None = None) -> Telling:
    """Return what text and page say of the evidence.

    Parameters
    ----------
    result
        All comparisons that were made.
    folder
        Where traces came from, if they were asked for.
    """
    return Telling(
        subject=validation_subject(result, folder),
        answer=f"{headline(result)}.",
        facts=tuple(facts(result)),
        tables=tuple(_tables(result, shown=SHOWN_CELLS)),
        warnings=tuple(verdict(check) for check in result.broken),
        assumptions=ASSUMPTIONS if result.execution == "synchronous" else WITHOUT_BARRIER,
        style="red" if result.broken else "green",
    )


def markdown_page(result: Validation) -> str:
    """Return the whole evidence as a Markdown page."""
    is_free = result.execution == "barrier-free"
    command = "afdplan validate " + ("all" if len(result.parts) == 3 - is_free else result.parts[0])
    command += " --execution barrier-free" if is_free else ""
    command += " --full" if result.full else ""
    command += " --effects" if result.effects else ""
    command += " --traces DIR" if result.traces else ""
    head = [
        "# Validation",
        "",
        f"Written by `{command} --markdown FILE`, afdplan {__version__}.",
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
        "execution": result.execution,
        "covered_fraction": result.covered_fraction,
        "bands": [{"holds": check.holds, **_fields(check)} for check in result.checks],
        "paper": result.paper,
        **chosen(result, "cells effects traces ratios"),
        "modes": [{**_fields(one), "verdict_regret": one.verdict_regret} for one in result.modes],
        "pool": result.pool,
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


def evidence_tables(result: Validation, shown: int | None = None) -> dict[str, list[TextTable]]:
    """Return the tables of each part of the evidence; none where it was not asked for.

    Parameters
    ----------
    result
        All comparisons that were made.
    shown
        Rows of a table of cells; None shows all.
    """
    cells, traces, systems = result.all_cells, result.traces, result.published
    tables: dict[str, list[TextTable]] = {
        "bands": [band_table(result.checks, result.execution)] if result.checks else [],
        "paper": [],
        "simulation": [*cell_tables((*result.cells, *result.effects), shown)],
        "traces": [trace_table(traces)] if traces else [],
        "order": [order_table(traces)] if traces else [],
        "ratios": [],
        "modes": [mode_table(result.modes)] if result.modes else [],
        "pool": [pool_table(result.pool)] if result.pool else [],
        "systems": [system_table(systems), source_table(systems)] if systems else [],
    }
    if result.paper is not None:
        paper = result.paper
        tables["paper"] = [
            fact_table(paper.facts),
            curve_table(paper.curve),
            ablation_table(paper.ablations),
        ]
    if any(cell.is_declared for cell in cells):
        tables["simulation"].insert(0, method_table(cells))
    if result.ratios:
        tables["ratios"] = [baseline_table(result.ratios), ratio_table(result.ratios)]
    return tables


def _tables(result: Validation, shown: int | None) -> list[TextTable]:
    return [table for part in evidence_tables(result, shown).values() for table in part]
