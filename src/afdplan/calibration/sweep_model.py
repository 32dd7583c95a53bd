"""Which latency model does a fitted sweep give, and what had to be assumed?"""

from __future__ import annotations

import numpy as np

from afdplan.calibration.sweep import SweepFit
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import AttentionLayers, LatencyModel, Transfer
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity

__all__ = ["sweep_latency_model"]


def sweep_latency_model(fit: SweepFit, *, name: str, tokens_per_step: float = 1.0) -> LatencyModel:
    """Return the latency model of a sweep; what the data only bound is taken at its bound.

    Attention is taken as proportional to the KV tokens, unless the points had different contexts
    or batch sizes. The upper bound of a stage that was never the limit is the cautious choice: a
    planner that believes it does not go beyond what was measured.

    Parameters
    ----------
    fit
        The fitted sweep.
    name
        Name of the model.
    tokens_per_step
        As in `LatencyModel`.
    """
    draws = fit.draws
    sweep = fit.sweep
    assumptions: list[str] = []
    varied = bool(np.ptp(draws[:, 1]) > 0)
    if not varied:
        share = float(draws[0, 1])
        assumptions.append(
            f"Attention was seen at {fit.reference_tokens:g} KV tokens only; "
            + (
                "its time is taken as proportional to the tokens."
                if share == 0
                else f"the prior says that {100 * share:.0f} % of it does not grow with the tokens."
            )
        )
    attention_slope = draws[:, 0] * (1 - draws[:, 1]) / fit.reference_tokens
    attention_intercept = draws[:, 0] * draws[:, 1]
    columns: dict[str, np.ndarray] = {}
    point = {
        "attention.slope": float(attention_slope.mean()),
        "attention.intercept": float(attention_intercept.mean()),
        "ffn.slope": float(draws[:, 3].mean()),
        "ffn.intercept": float(draws[:, 2].mean()),
    }
    if fit.identified["attention"]:
        columns["attention.slope"] = attention_slope
        if attention_intercept.any():
            columns["attention.intercept"] = attention_intercept
    else:
        scale = fit.attention_time.high / fit.attention_time.value
        point["attention.slope"] *= scale
        point["attention.intercept"] *= scale
        assumptions.append(
            "Attention was never the limit: its time is the largest that the sweep allows."
        )
    if fit.identified["ffn_time"]:
        columns["ffn.slope"], columns["ffn.intercept"] = draws[:, 3], draws[:, 2]
    else:
        scale = fit.ffn_time.high / fit.ffn_time.value
        point["ffn.slope"] *= scale
        point["ffn.intercept"] *= scale
        assumptions.append(
            "The FFN was never the limit: its time is the largest that the sweep allows."
        )
    one_way = float(draws[:, 4].mean()) / 2
    if one_way == 0.0 and (sweep.microbatches == 1).all():
        assumptions.append(
            "With one microbatch a transfer adds to every step like attention and FFN: it is "
            "contained in their times."
        )
    elif one_way == 0.0:
        assumptions.append(
            "Transfers are taken as hidden; there and back they could take up to "
            f"{fit.transfer_limit * 1e6:.3g} us per layer and microbatch."
        )
    if fit.maximum == "soft":
        assumptions.append(
            "Fitted with a soft maximum; a model file has none, so step times near the knee come "
            "out a little low."
        )
    if np.ptp(draws[:, 4]) > 0:
        columns["transfer.intercept"] = draws[:, 4] / 2
        assumptions.append(
            "The transfer time is what the bend between plateau and line leaves room for, with a "
            "prior of 3 % of the longest microbatch time."
        )
    link = Transfer(curve=LinearCurve(slope=0.0, intercept=one_way))
    matrix = np.atleast_2d(np.cov(np.array(list(columns.values())))) if columns else None
    return LatencyModel(
        name=name,
        time_unit="s",
        attention=(
            AttentionLayers(
                curve=LinearCurve(
                    slope=point["attention.slope"], intercept=point["attention.intercept"]
                ),
                layers=fit.layers,
            ),
        ),
        ffn=LinearCurve(slope=point["ffn.slope"], intercept=point["ffn.intercept"]),
        send=link,
        receive=link,
        step_overhead=fit.step_overhead,
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
        assumptions=tuple(assumptions),
        uncertainty=None
        if matrix is None
        else Uncertainty(coefficients=tuple(columns), covariance=matrix),
    )
