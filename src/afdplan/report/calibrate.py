"""How is a calibration told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from afdplan.calibration.best_ratio import BestRatio
from afdplan.calibration.stage import StageFit
from afdplan.calibration.sweep import SweepFit
from afdplan.files.latency_document import latency_document
from afdplan.model.chosen import chosen
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.report.quantities import (
    change,
    counted,
    estimated,
    number,
    share,
    time,
    times,
    value_and_interval,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

__all__ = [
    "coefficient_table",
    "fit_answer",
    "fit_told",
    "fit_warnings",
    "influence_words",
    "point_table",
    "quality_table",
    "sweep_answer",
    "sweep_told",
]

FEW = 40
"""Points of a sweep, and coefficients of a stage, that a terminal shows; a page has all."""


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
                **chosen(fit, "coefficients r_squared noise"),
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


def sweep_answer(fit: SweepFit, model: LatencyModel, best: BestRatio | None) -> dict[str, Any]:
    """Return what ``afdplan calibrate --sweep --json`` says.

    Parameters
    ----------
    fit, model, best
        The fitted sweep, the model it made, and its best ratio, if it tells one.
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
        **chosen(fit, "ffn_slope ffn_intercept transfer_limit identified maximum noise"),
        "best_ratio": best
        and {
            **{one.name: getattr(best, one.name) for one in fields(best)},
            **chosen(model, "attention_devices ffn_devices"),
        },
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


def fit_told(
    fits: Sequence[StageFit], model: LatencyModel, warnings: Sequence[str], notes: Sequence[str]
) -> Telling:
    """Return what text and page say of fitted stages.

    Parameters
    ----------
    fits, model
        The fitted stages and the model they made.
    warnings, notes
        One sentence each.
    """
    worst = max(fits, key=lambda fit: fit.median_error)
    measured = sum(fit.samples.count for fit in fits)
    named = [_name(fit.stage) for fit in fits]
    stages = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return Telling(
        subject=f"{model.name}; from {model.source}",
        answer=f"{measured:,} measurements give {stages} a curve each; half of them lie within "
        f"{share(worst.median_error)} of it"
        + (f" ({_name(worst.stage)}, the worst)." if len(fits) > 1 else "."),
        facts=tuple(
            Fact(_name(fit.stage), fit.form, f"R2 {fit.r_squared:.4f}, noise {share(fit.noise)}")
            for fit in fits
        ),
        words=tuple(Fact("Influence", words) for words in influence_words(fits, 1.0)),
        tables=(coefficient_table(fits, model, FEW), quality_table(fits)),
        warnings=tuple(warnings),
        assumptions=(
            *model.assumptions,
            *notes,
            "Intervals are 95 %, for errors that are independent between measurements.",
        ),
    )


def influence_words(fits: Sequence[StageFit], least: float = 0.0) -> tuple[str, ...]:
    """Return which single measurements move a coefficient by `least` standard errors or more."""
    return tuple(
        f"{_name(fit.stage)}: without row {fit.influence.row} {fit.influence.coefficient} would "
        f"move by {fit.influence.standard_errors:.1f} standard errors."
        for fit in fits
        if fit.influence is not None and fit.influence.standard_errors >= least
    )


def _name(stage: str) -> str:
    return "FFN" if stage == "ffn" else stage


def coefficient_table(
    fits: Sequence[StageFit], model: LatencyModel, most: int | None = None
) -> TextTable:
    """Return all coefficients with their intervals.

    Parameters
    ----------
    fits, model
        The fitted stages and the model they made.
    most
        Coefficients told of each stage; all if None.
    """
    unit = model.time_unit
    rows = []
    for fit in fits:
        coefficients = list(fit.coefficients.items())
        for name, estimate in coefficients[:most]:
            value, known = value_and_interval(estimate, times(unit))
            words, per = name.replace("_", " "), " per request"
            if name != "time_per_request":
                words, per = fit.curve.words(name)
            rows.append((_name(fit.stage), words, value + per, known))
        if most is not None and len(coefficients) > most:
            rows.append((_name(fit.stage), f"and {len(coefficients) - most:,} more", "", ""))
    return TextTable(
        title="Coefficients" + (", in abstract time" if unit == "abstract" else ""),
        columns=("stage", "coefficient", "value", "95 % interval"),
        rows=rows,
        left=2,
        is_open=True,
    )


def quality_table(fits: Sequence[StageFit]) -> TextTable:
    """Return how well the curves fit."""
    return TextTable.of(
        "How well they fit, in numbers",
        fits,
        {
            "stage": lambda fit: _name(fit.stage),
            "largest error": lambda fit: (
                f"{share(fit.largest_error)} at {fit.largest_error_load:,.6g} tokens, "
                f"row {fit.largest_error_row}"
            ),
            "other forms": lambda fit: (
                ", ".join(f"{form} {share(error)}" for form, error in fit.scores.items()) or "-"
            ),
            "measured": lambda fit: f"{fit.samples.count:,}",
            "R2": lambda fit: f"{fit.r_squared:.4f}",
            "noise": lambda fit: share(fit.noise),
            "median error": lambda fit: share(fit.median_error),
        },
        left=3,
        note="Other forms: their cross-validated errors.",
    )


