"""Which latency model does a fitted sweep give, and what had to be assumed?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.sweep import SweepFit
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity

__all__ = ["sweep_latency_model"]


STORED_DRAWS = 200
"""Draws that a model file keeps: their 2.5 and 97.5 % quantiles are good to a tenth."""


def sweep_latency_model(fit: SweepFit, *, name: str, tokens_per_step: float = 1.0) -> LatencyModel:
    """Return the latency model of a sweep: its one point, with draws of all that agree.

    Attention is taken as proportional to the KV tokens, unless the points had different contexts
    or batch sizes. A stage that was never the limit is as long as the points allow, the cautious
    choice: a planner that believes it does not go beyond what was measured.

    Parameters
    ----------
    fit
        The fitted sweep.
    name
        Name of the model.
    tokens_per_step
        As in `LatencyModel`.
    """
    point = _coefficients(fit, fit.point[None, :])
    kept = np.linspace(0, len(fit.draws) - 1, STORED_DRAWS).round().astype(int)
    drawn = _coefficients(fit, fit.draws[kept])
    unsure = [key for key, values in drawn.items() if np.ptp(values) > 0]
    at = {key: float(values[0]) for key, values in point.items()}
    sweep = fit.sweep
    link = Transfer(curve=LinearCurve(slope=0.0, intercept=at["transfer.intercept"]))
    return LatencyModel(
        name=name,
        time_unit="s",
        attention=(
            AttentionLayers(
                curve=LinearCurve(slope=at["attention.slope"], intercept=at["attention.intercept"]),
                layers=fit.layers,
                time_per_request=at["attention.time_per_request"],
                time_per_context=at["attention.time_per_context"],
            ),
        ),
        ffn=LinearCurve(slope=at["ffn.slope"], intercept=at["ffn.intercept"]),
        send=link,
        receive=link,
        step_overhead=fit.form.step_overhead,
        tokens_per_step=tokens_per_step,
        validity=Validity(
            attention_tokens=(
                float(sweep.attention_tokens.min()),
                float(sweep.attention_tokens.max()),
            ),
            ffn_tokens=(float(sweep.ffn_tokens.min()), float(sweep.ffn_tokens.max())),
            batch_size=(float(sweep.batch_size.min()), float(sweep.batch_size.max())),
        ),
        source=f"ratio sweep of {sweep.count} points, {sweep.source}",
        assumptions=tuple(_assumptions(fit, at["transfer.intercept"])),
        uncertainty=Uncertainty(
            coefficients=tuple(unsure), draws=np.column_stack([drawn[key] for key in unsure])
        )
        if unsure
        else None,
    )


def _coefficients(fit: SweepFit, every: FloatArray) -> dict[str, FloatArray]:
    """Return a model's coefficients by name, shape (points,) each, to six digits."""
    form = fit.form
    at, fixed, intercept, slope, trip, _, request, length = every.T
    found = {
        "attention.slope": at * (1 - fixed - request - length) / form.tokens,
        "attention.intercept": at * fixed,
        "attention.time_per_request": at * request / form.requests,
        "attention.time_per_context": at * length / form.length,
        "ffn.slope": slope,
        "ffn.intercept": intercept,
        "transfer.intercept": trip / 2,
    }
    return {key: _rounded(np.maximum(values, 0.0)) for key, values in found.items()}


def _rounded(values: FloatArray) -> FloatArray:
    """Return values to six digits: a file that people read holds no more than is known."""
    return np.array([float(f"{value:.6g}") for value in values])


def _assumptions(fit: SweepFit, one_way: float) -> Iterable[str]:
    draws = fit.draws
    if not np.ptp(draws[:, [1, 6, 7]], axis=0).any():
        share = float(draws[0, [1, 6]].sum())
        yield f"Attention was seen at {fit.reference_tokens:,.0f} KV tokens only; " + (
            "its time is taken as proportional to the tokens."
            if share == 0
            else f"the prior says that {100 * share:.0f} % of it does not grow with the tokens."
        )
    if np.ptp(draws[:, 7]) > 0:
        yield (
            f"At equal KV tokens {100 * fit.point[7]:.0f} % of attention grows with the mean "
            f"length of the requests and {100 * fit.point[6]:.0f} % with their number."
        )
    for stage, key in (("Attention", "attention"), ("The FFN", "ffn_time")):
        if not fit.identified[key]:
            yield f"{stage} was never the limit: its time is the largest that the sweep allows."
    if np.ptp(draws[:, 4]) > 0:
        yield (
            "The transfer time is what the bend between plateau and line leaves room for, with a "
            "prior of 5 % of the longest microbatch time."
        )
    elif one_way == 0.0 and (fit.sweep.microbatches == 1).all():
        yield (
            "With one microbatch a transfer adds to every step like attention and FFN: it is "
            "contained in their times."
        )
    elif one_way == 0.0:
        yield (
            "Transfers are taken as hidden; there and back they could take up to "
            f"{fit.transfer_limit * 1e6:.3g} µs per layer and microbatch."
        )
    if fit.maximum == "soft":
        yield (
            "Fitted with a soft maximum; a model file has none, so step times near the knee come "
            "out a little low."
        )
