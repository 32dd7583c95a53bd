"""How does an answer of the library become text, data, rows, a picture or a page?"""

from __future__ import annotations

import html as markup
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from afdplan.errors import UnsupportedError
from afdplan.planning.check import PlanCheck
from afdplan.planning.plan import Plan
from afdplan.report.document import to_json
from afdplan.simulation.result import SimulationResult
from afdplan.theory.ratio import RatioRecommendation
from afdplan.workload.report import LawReport, WorkloadReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from polars import DataFrame

    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Page
    from afdplan.report.tables import TextTable
    from afdplan.report.telling import Telling

__all__ = ["frame", "html", "plot", "report", "sentence", "to_dict"]


@singledispatch
def sentence(answer: Any) -> str:
    """Return the answer in a sentence."""
    return told(answer).answer


@sentence.register(Plan)
def _(answer: Plan) -> str:
    from afdplan.report.plan_brief import plan_verdict
    from afdplan.report.quantities import counted, rate

    chosen = answer.recommended
    given = rate(chosen.tokens_per_second, answer.latency.time_unit)
    said = f"Deploy {chosen}: {given} on {counted(chosen.devices, 'device')}."
    return f"{plan_verdict(answer)} {said}" if answer.breaches else said


def to_dict(answer: Any) -> dict[str, Any]:
    """Return plain data by the names of ``--json``, without the head of a command."""
    document = json.loads(to_json(named(answer)))
    return dict(document)


def frame(answer: Any) -> DataFrame:
    """Return the rows behind the answer."""
    import polars as pl

    return pl.DataFrame([_flat(row) for row in rows(answer)], infer_schema_length=None)


def plot(answer: Any, path: str | None) -> Picture:
    """Return the picture, written if a path is given."""
    from afdplan.files.atomic import check_folder, write_atomic
    from afdplan.plotting.picture import check_picture_name, draw_figures, picture_bytes

    kind = None if path is None else check_picture_name(path)
    if path is not None:
        check_folder(path)
    drawn = figures(answer)
    heading = told(answer).subject or sentence(answer)
    picture = draw_figures(drawn, heading, columns=2 if len(drawn) > 2 else 1)
    if path is not None and kind is not None:
        write_atomic(path, picture_bytes(picture, kind))
    return picture


def report(answer: Any, path: str) -> None:
    """Write the page."""
    from afdplan.files.atomic import check_folder, write_atomic
    from afdplan.report.page import render_page

    check_folder(path)
    write_atomic(path, render_page(replace(page(answer), document=to_dict(answer))))


def html(answer: Any) -> str:
    """Return a screen of the answer as a fragment of a page."""
    from afdplan.report.brief import shortened

    found = told(answer)
    facts = found.brief or found.facts or found.words
    parts = [f"<p><b>{_escaped(found.verdict or found.answer)}</b></p>"]
    parts.append(
        _table([(fact.name, ", ".join(filter(None, fact[1:]))) for fact in facts]) if facts else ""
    )
    table = found.choice if found.choice or found.brief else (found.tables or (None,))[0]
    if table is not None:
        parts.append(_rows(table))
    parts += [
        f"<p>warning: {_escaped(text)}</p>"
        for text in dict.fromkeys(map(shortened, found.warnings))
    ]
    return "\n".join(part for part in parts if part)


def _rows(table: TextTable) -> str:
    return _table(table.rows, table.columns, table.strong)


def _table(
    rows: Sequence[Sequence[str]], columns: Sequence[str] = (), strong: int | None = None
) -> str:
    lines = ["<table>"]
    if columns:
        lines.append(f"<tr>{''.join(f'<th>{_escaped(name)}</th>' for name in columns)}</tr>")
    for k, row in enumerate(rows):
        cells = (_escaped(cell) for cell in row)
        marked = (f"<b>{cell}</b>" if k == strong else cell for cell in cells)
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in marked)}</tr>")
    return "\n".join([*lines, "</table>"])


def _escaped(text: str) -> str:
    from afdplan.report.quantities import plain

    return markup.escape(plain(text))


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}_")
        elif not isinstance(value, list | tuple):
            found[f"{prefix}{name}"] = value
    return found


@singledispatch
def told(answer: Any) -> Telling:
    """Return what text and page say of the answer."""
    raise UnsupportedError(f"{type(answer).__name__} is not told")


@singledispatch
def named(answer: Any) -> dict[str, Any]:
    """Return the names that ``--json`` promises."""
    raise UnsupportedError(f"{type(answer).__name__} is not told")


