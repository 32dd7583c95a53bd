"""What does the report page of `afdplan calibrate` say?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.calibration_figures import stage_figures, sweep_figures
from afdplan.report.calibrate import coefficient_table, influence_words, point_table, quality_table
from afdplan.report.page import Section

if TYPE_CHECKING:
    from afdplan.calibration.stage import StageFit
    from afdplan.calibration.sweep import SweepFit
    from afdplan.model.latency import LatencyModel

__all__ = ["stage_sections", "sweep_sections"]


def stage_sections(fits: Sequence[StageFit], model: LatencyModel) -> tuple[Section, ...]:
    """Return the sections of stages that were fitted, and of the model that they made."""
    return (
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


def sweep_sections(fit: SweepFit) -> tuple[Section, ...]:
    """Return the section of a sweep over ratios."""
    return (
        Section(
            title="Does the fit follow the sweep?",
            figures=sweep_figures(fit),
            tables=(point_table(fit),),
        ),
    )