def sweep_told(
    fit: SweepFit, model: LatencyModel, best: BestRatio | None, notes: Sequence[str]
) -> Telling:
    """Return what text and page say of a fitted sweep: what is best, known, only bounded.

    Parameters
    ----------
    fit, model, best
        The fitted sweep, the model it made, and its best ratio, if it tells one.
    notes
        One sentence each.
    """
    attention, ffn = (
        estimated(estimate, times("s")) if fit.identified[key] else _bound(estimate)
        for estimate, key in ((fit.attention_time, "attention"), (fit.ffn_time, "ffn_time"))
    )
    return Telling(
        subject=f"{model.name}; from {model.source}",
        answer=f"{_best_words(best, model)}Per layer and microbatch attention takes {attention} "
        f"and the FFN {ffn} at the largest measured load.",
        facts=(*_best_facts(best), *_facts(fit)),
        tables=(point_table(fit, FEW),),
        warnings=(*_best_warnings(best, model), *fit.warnings),
        assumptions=(
            *model.assumptions,
            *notes,
            f"Step times are taken as good to {share(fit.noise)}; limits meet in a {fit.maximum} "
            "maximum.",
            f"{fit.layers} layers per step; transfers of {time(fit.transfer_time, 's')} there and "
            f"back, hidden up to {time(fit.transfer_limit, 's')}.",
        ),
    )


def _best_words(best: BestRatio | None, model: LatencyModel) -> str:
    if best is None:
        return ""
    workers = counted(int(best.attention_workers.value), "attention worker")
    ffn = counted(1, "FFN worker") if best.ffn_workers == 1 else f"{best.ffn_workers:g} FFN workers"
    pair = f"{workers} with {ffn}"
    if model.ffn_weight is None:
        return f"If an FFN worker takes as many devices as an attention worker, use {pair}. "
    return f"Use {pair}. "


def _best_facts(best: BestRatio | None) -> Iterable[Fact]:
    if best is None:
        return
    found = best.attention_workers
    near = f"{best.lowest_near:,} to {best.highest_near:,} give up at most 1 %"
    yield Fact("Best A", f"{found.value:,.0f}", f"{found.low:,.0f} to {found.high:,.0f}; {near}")
    if best.measured is not None and best.measured != found.value:
        yield Fact(
            "Best measured A", f"{best.measured:g}", f"gives {share(best.measured_loss)} less"
        )
    yield Fact("Step at the best A", *value_and_interval(best.step_time, times("s")))


def _best_warnings(best: BestRatio | None, model: LatencyModel) -> Iterable[str]:
    if best is None:
        return
    if model.ffn_weight is None:
        yield (
            "nobody said how many devices a worker takes, and the best ratio depends on it: give "
            "--attention-devices and --ffn-devices."
        )
    if best.is_last:
        yield (
            f"no A above {best.attention_workers.value:,.0f} was looked at, twice the highest "
            "measured: measure a higher ratio."
        )


def _bound(estimate: Estimate) -> str:
    return f"at most {time(estimate.high, 's')}"


def _facts(fit: SweepFit) -> Iterable[Fact]:
    largest = float(fit.sweep.ffn_tokens.max())
    for name, estimate, key in (
        (f"attention at {number(fit.reference_tokens)} KV tokens", fit.attention_time, "attention"),
        (f"FFN at {number(largest)} tokens", fit.ffn_time, "ffn_time"),
        ("FFN slope per token", fit.ffn_slope, "ffn_slope"),
        ("FFN intercept", fit.ffn_intercept, "ffn_intercept"),
    ):
        value, known = value_and_interval(estimate, times("s"))
        if not fit.identified[key]:
            value, known = _bound(estimate), "only bounded"
        yield Fact(name, value, known)
    limit = f"at most {time(fit.transfer_limit, 's')}"
    if fit.transfer_time > 0:
        yield Fact(
            "transfer there and back", time(fit.transfer_time, "s"), f"{limit}, mostly hidden"
        )
    elif (fit.sweep.microbatches > 1).any():
        yield Fact("transfer there and back", limit, "taken as hidden")


def point_table(fit: SweepFit, most: int | None = None) -> TextTable:
    """Return measured step times beside fitted ones; `most` of them, all if None."""
    sweep = fit.sweep
    rest = 0 if most is None else max(sweep.count - most, 0)
    return TextTable(
        title="The points in numbers",
        columns=("A:F", "B", "context", "measured step", "fitted", "95 % interval", "error"),
        rows=[
            (
                f"{sweep.attention_workers[k]:g}:{sweep.ffn_workers[k]:g}",
                f"{sweep.batch_size[k]:g}",
                f"{sweep.mean_tokens[k]:,.6g}",
                time(sweep.step_times[k], "s"),
                *value_and_interval(estimate, times("s")),
                change(fit.residuals[k]),
            )
            for k, estimate in enumerate(fit.predict(sweep)[:most])
        ],
        note=f"And {rest:,} more." if rest else "",
    )
