"""How do stage times scatter from layer to layer, and how unevenly are experts loaded?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.words import counted

__all__ = ["ExpertLoad", "Scatter", "ScatterLaw", "zipf_popularity"]

ScatterLaw = Literal["gamma", "lognormal"]
LARGEST_SCATTER = 3.0
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """How far stage times scatter about their curves: factors of mean 1, drawn afresh.

    Attributes
    ----------
    attention
        Coefficient of variation, 0 to 3; one factor per worker, microbatch and layer.
    ffn
        The same of the FFN; one factor per microbatch and layer.
    send, receive
        The same of the transfers; one factor per link, microbatch and layer.
    law
        Of the factors: ``gamma`` or ``lognormal``.
    """

    attention: float = 0.0
    send: float = 0.0
    ffn: float = 0.0
    receive: float = 0.0
    law: ScatterLaw = "gamma"

    def __post_init__(self) -> None:
        for name in ("attention", "send", "ffn", "receive"):
            label = f"scatter of {name}"
            value = check_number(label, getattr(self, name), error=LatencyModelError)
            if value > LARGEST_SCATTER:
                raise LatencyModelError(f"{label} must be at most 3, got {value:g}")
            object.__setattr__(self, name, value)
        check_choice("scatter law", self.law, get_args(ScatterLaw), LatencyModelError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertLoad:
    """How the routed experts are loaded: the FFN ends with the slowest of its ranks.

    A bundle's F FFN workers hold the experts on ``R = F ranks_per_worker`` ranks, neighbours
    together. Each of its n F tokens chooses `experts_per_token` experts in each layer; X is the
    load of the rank that got most over the mean rank's, and the FFN takes
    ``t_F(n) + share (t_F(n X) - t_F(n))``.

    Attributes
    ----------
    experts, experts_per_token
        E and k of a layer with experts.
    ranks_per_worker
        Devices of one FFN worker that hold experts of their own. Without a popularity ranks are
        alike even where they do not divide the experts: copies make them so.
    popularity
        Share of the choices that each expert gets, one row per layer (or one for all), shape
        (rows, E), each summing to 1; empty: all alike, chance alone.
    overdispersion
        Variance of a rank's load over that of independent choices, phi >= 1; 1 is chance alone,
        where a token's k choices are different experts.
    imbalance, imbalance_cv
        Measured mean of X, >= 1, in place of all of the above, and the coefficient of variation of
        what exceeds 1, ``X = 1 + (imbalance - 1) gamma``, 0 to 3; None: not measured.
    tokens_per_request
        Tokens that each request sends in a step, >= 1.
    share
        Share of the FFN's load that is the routed experts' own, in [0, 1].
    """

    experts: int = 1
    experts_per_token: int = 1
    ranks_per_worker: int = 1
    popularity: tuple[tuple[float, ...], ...] = ()
    overdispersion: float = 1.0
    imbalance: float | None = None
    imbalance_cv: float = 0.0
    tokens_per_request: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        error = LatencyModelError
        for name in ("experts", "experts_per_token", "ranks_per_worker", "tokens_per_request"):
            check_count(name, getattr(self, name), 1, 1_000_000, error)
        if self.experts_per_token > self.experts:
            raise error(
                f"experts_per_token must be at most experts = {self.experts}, "
                f"got {self.experts_per_token}"
            )
        check_number("overdispersion", self.overdispersion, 1.0, error=error)
        if check_number("share", self.share, error=error) > 1:
            raise error(f"share must be at most 1, got {self.share:g}")
        if self.imbalance is not None:
            check_number("imbalance", self.imbalance, 1.0, error=error)
        if check_number("imbalance_cv", self.imbalance_cv, error=error) > LARGEST_SCATTER:
            raise error(f"imbalance_cv must be at most 3, got {self.imbalance_cv:g}")
        rows = tuple(tuple(float(share) for share in row) for row in self.popularity)
        object.__setattr__(self, "popularity", rows)
        for number, row in enumerate(rows, 1):
            if len(row) != self.experts:
                raise error(
                    f"popularity of layer {number} must have experts = {self.experts} shares, "
                    f"got {len(row)}"
                )
            if not all(math.isfinite(share) and share >= 0 for share in row):
                raise error(f"popularity of layer {number} must be shares >= 0")
            if abs(sum(row) - 1) > SUM_TOLERANCE:
                raise error(
                    f"popularity of layer {number} must sum to 1, got {sum(row):.6g}: divide each "
                    "count by their sum"
                )

    def __hash__(self) -> int:
        return hash((self.experts, self.overdispersion, self.share, self.popularity[:1]))

    def ranks(self, ffn_workers: int) -> int:
        """Return R, the ranks over which the experts are spread."""
        return self.ranks_per_worker * ffn_workers

    def spreads(self, ffn_workers: int) -> bool:
        """Return whether so many FFN workers can hold the experts: any if nobody is told apart.

        Examples
        --------
        >>> [ExpertLoad(experts=2, popularity=((0.5, 0.5),)).spreads(f) for f in (1, 2, 4)]
        [True, True, False]
        """
        if not self.popularity or self.imbalance is not None:
            return True
        return self.experts % self.ranks(ffn_workers) == 0

    def rank_shares(self, ffn_workers: int) -> FloatArray:
        """Return which share of the choices each rank gets, rows as `popularity` has them.

        Raises
        ------
        LatencyModelError
            If the popularity is known and its experts cannot be spread evenly.

        Examples
        --------
        >>> load = ExpertLoad(experts=4, popularity=((0.4, 0.3, 0.2, 0.1),))
        >>> load.rank_shares(2).round(6).tolist()
        [[0.7, 0.3]]
        """
        ranks = self.ranks(ffn_workers)
        if not self.popularity:
            return np.full((1, ranks), 1.0 / ranks)
        if self.experts % ranks:
            raise LatencyModelError(
                f"the {counted(ranks, 'rank')} of {counted(ffn_workers, 'FFN worker')} must divide "
                f"the {self.experts} experts whose popularity is known: take another number of FFN "
                "workers"
            )
        rows = np.array(self.popularity)
        rows = rows.reshape(len(rows), ranks, -1).sum(axis=2)
        shares: FloatArray = rows / rows.sum(axis=1, keepdims=True)
        return shares

    def dispersions(self) -> tuple[float, ...]:
        """Return a rank's variance over that of independent choices, rows as `popularity` has them.

        phi; by chance alone ``(E - k) / (E - 1)``, since a token chooses k different experts, with
        ``E = 1 / sum p^2`` of as many alike experts.

        Examples
        --------
        >>> [round(one, 3) for one in ExpertLoad(experts=8, experts_per_token=2).dispersions()]
        [0.857]
        """
        k, even = self.experts_per_token, (self.experts,) * (not self.popularity)
        alike = (*even, *(1 / sum(p * p for p in row) for row in self.popularity))
        if self.overdispersion > 1 or k == 1:
            return (self.overdispersion,) * len(alike)
        return tuple(max(experts - k, 0.0) / max(experts - 1, 1.0) for experts in alike)

    def concentration(self, choices: float) -> float | None:
        """Return s of the Dirichlet(s p) that choices are drawn by; None if they are independent.

        A rank's load then varies phi times as much, ``phi = (N + s) / (1 + s)``; at most N / 2.
        """
        phi = min(self.overdispersion, choices / 2)
        return (choices - phi) / (phi - 1) if phi > 1 else None

    def choices(self, requests: float) -> float:
        """Return how many choices of an expert so many requests of a microbatch make."""
        return requests * self.tokens_per_request * self.experts_per_token


def zipf_popularity(experts: int, exponent: float) -> tuple[float, ...]:
    """Return shares in proportion to ``1 / i^exponent``, the most popular expert first.

    Examples
    --------
    >>> [round(share, 3) for share in zipf_popularity(3, 1.0)]
    [0.545, 0.273, 0.182]
    """
    weights = [i**-exponent for i in range(1, experts + 1)]
    return tuple(weight / sum(weights) for weight in weights)
