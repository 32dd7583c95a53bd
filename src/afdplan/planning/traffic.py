"""Which requests arrive at a service, when, and how much of their prompts is cached?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import InvalidInputError
from afdplan.lengths.law import LengthLaw
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.plan_parameters import PrefillArrivals, PrefixCache
from afdplan.model.prompt_blocks import PromptBlocks
from afdplan.model.trace import Trace
from afdplan.theory.shared_blocks import unique_fraction
from afdplan.workload.arrivals import describe_arrivals
from afdplan.workload.prefixes import session_prefixes

__all__ = ["Traffic", "service_traffic"]

DRAWN_REQUESTS = 50_000
MOST_REQUESTS = 200_000
"""Requests that are replayed at most: the first of a longer trace."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Requests in the order of their arrival, shape (n,) each.

    Attributes
    ----------
    arrivals
        At the recorded rate [s], the first at 0.
    prompts, decodes
        P and D [tokens].
    cached
        Prompt tokens whose KV cache the prefill side still has [tokens].
    blocks
        Blocks of the prompts that a prefix cache tells apart; None if no block is shared.
    rate
        The recorded rate [requests/s].
    name
        How they arrive, for people.
    """

    arrivals: FloatArray
    prompts: IntArray
    decodes: IntArray
    cached: IntArray
    rate: float
    name: str
    blocks: PromptBlocks | None = None

    def unique_fraction(self, slots: int, workers: int) -> float:
        """Return what shared blocks leave of the KV memory of busy slots, 1 without any."""
        if self.blocks is None:
            return 1.0
        return unique_fraction(self.blocks, self.prompts, self.decodes, slots, workers)

    @property
    def cached_fraction(self) -> float:
        """Share of all prompt tokens that needs no computing."""
        return float(self.cached.sum() / max(self.prompts.sum(), 1))

    def at(self, rate: float) -> FloatArray:
        """Return the arrivals at another mean rate [requests/s]: the clock is scaled."""
        return self.arrivals * (self.rate / rate)


def service_traffic(
    law: LengthLaw,
    trace: Trace | None,
    process: PrefillArrivals = of_plan.PREFILL_ARRIVALS.default,
    prefix_cache: PrefixCache = of_plan.PREFIX_CACHE.default,
    seed: int = ask.SEED.default,
) -> Traffic:
    """Return the requests that a prefill pool is to meet.

    Parameters
    ----------
    law, trace
        Lengths, and the requests behind them; None for a law of the mini-language.
    process
        ``trace`` replays its arrivals; ``poisson`` draws gaps, and lengths where there is no
        trace.
    prefix_cache
        Which prompt tokens need no computing: ``none``; ``recorded``, the `cached_tokens` of the
        trace; ``session``, the session so far. Nothing is evicted.
    seed
        Of what is drawn.

    Raises
    ------
    InvalidInputError
        If there are no arrivals to replay.

    Examples
    --------
    >>> from afdplan.lengths.law import EmpiricalLengths
    >>> trace = Trace(prompt_tokens=[9, 5, 7], decode_tokens=[3, 4, 5],
    ...     arrival_times=[0.0, 1.0, 4.0])
    >>> service_traffic(EmpiricalLengths(trace), trace).rate
    0.5
    """
    if process == "poisson":
        generator = np.random.default_rng(seed)
        if trace is None:
            prompts, decodes = law.sample(generator, DRAWN_REQUESTS)
        else:
            prompts, decodes = trace.prompt_tokens, trace.decode_tokens
        gaps = generator.exponential(size=prompts.size)
        return Traffic(
            arrivals=np.cumsum(gaps) - gaps[0],
            prompts=prompts,
            decodes=decodes,
            cached=_cached(trace, prompts, prefix_cache),
            rate=1.0,
            name="Poisson arrivals",
            blocks=_blocks(trace, prefix_cache),
        )
    remedy = "give --prefill-arrivals poisson to assume independent users, or a trace with times"
    if trace is None:
        raise InvalidInputError(
            f"a time to first token needs arrivals, and a law has none: {remedy}"
        )
    if trace.arrival_times is None or trace.requests < 2 or not trace.duration:
        raise InvalidInputError(
            f"a time to first token needs arrivals, and {trace.source} has none: {remedy}"
        )
    times = trace.arrival_times - trace.arrival_times[0]
    if describe_arrivals(times).is_evenly_spaced:
        raise InvalidInputError(
            f"a time to first token needs arrivals, and those of {trace.source} are evenly spaced, "
            f"row numbers or a test: {remedy}"
        )
    kept = slice(0, MOST_REQUESTS)
    blocks = _blocks(trace, prefix_cache)
    name = f"arrivals of {trace.source}"
    if trace.requests > MOST_REQUESTS:
        name = f"the first {MOST_REQUESTS:,} arrivals of {trace.source}"
    return Traffic(
        arrivals=times[kept],
        prompts=trace.prompt_tokens[kept],
        decodes=trace.decode_tokens[kept],
        cached=_cached(trace, trace.prompt_tokens, prefix_cache)[kept],
        rate=float((times[kept].size - 1) / times[kept][-1]),
        name=name,
        blocks=None if blocks is None else blocks.part(0, min(MOST_REQUESTS, trace.requests)),
    )


def _blocks(trace: Trace | None, prefix_cache: PrefixCache) -> PromptBlocks | None:
    return trace.blocks if trace is not None and prefix_cache == "recorded" else None


def _cached(trace: Trace | None, prompts: IntArray, prefix_cache: PrefixCache) -> IntArray:
    if prefix_cache == "none":
        return np.zeros(prompts.size, np.int64)
    if trace is None:
        raise InvalidInputError("a prefix cache needs a trace, and a law has no prefixes")
    if prefix_cache == "session":
        return session_prefixes(trace)
    if trace.cached_tokens is None:
        raise InvalidInputError(f"{trace.source} was read without its cached prefixes")
    return trace.cached_tokens
