"""How much has the busiest expert rank to do, over the mean: the second barrier?

The law of the largest count comes from `afdplan.theory.busiest_rank`, for microbatches of 1, 2, 4,
... tokens; between them its quantiles are interpolated. Where all experts are alike, it depends on
tokens and ranks alone, and designs of any FFN workers are evaluated together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.variation import ExpertLoad
from afdplan.theory.busiest_rank import largest_counts

__all__ = ["RankLoad", "mean_rank_load", "rank_load"]

NODES = 24
"""Levels at which a curve is averaged over the law."""
LEVELS = (np.arange(NODES) + 0.5) / NODES
COLUMNS, MARKS = NODES + 2, 42
"""Microbatches of 1 to 2^41 tokens have laws of their own."""
SMALLEST = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankLoad:
    """X, load of the busiest rank over the mean, where n designs make their choices.

    Attributes
    ----------
    quantiles
        Of X over all layers, at 24 even levels, shape (n, 24).
    fresh
        Share of the variance of X that is drawn anew in every microbatch; the rest is between
        layers, shape (n,).
    """

    quantiles: FloatArray
    fresh: FloatArray


def rank_load(load: ExpertLoad, requests: FloatArray, ffn_workers: IntArray | int) -> RankLoad:
    """Return the law of X for microbatches of `requests` A B and F workers, shape (n,).

    Examples
    --------
    Chance alone, 2,048 tokens, k = 8, 8 ranks: the busiest has 3 % more than the mean.

    >>> load = ExpertLoad(experts=256, experts_per_token=8)
    >>> round(float(rank_load(load, np.array([2048.0]), 8).quantiles.mean()), 3)
    1.031
    """
    if load.imbalance is not None:
        one = _measured(load)
        return RankLoad(quantiles=np.tile(one, (requests.size, 1)), fresh=np.ones(requests.size))
    rows = _interpolated(load, requests, ffn_workers, slice(None))
    return RankLoad(quantiles=1 + np.exp(rows[:, :NODES]), fresh=rows[:, NODES])


def mean_rank_load(
    load: ExpertLoad, requests: FloatArray, ffn_workers: IntArray | int
) -> FloatArray:
    """Return the mean of X, shape (n,), up to a thousandth of what is beyond 1: for bounds."""
    if load.imbalance is not None:
        return np.full(requests.size, _measured(load).mean())
    mean: FloatArray = 1 + np.exp(_interpolated(load, requests, ffn_workers, NODES + 1))
    return mean


def _measured(load: ExpertLoad) -> FloatArray:
    beyond: FloatArray = np.ones(NODES)
    if load.imbalance_cv > 0:
        from scipy import special

        shape = load.imbalance_cv**-2
        beyond = np.asarray(special.gammaincinv(shape, LEVELS), dtype=np.float64) / shape
        beyond = beyond + (1 - beyond.mean())
    return 1 + ((load.imbalance or 1.0) - 1) * beyond


def _interpolated(
    load: ExpertLoad, requests: FloatArray, ffn_workers: IntArray | int, column: slice | int
) -> FloatArray:
    """Return a column (or all) of the table between doublings of tokens."""
    at = np.log2(np.clip(load.tokens_per_request * requests, 1.0, 2.0 ** (MARKS - 2)))
    workers, below, table = (
        np.broadcast_to(ffn_workers, at.shape),
        at.astype(np.int64),
        _table(load),
    )
    low, high = (table.rows(workers, below + step, column) for step in (0, 1))
    between = at - below
    rows: FloatArray = low + (between if low.ndim == 1 else between[:, None]) * (high - low)
    return rows


@lru_cache(maxsize=64)
def _table(load: ExpertLoad) -> _Table:
    return _Table(load)


class _Table:
    """Log (X - 1) at each level, fresh share and log (E X - 1), by FFN workers and doublings."""

    def __init__(self, load: ExpertLoad) -> None:
        self._load = load
        self._places: dict[int, int] = {}
        self._rows = np.empty((0, MARKS, COLUMNS))
        self._shares: dict[int, FloatArray] = {}
        self._dispersions = load.dispersions()

    def rows(self, workers: IntArray, marks: IntArray, column: slice | int) -> FloatArray:
        """Return what a column (or all) holds for FFN workers and doublings of tokens."""
        numbers, which = np.unique(workers, return_inverse=True)
        for number in numbers.tolist():
            self._places.setdefault(number, len(self._places))
        if len(self._places) > len(self._rows):
            more = np.full((len(self._places), MARKS, COLUMNS), np.nan)
            self._rows = np.concatenate([self._rows, more])
        places = np.array([self._places[number] for number in numbers.tolist()])
        at = places[which]
        if np.isnan(self._rows[at, marks, 0]).any():
            wanted = np.zeros((places.size, MARKS), dtype=bool)
            wanted[which, marks] = True
            row, mark = np.nonzero(wanted & np.isnan(self._rows[places, :, 0]))
            self._rows[places[row], mark] = self._laws(numbers[row], mark)
        found: FloatArray = self._rows[at, marks, column]
        return found

    def _laws(self, workers: IntArray, marks: IntArray) -> FloatArray:
        """Return the rows of pairs of FFN workers and doublings."""
        load = self._load
        choices: FloatArray = load.experts_per_token * 2.0 ** marks.astype(np.float64)
        if load.popularity:
            return np.stack(
                [self._popular(int(f), n) for f, n in zip(workers, choices, strict=True)]
            )
        ranks = np.array([load.ranks(int(number)) for number in workers])
        found = _loads(1.0 / ranks[:, None], ranks, choices, self._dispersions * int(ranks.size))
        fresh, mean = np.ones((ranks.size, 1)), _logs(found.mean(axis=1))[:, None]
        return np.concatenate([_logs(found), fresh, mean], axis=1)

    def _popular(self, ffn_workers: int, choices: float) -> FloatArray:
        if ffn_workers not in self._shares:
            self._shares[ffn_workers] = self._load.rank_shares(ffn_workers)
        shares = self._shares[ffn_workers]
        layers, ranks = shares.shape
        found = _loads(shares, np.full(layers, ranks), np.full(layers, choices), self._dispersions)
        within, whole = found.var(axis=1).mean(), found.var()
        levels = np.quantile(found, LEVELS)
        fresh = within / whole if whole > 0 else 1.0
        return np.concatenate([_logs(levels), [fresh, _logs(levels.mean())]])


def _logs(loads: FloatArray) -> FloatArray:
    logs: FloatArray = np.log(np.maximum(loads - 1, SMALLEST))
    return logs


def _loads(
    shares: FloatArray, ranks: IntArray, choices: FloatArray, dispersion: Sequence[float]
) -> FloatArray:
    """Return X at each level of rows of ranks, shape (rows, levels)."""
    laws = largest_counts(shares, ranks, choices, np.array(dispersion))
    # Whole counts: the chance of x is spread over x - 1/2 to x + 1/2, that of the least is not.
    found = np.array([np.interp(LEVELS, law[1], law[0] + 0.5 * (law[0].size > 2)) for law in laws])
    least = np.ceil(choices / ranks - 1e-9)[:, None]
    found = np.where(found < least + 0.5, np.minimum(least, found.max(axis=1)[:, None]), found)
    return found * (ranks / choices)[:, None]
