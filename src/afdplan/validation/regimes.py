"""Which resource binds, and what latency model makes it bind for a given bundle and law?"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_args

from afdplan.lengths.law import LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_choice
from afdplan.model.latency import LatencyModel

__all__ = ["REGIMES", "Regime", "latency_for"]

Regime = Literal["attention", "balanced", "ffn", "communication", "latency"]
REGIMES: tuple[Regime, ...] = get_args(Regime)

_ATTENTION = 100.0
"""Mean attention time of a worker [abstract]; everything else is relative to it."""
_LOAD_SHARE = 0.7
"""Share of it that grows with the KV tokens."""
_FFN_LOAD_SHARE = 0.5


def latency_for(
    regime: Regime,
    law: LengthLaw,
    bundle: Bundle,
    *,
    layers: int = 1,
    **others: Any,
) -> LatencyModel:
    """Return straight-line latencies under which `regime` binds at `bundle`.

    Parameters
    ----------
    regime
        ``attention`` (the FFN needs 60 % of the mean attention time), ``balanced`` (as long as
        the mean attention, where the barrier decides from round to round), ``ffn`` (125 %),
        ``communication`` (each direction 150 %) or ``latency`` (one trip is longer than all
        other work of a round; with four microbatches, where a trip of four stages cannot be
        longer than four of one of them, all are equal).
    law
        Whose mean token load makes attention take 100 time units.
    bundle
        At which this holds.
    layers, **others
        As the attributes of `LatencyModel`.
    """
    check_choice("regime", regime, REGIMES)
    a, m = _ATTENTION, bundle.microbatches
    load = bundle.batch_size * _mean_load(law)
    ffn = {"attention": 0.6, "balanced": 1.0, "ffn": 1.25, "communication": 0.5, "latency": 1.0}
    f = ffn[regime] * a
    transfer = {
        "communication": 1.5 * a,
        "latency": min(max(1.1 * m * a - a - f, 0.2 * a), 2 * a) / 2,
    }
    c = transfer.get(regime, 0.05 * a)
    # Requests without a prompt that end with their first token hold nothing.
    share = _LOAD_SHARE if load else 0.0
    return LatencyModel.linear(
        attention=(share * a / max(load, 1.0), (1 - share) * a),
        ffn=(_FFN_LOAD_SHARE * f / bundle.ffn_tokens, (1 - _FFN_LOAD_SHARE) * f),
        transfer=(0.0, c),
        layers=layers,
        name=f"{regime}-bound",
        **others,
    )


@lru_cache(maxsize=64)
def _mean_load(law: LengthLaw) -> float:
    """Return theta; many cells share a law, and a sample's exactly rounded sums take a while."""
    return law.token_load().mean