@singledispatch
def rows(answer: Any) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a frame; by default one, of all that is named."""
    return [to_dict(answer)]


@singledispatch
def figures(answer: Any) -> Sequence[Figure]:
    """Return the charts of the picture."""
    raise UnsupportedError(f"{type(answer).__name__} has no picture: use report() or to_dict()")


@singledispatch
def page(answer: Any) -> Page:
    """Return the page; by default what is told, with its tables."""
    from afdplan.report.page import Page, Section

    found = told(answer)
    return Page(
        title="afdplan",
        told=found,
        sections=tuple(Section(title=table.title, tables=(table,)) for table in found.tables),
        document=to_dict(answer),
    )


@told.register(RatioRecommendation)
def _(answer: RatioRecommendation) -> Telling:
    from afdplan.report.ratio import ratio_told

    return ratio_told(answer, answer.problem, answer.warnings)


@named.register(RatioRecommendation)
def _(answer: RatioRecommendation) -> dict[str, Any]:
    from afdplan.report.ratio import ratio_answer

    unit = answer.problem.latency.time_unit
    return {"time_unit": unit, "warnings": answer.warnings, **ratio_answer(answer)}


@rows.register(RatioRecommendation)
def _(answer: RatioRecommendation) -> Sequence[Mapping[str, Any]]:
    return [asdict(point) for point in answer.curve]


@figures.register(RatioRecommendation)
def _(answer: RatioRecommendation) -> Sequence[Figure]:
    from afdplan.plotting.ratio_figures import asked_figures

    return asked_figures(answer, answer.problem, None)


@page.register(RatioRecommendation)
def _(answer: RatioRecommendation) -> Page:
    from afdplan.planning.memory_limit import require_memory
    from afdplan.planning.ratio_around import ratio_around
    from afdplan.report.page_ratio import ratio_page

    problem, memory = answer.problem, answer.problem.latency.memory
    limit = require_memory(problem.law, memory, problem.batch_size, problem.microbatches)
    around = ratio_around(
        problem,
        answer.optimal_attention_workers,
        most_requests=None if limit is None else limit.most_requests,
    )
    return ratio_page(told(answer), answer, problem, around)


@told.register(SimulationResult)
def _(answer: SimulationResult) -> Telling:
    from afdplan.report.simulate import simulation_told

    return simulation_told([answer], answer.title)


@named.register(SimulationResult)
def _(answer: SimulationResult) -> dict[str, Any]:
    unit = answer.scenario.latency.time_unit
    return {"time_unit": unit, "warnings": answer.warnings, **answer.answer()}


@figures.register(SimulationResult)
def _(answer: SimulationResult) -> Sequence[Figure]:
    from afdplan.plotting.simulation_figures import simulation_figures

    return simulation_figures([answer])


@page.register(SimulationResult)
def _(answer: SimulationResult) -> Page:
    from afdplan.lengths.law import EmpiricalLengths
    from afdplan.model.trace import Trace
    from afdplan.planning.theory_curve import theory_curve
    from afdplan.report.page_simulate import simulation_page
    from afdplan.simulation.timeline import record_timeline

    scenario = answer.scenario
    lengths = scenario.lengths
    law = EmpiricalLengths(lengths) if isinstance(lengths, Trace) else lengths
    return simulation_page(
        told(answer),
        [answer],
        record_timeline(scenario, steps=3),
        law,
        theory=theory_curve(scenario, law, [scenario.bundle.attention_workers]),
    )


@told.register(Plan)
def _(answer: Plan) -> Telling:
    from afdplan.report.plan import plan_told

    return plan_told(answer, f"{answer.requests.name}; {answer.source.name}")


@named.register(Plan)
def _(answer: Plan) -> dict[str, Any]:
    from afdplan.report.plan_answer import plan_answer

    unit = answer.latency.time_unit
    return {
        "time_unit": unit,
        "warnings": answer.warnings,
        **plan_answer(answer, answer.requests),
    }


@rows.register(Plan)
def _(answer: Plan) -> Sequence[Mapping[str, Any]]:
    from afdplan.report.plan_answer import colocated_answer, design_answer

    designs = [("split", answer.split)]
    designs += [(other.change, other.plan) for other in answer.alternatives]
    designs += [("front", point) for point in answer.front]
    found = [{"role": role, **design_answer(one)} for role, one in designs]
    return [
        *found,
        *({"role": "un-split", **colocated_answer(one)} for one in answer.colocated),
    ]


@figures.register(Plan)
def _(answer: Plan) -> Sequence[Figure]:
    from afdplan.plotting.plan_figures import front_figure

    return [front_figure(answer)]


@page.register(Plan)
def _(answer: Plan) -> Page:
    from afdplan.planning.plan_around import plan_around
    from afdplan.report.page_plan import plan_page

    around = plan_around(answer)
    return plan_page(told(answer), answer, answer.requests, around)


@told.register(PlanCheck)
def _(answer: PlanCheck) -> Telling:
    from afdplan.report.check import check_told

    return check_told(answer, answer.time_unit, answer.notes)


@named.register(PlanCheck)
def _(answer: PlanCheck) -> dict[str, Any]:
    from afdplan.report.check import check_answer

    return {"time_unit": answer.time_unit, "warnings": answer.notes, **check_answer(answer)}


@told.register(WorkloadReport)
@told.register(LawReport)
def _(answer: WorkloadReport | LawReport) -> Telling:
    from afdplan.report.workload import workload_told

    return workload_told(answer)


@named.register(WorkloadReport)
@named.register(LawReport)
def _(answer: WorkloadReport | LawReport) -> dict[str, Any]:
    from afdplan.report.workload import workload_answer

    return {"time_unit": "s", "warnings": answer.warnings, **workload_answer(answer)}


@rows.register(WorkloadReport)
@rows.register(LawReport)
def _(answer: WorkloadReport | LawReport) -> Sequence[Mapping[str, Any]]:
    document = to_dict(answer)
    return [{"length": name, **document[f"{name}_tokens"]} for name in ("prompt", "decode")]


@figures.register(WorkloadReport)
@figures.register(LawReport)
def _(answer: WorkloadReport | LawReport) -> Sequence[Figure]:
    from afdplan.plotting.workload_figures import workload_figures

    return workload_figures(answer, answer.law)


@page.register(WorkloadReport)
@page.register(LawReport)
def _(answer: WorkloadReport | LawReport) -> Page:
    from afdplan.report.page_workload import workload_page

    return workload_page(told(answer), answer, answer.law)
