"""What does the report page of `afdplan calibrate` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.calibration_figures import stage_figures, sweep_figures
from afdplan.report.calibrate import coefficient_table, influence_words, point_table, quality_table
from afdplan.report.page import Page, Section

if TYPE_CHECKING:
    from afdplan.calibration.stage import StageFit
    from afdplan.calibration.sweep import SweepFit
    from afdplan.model.latency import LatencyModel
    from afdplan.report.telling import Telling

__all__ = ["fit_page", "sweep_page"]


def fit_page(
    told: Telling,
    fits: Sequence[StageFit],
    model: LatencyModel,
    *,
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    """Return the page of stages that were fitted to measurements.

    Parameters
    ----------
    told
        What `fit_told` says of them.
    fits, model
        The fitted stages and the model they made.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    sections = (
        Section(title="How long does each stage take?", tables=(coefficient_table(fits, model),)),
        Section(
            title="Do the curves fit?",
            figures=stage_figures(fits, model.time_unit),
            tables=(quality_table(fits),),
        ),
        Section(
            title="Does one measurement decide?",
            words=influence_words(fits) or ("No single one moves a coefficient.",),
        ),
    )
    return _page(told, model, sections, document, command_line)


def sweep_page(
    told: Telling,
    fit: SweepFit,
    model: LatencyModel,
    *,
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    """Return the page of a sweep over ratios.

    Parameters
    ----------
    told
        What `sweep_told` says of it.
    fit, model
        The fitted sweep and the model it made.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    section = Section(
        title="Does the fit follow the sweep?",
        figures=sweep_figures(fit),
        tables=(point_table(fit),),
    )
    return _page(told, model, (section,), document, command_line)


def _page(
    told: Telling,
    model: LatencyModel,
    sections: tuple[Section, ...],
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    return Page(
        title=f"afdplan calibrate: {model.name}",
        told=told,
        sections=sections,
        document=document,
        command_line=command_line,
    )
