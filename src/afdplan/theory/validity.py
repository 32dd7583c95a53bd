"""Where is the theory good to 1 %, and how wrong is it elsewhere?"""

from __future__ import annotations

import math

import numpy as np

from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.theory.fresh_times import ffn_times

__all__ = [
    "DECLARED_SCATTER",
    "barrier_free_warnings",
    "latency_range_warnings",
    "scatter_error",
    "short_life_error",
    "theory_warnings",
]

# Stated relative error of E[tau] by the rounds a request lives, L E[D] / tokens_per_step. What was
# seen, and the one family beyond it, is in docs/theory/validity.md; `afdplan validate` judges it.
_ROUNDS = (1.0, 5.0, 30.0, 100.0, 200.0)
_ERRORS = (0.10, 0.03, 0.025, 0.01, 0.009)

DECLARED_ROUNDS = 200.0
DECLARED_MICROBATCHES = 4
BARRIER_FREE_MICROBATCHES = 3
BARRIER_FREE_ERROR = 0.03
"""Largest error of the step time without the barrier, where a bundle has one rhythm."""
DECLARED_WORKERS = 64
DECLARED_SCATTER = 0.1


def short_life_error(rounds: float) -> float:
    """Return the largest relative error of the pipelined cycle time for short requests.

    Loads move from step to step; what that gains over frozen loads is known to leading order
    (`moving_load.py`), and the fewer rounds a request lives, the less that is enough.

    Parameters
    ----------
    rounds
        ``L E[D] / tokens_per_step``, rounds in the life of a request, > 0.

    Returns
    -------
    float
        Interpolated on a log-log scale between measured worst cases, constant beyond them.

    Examples
    --------
    >>> short_life_error(200), round(short_life_error(50), 3)
    (0.009, 0.017)
    """
    logs = np.interp(math.log(max(rounds, 1.0)), np.log(_ROUNDS), np.log(_ERRORS))
    return float(np.exp(logs))


def scatter_error(scatter: float, microbatches: int) -> float:
    """Return the largest relative error of the cycle time where stage times scatter so far.

    Parameters
    ----------
    scatter
        Largest coefficient of variation of attention and FFN, >= 0; above 0.3 nothing is known.
    microbatches
        m; of three or more the error is that of loads which are all alike.

    Examples
    --------
    >>> scatter_error(0.1, 2), scatter_error(0.3, 2), scatter_error(0.2, 4), scatter_error(0.3, 4)
    (0.01, 0.02, 0.03, 0.04)
    """
    if scatter <= DECLARED_SCATTER:
        return 0.01
    if microbatches <= 2:
        return 0.02
    return 0.03 if scatter <= 0.2 else 0.04


def theory_warnings(law: LengthLaw, latency: LatencyModel, bundle: Bundle) -> list[str]:
    """Return one sentence for each bound of the declared validity that is left.

    Declared validity of the exact pipelined method: ``L E[D] / tokens_per_step >= 200``,
    m <= 4, A <= 64, stage times that scatter by at most 10 %, the FFN's with its busiest expert
    rank: 1 %.
    """
    microbatches, attention_workers = bundle.microbatches, bundle.attention_workers
    warnings = []
    rounds = latency.layers * law.mean_decode_tokens / latency.tokens_per_step
    if rounds < DECLARED_ROUNDS * (1 - 1e-9):
        warnings.append(
            f"requests live only {rounds:.3g} rounds (layers x output tokens): the cycle time "
            f"may be wrong by up to {100 * short_life_error(rounds):.1f} %; declared validity "
            f"starts at {DECLARED_ROUNDS:.0f}. Check with afdplan simulate"
        )
    if microbatches > DECLARED_MICROBATCHES:
        warnings.append(
            f"{microbatches} microbatches are beyond the declared validity of "
            f"{DECLARED_MICROBATCHES}: the round is then a lower bound. Check with afdplan simulate"
        )
    scatter = latency.scatter
    widest = max(scatter.attention, _ffn_scatter(latency, bundle))
    if widest > DECLARED_SCATTER:
        warnings.append(
            f"stage times scatter by {100 * widest:.0f} % of their mean, beyond the declared "
            f"validity of {100 * DECLARED_SCATTER:.0f} %: the cycle time may be wrong by up to "
            f"{100 * scatter_error(widest, microbatches):.1f} %"
            f"{'' if widest <= 0.3 else ' or more'}. Check with afdplan simulate"
        )
    if scatter.send > 0 or scatter.receive > 0:
        warnings.append(
            "the scatter of transfers is played by afdplan simulate, the theory takes their mean"
        )
    if attention_workers > DECLARED_WORKERS:
        warnings.append(
            f"{attention_workers} attention workers are beyond the declared validity of "
            f"{DECLARED_WORKERS}. Check with afdplan simulate"
        )
    return warnings


def _ffn_scatter(latency: LatencyModel, bundle: Bundle) -> float:
    """Return the coefficient of variation of the FFN's time, its busiest rank's included."""
    if latency.experts is None:
        return latency.scatter.ffn
    times = ffn_times(latency, np.array([bundle.ffn_tokens]), bundle.ffn_workers)
    return 0.0 if times.fresh is None else float(times.fresh[0] / times.mean[0])


def barrier_free_warnings(
    latency: LatencyModel, *, microbatches: int, attention_workers: float
) -> list[str]:
    """Return one sentence for each bound that is left within which the pace was compared.

    Without the barrier: m <= 3, A <= 64, stage times that scatter by at most 30 %: 3 %.
    """
    bounds = (
        ("microbatches", float(microbatches), float(BARRIER_FREE_MICROBATCHES)),
        ("attention workers", attention_workers, float(DECLARED_WORKERS)),
        ("percent of scatter", 100 * max(latency.scatter.attention, latency.scatter.ffn), 30.0),
    )
    return [
        f"{value:.0f} {name} are beyond the {most:.0f} up to which the barrier-free pace was "
        "compared with simulation. Check with afdplan simulate"
        for name, value, most in bounds
        if value > most
    ]


def latency_range_warnings(
    latency: LatencyModel,
    slots: tuple[SlotLoad, ...],
    *,
    batch_size: int,
    ffn_tokens: float,
    aligned: bool = False,
) -> list[str]:
    """Return one sentence for each range of the latency model that the design leaves.

    The attention load counts as its mean plus and minus three standard deviations; of aligned
    slots it goes from the first age to the last.
    """
    warnings = []
    spans = []
    for slot in slots:
        mean = batch_size * slot.moments.mean
        reach = 3 * math.sqrt(batch_size) * slot.moments.std
        ends = (batch_size * slot.lowest, batch_size * slot.highest)
        spans.append(ends if aligned else (mean - reach, mean + reach))
    visited = {
        "attention_tokens": (
            max(min(low for low, _ in spans), 0.0),
            max(high for _, high in spans),
            "KV tokens per attention worker and microbatch",
        ),
        "ffn_tokens": (ffn_tokens, ffn_tokens, "tokens per FFN worker and microbatch"),
        "batch_size": (float(batch_size), float(batch_size), "requests per microbatch"),
    }
    for name, (low, high, meaning) in visited.items():
        bounds = getattr(latency.validity, name)
        if bounds is not None and (low < bounds[0] or high > bounds[1]):
            here = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
            warnings.append(
                f"latency model {latency.name!r} was measured at {bounds[0]:,.0f} to "
                f"{bounds[1]:,.0f} {meaning}, this design runs at {here}: extrapolated"
            )
    return warnings
