"""How uneven are the experts that were measured, and what would placing them anew bring?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.files.measurements.expert_load import ExpertRecord
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import LARGEST_SCATTER, ExpertLoad

__all__ = ["ExpertFit", "RankBalance", "fit_expert_load", "with_expert_load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBalance:
    """How the load of R ranks compares, mean over layers, of long records.

    Attributes
    ----------
    ranks
        R.
    as_it_is
        Busiest rank over the mean rank, >= 1, with neighbours together.
    placed_anew
        The same if each layer's experts were dealt out anew, as many to each rank, the most
        popular first to the rank with least; None if only ranks were compared and the system
        did not say.
    """

    ranks: int | None
    as_it_is: float
    placed_anew: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertFit:
    """A law of the experts' load, and what it was read from.

    Attributes
    ----------
    load
        For a latency model.
    balances
        For each number of ranks that divides the experts, or the one that was compared.
    record
        The measurement.
    """

    load: ExpertLoad
    balances: tuple[RankBalance, ...]
    record: ExpertRecord


def fit_expert_load(record: ExpertRecord, known: ExpertLoad | None = None) -> ExpertFit:
    """Return the law of the experts' load from counts, or from what ranks were compared.

    Counts become popularity: chance is then added for the tokens of a microbatch by the theory.
    Ranks that were compared become ``imbalance`` (mean of busiest over mean) with its scatter.

    Parameters
    ----------
    record
        As read.
    known
        What the latency model knows of its experts: tokens choose as many, ranks hold as many.

    Raises
    ------
    LatencyModelError
        If the counts are of another number of experts than `known` has.

    Examples
    --------
    >>> record = ExpertRecord(counts=np.array([[4.0, 1.0, 1.0, 2.0]]))
    >>> [(b.ranks, b.as_it_is, b.placed_anew) for b in fit_expert_load(record).balances]
    [(2, 1.25, 1.25), (4, 2.0, 2.0)]
    """
    base = known or ExpertLoad()
    if record.counts is None:
        assert record.busiest is not None
        mean = float(record.busiest.mean())
        scatter = float(record.busiest.std()) / (mean - 1) if mean > 1 else 0.0
        load = replace(
            base, popularity=(), imbalance=mean, imbalance_cv=min(scatter, LARGEST_SCATTER)
        )
        after = None if record.rebalanced is None else float(record.rebalanced.mean())
        compared = RankBalance(ranks=record.ranks, as_it_is=mean, placed_anew=after)
        return ExpertFit(load=load, balances=(compared,), record=record)
    experts = record.counts.shape[1]
    if known is not None and known.experts not in (1, experts):
        raise LatencyModelError(
            f"{record.source} counts {experts} experts, the latency model has {known.experts}: "
            "it is of another model, or counts copies of experts (give logical counts)"
        )
    shares = record.counts / record.counts.sum(axis=1, keepdims=True)
    load = replace(
        base,
        experts=experts,
        popularity=tuple(map(tuple, shares.tolist())),
        imbalance=None,
        imbalance_cv=0.0,
    )
    divisors = (ranks for ranks in range(2, min(experts, 1024) + 1) if experts % ranks == 0)
    balances = tuple(
        RankBalance(
            ranks=ranks,
            as_it_is=_busiest(shares.reshape(len(shares), ranks, -1).sum(axis=2)),
            placed_anew=_busiest(np.stack([_dealt(row, ranks) for row in shares])),
        )
        for ranks in divisors
    )
    return ExpertFit(load=load, balances=balances, record=record)


def _busiest(shares: FloatArray) -> float:
    """Return the largest over the mean, mean over layers; `shares` of shape (layers, ranks)."""
    return float((shares.max(axis=1) * shares.shape[1]).mean())


def _dealt(shares: FloatArray, ranks: int) -> FloatArray:
    """Return the ranks' shares if the most popular expert goes to the rank with least, in turn."""
    room = np.full(ranks, shares.size // ranks)
    loads = np.zeros(ranks)
    for share in np.sort(shares)[::-1]:
        at = int(np.argmin(np.where(room > 0, loads, np.inf)))
        loads[at] += share
        room[at] -= 1
    return loads


def with_expert_load(model: LatencyModel, fit: ExpertFit) -> LatencyModel:
    """Return a latency model whose FFN ends with the slowest of ranks loaded as measured.

    Its FFN times must be those of ranks loaded alike: of one rank, or of a model on hardware. Where
    fewer or more layers were counted than it has, they stand for all, evenly: an assumption.
    """
    rows, assumptions = fit.load.popularity, model.assumptions
    if rows and model.experts is None:
        told = (
            "nobody said how many experts a token chooses and how many ranks an FFN worker has: "
            "experts_per_token = 1 and ranks_per_worker = 1 are taken in [experts]"
        )
        assumptions = (*assumptions, told)
    if len(rows) not in (0, 1, model.layers):
        source = fit.record.source or "the dump"
        told = (
            f"the {len(rows)} layers that {source} counts stand for the {model.layers} of the model"
        )
        assumptions = (*assumptions, told)
        chosen = (at * len(rows) // model.layers for at in range(model.layers))
        rows = tuple(rows[at] for at in chosen)
    load = replace(fit.load, popularity=rows)
    return replace(model, experts=load, assumptions=assumptions)
