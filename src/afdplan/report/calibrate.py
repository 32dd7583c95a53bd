"""How is a calibration told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afdplan.calibration.stage import StageFit
from afdplan.calibration.sweep import SweepFit
from afdplan.files.latency_file import latency_document
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.report.quantities import share, time

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "fit_answer",
    "fit_warnings",
    "render_fits",
    "render_sweep",
    "sweep_answer",
]

_TABLE_ROWS = 12


def fit_warnings(fits: Sequence[StageFit]) -> list[str]:
    """Return the warnings of all stages, each with its stage in front."""
    return [f"{fit.stage}: {warning}" for fit in fits for warning in fit.warnings]


def fit_answer(fits: Sequence[StageFit], model: LatencyModel) -> dict[str, Any]:
    """Return what ``afdplan calibrate --json`` says about fitted stages.

    Parameters
    ----------
    fits, model
        The fitted stages and the model they made.
    """
    return {
        "stages": {
            fit.stage: {
                "form": fit.form,
                "measurements": fit.samples.count,
                "coefficients": fit.coefficients,
                "r_squared": fit.r_squared,
                "noise": fit.noise,
                "median_relative_error": fit.median_error,
                "largest_relative_error": {
                    "value": fit.largest_error,
                    "row": fit.largest_error_row,
                    "load": fit.largest_error_load,
                },
                "influence": fit.influence,
                "cross_validated_errors": fit.scores,
            }
            for fit in fits
        },
        "model": latency_document(model),
    }


def sweep_answer(fit: SweepFit, model: LatencyModel) -> dict[str, Any]:
    """Return what ``afdplan calibrate --sweep --json`` says.

    Parameters
    ----------
    fit, model
        The fitted sweep and the model it made.
    """
    points = zip(
        fit.sweep.attention_workers,
        fit.sweep.ffn_workers,
        fit.sweep.step_times,
        fit.predict(fit.sweep),
        strict=True,
    )
    return {
        "attention_time": fit.attention_time,
        "attention_tokens": fit.reference_tokens,
        "ffn_time": fit.ffn_time,
        "ffn_tokens": float(fit.sweep.ffn_tokens.max()),
        "ffn_slope": fit.ffn_slope,
        "ffn_intercept": fit.ffn_intercept,
        "transfer_limit": fit.transfer_limit,
        "identified": fit.identified,
        "maximum": fit.maximum,
        "noise": fit.noise,
        "points": [
            {
                "attention_workers": a,
                "ffn_workers": f,
                "step_time": measured,
                "fitted_step_time": fitted,
            }
            for a, f, measured, fitted in points
        ],
        "model": latency_document(model),
    }


def _interval(estimate: Estimate, unit: TimeUnit) -> str:
    return (
        f"{time(estimate.value, unit)}  ({time(estimate.low, unit)} to {time(estimate.high, unit)})"
    )


def render_fits(
    fits: Sequence[StageFit], model: LatencyModel, warnings: Sequence[str], notes: Sequence[str]
) -> RenderableType:
    """Return fitted stages for a terminal: coefficients, how good, what to mind.

    Parameters
    ----------
    fits, model
        The fitted stages and the model they made.
    warnings, notes
        One sentence each.
    """
    from rich.console import Group
    from rich.table import Table

    unit = model.time_unit
    parts: list[RenderableType] = [f"[bold]{model.name}[/bold]: from {model.source}", ""]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "form", "coefficient"):
        table.add_column(header)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    for fit in fits:
        rows = list(fit.coefficients.items())
        for at, (name, estimate) in enumerate(rows[:_TABLE_ROWS]):
            words, per = name, "/request"
            if name != "time_per_request":
                words, per = fit.curve.words(name)
            interval = f"{time(estimate.low, unit)} to {time(estimate.high, unit)}"
            table.add_row(
                fit.stage if at == 0 else "",
                fit.form if at == 0 else "",
                words,
                time(estimate.value, unit) + per,
                interval,
            )
        if len(rows) > _TABLE_ROWS:
            table.add_row("", "", f"and {len(rows) - _TABLE_ROWS} more", "", "")
    parts += [table, ""]
    quality = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "measured", "R2", "noise", "median error", "largest error"):
        quality.add_column(header, no_wrap=True)
    for fit in fits:
        where = f"{fit.largest_error_load:,.6g} tokens, row {fit.largest_error_row}"
        quality.add_row(
            fit.stage,
            str(fit.samples.count),
            f"{fit.r_squared:.4f}",
            share(fit.noise),
            share(fit.median_error),
            f"{share(fit.largest_error)} at {where}",
        )
    parts.append(quality)
    parts.append("")
    for fit in fits:
        if fit.scores:
            errors = ", ".join(f"{name} {share(error)}" for name, error in fit.scores.items())
            parts.append(f"{fit.stage}: {fit.form} by cross-validated error ({errors})")
        if fit.influence is not None and fit.influence.standard_errors >= 1.0:
            parts.append(
                f"{fit.stage}: without row {fit.influence.row} {fit.influence.coefficient} would "
                f"move by {fit.influence.standard_errors:.1f} standard errors"
            )
    return Group(*parts, *_tail(model, warnings, notes))


def render_sweep(
    fit: SweepFit, model: LatencyModel, warnings: Sequence[str], notes: Sequence[str]
) -> RenderableType:
    """Return a fitted sweep for a terminal: what is known, what is only bounded, each point.

    Parameters
    ----------
    fit, model
        The fitted sweep and the model it made.
    warnings, notes
        One sentence each.
    """
    from rich.console import Group
    from rich.table import Table

    largest = float(fit.sweep.ffn_tokens.max())
    known = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("per layer and microbatch", "95 % interval", ""):
        known.add_column(header)
    for label, estimate, identified in (
        (
            f"attention at {fit.reference_tokens:,.6g} KV tokens",
            fit.attention_time,
            fit.identified["attention"],
        ),
        (f"FFN at {largest:,.6g} tokens", fit.ffn_time, fit.identified["ffn_time"]),
        ("FFN slope, per token", fit.ffn_slope, fit.identified["ffn_slope"]),
        ("FFN intercept", fit.ffn_intercept, fit.identified["ffn_intercept"]),
    ):
        shown = _interval(estimate, "s") if identified else f"at most {time(estimate.high, 's')}"
        known.add_row(label, shown, "" if identified else "only bounded")
    if fit.transfer_time > 0:
        trip = f"{time(fit.transfer_time, 's')}, at most {time(fit.transfer_limit, 's')}"
        known.add_row("transfer there and back", trip, "mostly hidden")
    elif (fit.sweep.microbatches > 1).any():
        limit = f"at most {time(fit.transfer_limit, 's')}"
        known.add_row("transfer there and back", limit, "taken as hidden")
    points = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("A:F", "B", "context", "measured step", "fitted (95 % interval)", "error"):
        points.add_column(header, justify="right")
    for k, estimate in enumerate(fit.predict(fit.sweep)):
        points.add_row(
            f"{fit.sweep.attention_workers[k]:g}:{fit.sweep.ffn_workers[k]:g}",
            f"{fit.sweep.batch_size[k]:g}",
            f"{fit.sweep.mean_tokens[k]:,.6g}",
            time(fit.sweep.step_times[k], "s"),
            _interval(estimate, "s"),
            f"{100 * fit.residuals[k]:+.1f} %",
        )
        if k == 39 and fit.sweep.count > 40:
            points.add_row("", "", "", f"and {fit.sweep.count - 40} more", "", "")
            break
    head = (
        f"[bold]{model.name}[/bold]: from {model.source}; {fit.layers} layers, "
        f"{fit.maximum} maximum, step times taken as good to {share(fit.noise)}"
    )
    return Group(head, "", known, "", points, *_tail(model, warnings, notes))


def _tail(
    model: LatencyModel, warnings: Sequence[str], notes: Sequence[str]
) -> list[RenderableType]:
    """Return assumptions, notes and warnings, one line each."""
    from rich.text import Text

    lines: list[RenderableType] = [""] if (model.assumptions or notes or warnings) else []
    lines += [Text(f"assumed: {sentence}") for sentence in model.assumptions]
    lines += [Text(f"note: {sentence}") for sentence in notes]
    lines += [Text(f"warning: {sentence}", style="yellow") for sentence in warnings]
    return lines
