"""What does the report page of `afdplan calibrate` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.calibration_figures import stage_figures, sweep_figures
from afdplan.report.page import Fact, Page, Section, Table
from afdplan.report.quantities import share, time

if TYPE_CHECKING:
    from afdplan.calibration.stage import StageFit
    from afdplan.calibration.sweep import SweepFit
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel, TimeUnit

__all__ = ["fit_page", "sweep_page"]

PER = {"slope": " per token", "time_per_request": " per request"}


def fit_page(
    fits: Sequence[StageFit],
    model: LatencyModel,
    *,
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    """Return the page of stages that were fitted to measurements.

    Parameters
    ----------
    fits, model
        The fitted stages and the model they made.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    unit = model.time_unit
    figures = stage_figures(fits, unit)
    worst = max(fits, key=lambda fit: fit.median_error)
    measured = sum(fit.samples.count for fit in fits)
    named = [_name(fit.stage) for fit in fits]
    stages = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    influences = tuple(
        f"{_name(fit.stage)}: without row {fit.influence.row} {fit.influence.coefficient} would "
        f"move by {fit.influence.standard_errors:.1f} standard errors."
        for fit in fits
        if fit.influence is not None
    )
    return Page(
        title=f"afdplan calibrate: {model.name}",
        subject=f"{model.name}; from {model.source}",
        answer=f"{measured:,} measurements give {stages} a curve each; half of them lie within "
        f"{share(worst.median_error)} of it"
        + (f" ({_name(worst.stage)}, the worst)." if len(fits) > 1 else "."),
        facts=tuple(
            Fact(
                name=_name(fit.stage),
                value=fit.form,
                remark=f"R2 {fit.r_squared:.4f}, noise {share(fit.noise)}",
            )
            for fit in fits
        ),
        sections=(
            Section(
                title="How long does each stage take?", tables=(_coefficient_table(fits, unit),)
            ),
            Section(title="Do the curves fit?", figures=figures, tables=(_quality_table(fits),)),
            Section(title="Does one measurement decide?", words=influences)
            if influences
            else Section(
                title="Does one measurement decide?", words=("No single one moves a coefficient.",)
            ),
        ),
        warnings=tuple(document["warnings"]),
        assumptions=(
            *model.assumptions,
            "Intervals are 95 %, for errors that are independent between measurements.",
        ),
        document=document,
        command_line=command_line,
    )


def sweep_page(
    fit: SweepFit, model: LatencyModel, *, document: Mapping[str, Any], command_line: str
) -> Page:
    """Return the page of a sweep over ratios.

    Parameters
    ----------
    fit, model
        The fitted sweep and the model it made.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    largest = float(fit.sweep.ffn_tokens.max())
    rows = (
        (f"attention at {fit.reference_tokens:,.6g} KV tokens", fit.attention_time, "attention"),
        (f"FFN at {largest:,.6g} tokens", fit.ffn_time, "ffn_time"),
        ("FFN slope per token", fit.ffn_slope, "ffn_slope"),
        ("FFN intercept", fit.ffn_intercept, "ffn_intercept"),
    )
    attention, ffn = (_told(rows[k][1], fit.identified[rows[k][2]]) for k in (0, 1))
    return Page(
        title=f"afdplan calibrate: {model.name}",
        subject=f"{model.name}; from {model.source}",
        answer=f"Per layer and microbatch attention takes {attention} and the FFN {ffn} at the "
        "largest measured load.",
        facts=tuple(
            Fact(
                name=name,
                value=time(estimate.value, "s")
                if fit.identified[key]
                else f"at most {time(estimate.high, 's')}",
                remark=_interval(estimate, "s") if fit.identified[key] else "only bounded",
            )
            for name, estimate, key in rows
        ),
        sections=(
            Section(
                title="Does the fit follow the sweep?",
                figures=sweep_figures(fit),
                tables=(_point_table(fit),),
            ),
        ),
        warnings=tuple(document["warnings"]),
        assumptions=(
            *model.assumptions,
            f"Step times are taken as good to {share(fit.noise)}.",
            f"{fit.layers} layers per step; transfers of {time(fit.transfer_time, 's')} there and "
            f"back, hidden up to {time(fit.transfer_limit, 's')}.",
        ),
        document=document,
        command_line=command_line,
    )


def _name(stage: str) -> str:
    return "FFN" if stage == "ffn" else stage


def _told(estimate: Estimate, is_identified: bool) -> str:
    if is_identified:
        return f"{time(estimate.value, 's')} ({_interval(estimate, 's')})"
    return f"at most {time(estimate.high, 's')}"


def _interval(estimate: Estimate, unit: TimeUnit) -> str:
    return f"{time(estimate.low, unit)} to {time(estimate.high, unit)}"


def _coefficient_table(fits: Sequence[StageFit], unit: TimeUnit) -> Table:
    return Table(
        caption="Coefficients" + (", in abstract time" if unit == "abstract" else ""),
        headers=("stage", "coefficient", "value", "95 % interval"),
        rows=[
            (
                _name(fit.stage),
                name.replace("_", " "),
                time(estimate.value, unit) + PER.get(name, ""),
                _interval(estimate, unit),
            )
            for fit in fits
            for name, estimate in fit.coefficients.items()
        ],
        is_open=True,
    )


def _quality_table(fits: Sequence[StageFit]) -> Table:
    return Table(
        caption="How well they fit, in numbers",
        headers=(
            "stage",
            "measured",
            "R2",
            "noise",
            "median error",
            "largest error",
            "other forms",
        ),
        rows=[
            (
                _name(fit.stage),
                f"{fit.samples.count:,}",
                f"{fit.r_squared:.4f}",
                share(fit.noise),
                share(fit.median_error),
                f"{share(fit.largest_error)} at {fit.largest_error_load:,.6g} tokens, "
                f"row {fit.largest_error_row}",
                ", ".join(f"{form} {share(error)}" for form, error in fit.scores.items()) or "-",
            )
            for fit in fits
        ],
    )


def _point_table(fit: SweepFit) -> Table:
    sweep = fit.sweep
    return Table(
        caption="The points in numbers",
        headers=("A:F", "B", "context", "measured step", "fitted", "95 % interval", "error"),
        rows=[
            (
                f"{sweep.attention_workers[k]:g}:{sweep.ffn_workers[k]:g}",
                f"{sweep.batch_size[k]:g}",
                f"{sweep.mean_tokens[k]:,.6g}",
                time(sweep.step_times[k], "s"),
                time(estimate.value, "s"),
                _interval(estimate, "s"),
                f"{100 * fit.residuals[k]:+.1f} %",
            )
            for k, estimate in enumerate(fit.predict(sweep))
        ],
    )
