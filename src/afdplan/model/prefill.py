"""How long does a prefill worker take for a prompt, and how long is its cache under way?

A worker passes a prompt through the whole model in chunks of at most C tokens. With n tokens to
compute behind c cached ones,

    time = sum over chunks t(tokens of the chunk)  +  sum over kinds of layers q * pairs(c, c + n)

t is what every token costs (projections, experts, reductions; a floor where the weights are read),
q what one query costs per key that it reads: the causal pairs are what makes the time quadratic.
Waiting prompts share a chunk as long as they fit it together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model import plan_parameters as ask
from afdplan.model.checks import check_number
from afdplan.model.curve import Curve

__all__ = ["PairCost", "PrefillModel", "causal_pairs"]


def causal_pairs(cached: Any, tokens: Any, window: int | None = None) -> Any:
    """Return how many (query, key) pairs the tokens behind a cached prefix make.

        sum_{i=c+1}^{c+n} min(i, w)

    Parameters
    ----------
    cached, tokens
        c and n, elementwise.
    window
        w, most keys that a query reads; None reads all before it.

    Examples
    --------
    >>> float(causal_pairs(0, 4)), float(causal_pairs(2, 2)), float(causal_pairs(0, 4, window=2))
    (10.0, 7.0, 7.0)
    """
    first = np.asarray(cached, dtype=np.float64)

    def below(count: Any) -> Any:
        near = count if window is None else np.minimum(count, window)
        return near * (near + 1) / 2 + (count - near) * near

    return below(first + tokens) - below(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCost:
    """What one query costs per key that it reads.

    Attributes
    ----------
    time
        All layers of the kind together [s/pair], >= 0.
    window
        Most keys that a query reads [tokens]; None reads all before it.
    """

    time: float
    window: int | None = None

    def __post_init__(self) -> None:
        check_number("pair time", self.time, error=LatencyModelError)
        if self.window is not None and self.window < 1:
            raise LatencyModelError(f"window must be an integer >= 1, got {self.window}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillModel:
    """Times of one prefill worker [s].

    Attributes
    ----------
    name
        What is modelled, for people.
    compute
        t: time of a chunk through all layers against its tokens, without its pairs.
    pairs
        q of every kind of layer.
    chunk_tokens
        C, most tokens of one pass [tokens].
    devices
        Devices of one worker.
    transfer_per_token, transfer_latency
        To send the KV cache of one token to the decode side, and of an empty one [s].
    most_tokens
        Longest prompt whose KV cache fits beside the weights [tokens]; infinite if unknown.
    source
        Where the numbers come from.
    assumptions
        What was assumed, one sentence each.

    Raises
    ------
    LatencyModelError
        If a value is out of its domain.

    Examples
    --------
    >>> from afdplan.model.curve import LinearCurve
    >>> model = PrefillModel(name="x", compute=LinearCurve(slope=1e-5, intercept=2e-3),
    ...     pairs=(PairCost(time=1e-9),), chunk_tokens=1000)
    >>> model.times(np.array([1000, 2000])).round(6).tolist()
    [0.012501, 0.026001]
    """

    name: str
    compute: Curve
    pairs: tuple[PairCost, ...] = ()
    chunk_tokens: int = ask.PREFILL_CHUNK.default
    devices: int = 1
    transfer_per_token: float = 0.0
    transfer_latency: float = 0.0
    most_tokens: float = float("inf")
    source: str = ""
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.compute, Curve):
            raise LatencyModelError(f"compute must be a curve, got {self.compute!r:.80}")
        ask.PREFILL_CHUNK.check(self.chunk_tokens)
        ask.PREFILL_DEVICES.check(self.devices)
        for name in ("transfer_per_token", "transfer_latency"):
            check_number(name, getattr(self, name), error=LatencyModelError)
        object.__setattr__(self, "pairs", tuple(self.pairs))

    def pair_times(self, tokens: Any, cached: Any = 0) -> FloatArray:
        """Return what the pairs of `tokens` behind `cached` ones take [s], elementwise."""
        total = np.zeros(np.shape(tokens))
        for kind in self.pairs:
            total = total + kind.time * causal_pairs(cached, tokens, kind.window)
        return np.asarray(total, dtype=np.float64)

    def times(self, tokens: Any, cached: Any = 0) -> FloatArray:
        """Return the time of each prompt alone [s], elementwise.

        Parameters
        ----------
        tokens
            To compute, without the cached ones; 0 still passes the last token.
        cached
            Prefix whose KV cache is there already.
        """
        counts = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
        whole = np.floor(counts / self.chunk_tokens)
        rest = counts - whole * self.chunk_tokens
        last = np.where(rest > 0, self.compute(np.atleast_1d(rest)).reshape(rest.shape), 0.0)
        full = self.compute(float(self.chunk_tokens))
        return np.asarray(whole * full + last + self.pair_times(counts, cached))

    def transfer_times(self, tokens: Any) -> FloatArray:
        """Return how long the KV cache of whole prompts is under way [s], elementwise."""
        return np.asarray(self.transfer_latency + self.transfer_per_token * np.asarray(tokens))

    def slowed(self, factor: float) -> PrefillModel:
        """Return a worker whose computing takes `factor` (> 0) times as long."""
        return replace(
            self,
            compute=self.compute.scaled(factor),
            pairs=tuple(replace(kind, time=kind.time * factor) for kind in self.pairs),
        )
