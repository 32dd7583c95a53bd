"""Where do requests, arrivals and service-time factors come from?

One seed gives an independent stream to every cause, so that two designs see the same requests
and adding a stream moves no other. Draws come in blocks; how long the blocks are changes nothing.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.trace import Trace
from afdplan.model.variation import ExpertLoad
from afdplan.simulation.alias import alias_table
from afdplan.simulation.length_streams import LengthStreams
from afdplan.simulation.scenario import Arrivals, Scenario
from afdplan.simulation.state import FOUND_IN_SLOT
from afdplan.simulation.tables import token_fraction

__all__ = ["Factors", "RequestSource", "initial_requests", "stream", "variation_source"]

LARGEST_POOL, FEWEST = 10**9, 8
"""A pool of choices must be smaller (NumPy), and its parts of unequal ranks as large."""
STREAMS = (
    "prompt lengths",
    "decode lengths",
    "arrivals",
    "start",
    "attention times",
    "send times",
    "ffn times",
    "receive times",
    "expert imbalance",
    "expert choices",
    "expert drift",
    "failures",
)


def stream(seed: int, replication: int, cause: str) -> np.random.Generator:
    """Return the random stream of one cause in one replication."""
    key = (replication, STREAMS.index(cause))
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, spawn_key=key)))


class RequestSource:
    """Yields the requests of a scenario in order, in blocks of any size."""

    def __init__(self, scenario: Scenario, replication: int) -> None:
        self.capacity = scenario.kv_capacity
        self.tokens = token_fraction(scenario.latency.tokens_per_step)
        self.lengths = scenario.lengths
        self.arrivals: Arrivals | None = scenario.arrivals
        self.position = 0
        self.clock = 0.0
        self.unfit = 0
        self._prompts = stream(scenario.seed, replication, "prompt lengths")
        self._decodes = stream(scenario.seed, replication, "decode lengths")
        self._gaps = stream(scenario.seed, replication, "arrivals")
        self._streams: LengthStreams | None = None
        self._pool: IntArray = np.empty((0, 3), dtype=np.int64)
        self.is_replay = isinstance(self.lengths, Trace)
        if isinstance(self.lengths, Trace) and replication and not self._plays_arrivals:
            # Each replication replays the trace from a place of its own.
            self.position = int(self._prompts.integers(self.lengths.requests))
        if not isinstance(self.lengths, IndependentLengths):
            known = self.lengths.prompt_tokens, self.lengths.decode_tokens
            self._pool = np.stack([*known, np.zeros_like(known[0])], axis=1)
            self._refuse_if_none_fits(*known)
        else:
            shortest = self.lengths.prompt.lowest, self.lengths.decode.lowest
            self._refuse_if_none_fits(*(np.array([length]) for length in shortest))
            laws = self.lengths.prompt, self.lengths.decode
            self._streams = LengthStreams(
                (self._prompts, self._decodes), tuple(alias_table(law) for law in laws)
            )

    @property
    def _plays_arrivals(self) -> bool:
        return self.arrivals is not None and self.arrivals.process == "trace"

    def _refuse_if_none_fits(self, prompt: IntArray, decode: IntArray) -> None:
        if self.capacity is None:
            return
        top, unit = self.tokens.numerator, self.tokens.denominator
        largest = prompt * unit + top * ((decode * unit + top - 1) // top - 1)
        if not (largest <= self.capacity * unit).any():
            raise InvalidInputError(
                f"kv_capacity must hold at least the smallest request, {largest.min() / unit:g} "
                f"tokens at its end, got {self.capacity}"
            )

    @property
    def is_exhausted(self) -> bool:
        """Whether the trace's own arrivals have all been played."""
        return (
            isinstance(self.lengths, Trace)
            and self.arrivals is not None
            and self.arrivals.process == "trace"
            and self.position >= self.lengths.requests
        )

    def draw(self, count: int, space: IntArray | None = None) -> tuple[IntArray, FloatArray]:
        """Return about `count` requests: rows (prompt, decode, unfit before it), and arrivals.

        Rows lie in `space`, shape (count, 3), where they can; its last column holds zeros.
        """
        if self.is_exhausted:
            return np.empty((0, 3), dtype=np.int64), np.empty(0)
        rows = self._draw_lengths(count, space)
        arrival = self._draw_arrivals(len(rows))
        self.position += len(rows)
        if self.capacity is None:
            return rows, arrival
        rows[:, 2] = 0
        prompt, decode = rows[:, 0], rows[:, 1]
        # Requests that no worker can ever hold are refused as they come.
        top, unit = self.tokens.numerator, self.tokens.denominator
        if int(prompt.max()) * unit + int(decode.max()) * unit <= self.capacity * unit:
            rows[0, 2], self.unfit = self.unfit, 0  # the longest together fit: most often
            return rows, arrival
        steps = (decode * unit + top - 1) // top
        fits = prompt * unit + top * (steps - 1) <= self.capacity * unit
        before = np.cumsum(~fits) + self.unfit
        rows = rows[fits]
        kept = before[fits]
        rows[:, 2] = np.diff(kept, prepend=0)
        self.unfit = int(before[-1]) - (int(kept[-1]) if kept.size else 0)
        return rows, arrival[fits] if arrival.size else arrival

    def _draw_lengths(self, count: int, space: IntArray | None) -> IntArray:
        if self._streams is not None:
            rows = np.zeros((count, 3), dtype=np.int64) if space is None else space
            self._streams.fill(rows)
            return rows
        pool = self._pool
        if self.is_replay:
            if self.arrivals is not None and self.arrivals.process == "trace":
                count = min(count, len(pool) - self.position)
            index = (self.position + np.arange(count)) % len(pool)
        else:
            index = self._prompts.integers(len(pool), size=count)
        chosen: IntArray = pool[index]
        return chosen

    def _draw_arrivals(self, count: int) -> FloatArray:
        if self.arrivals is None:
            return np.empty(0)
        if self.arrivals.process == "trace" and isinstance(self.lengths, Trace):
            times = self.lengths.arrival_times
            duration = self.lengths.duration
            if times is None or not duration:  # the scenario has refused this
                return np.empty(0)
            block: FloatArray = times[self.position : self.position + count] - times[0]
            if self.arrivals.rate is None:
                return block.copy()
            recorded = (self.lengths.requests - 1) / duration
            scaled: FloatArray = block * (recorded / self.arrivals.rate)
            return scaled
        rate = self.arrivals.rate or 1.0
        if self.arrivals.process == "poisson":
            gaps = self._gaps.standard_exponential(count)
        else:
            shape = 1.0 / self.arrivals.cv**2
            gaps = self._gaps.standard_gamma(shape, count) / shape
        # One running sum over all blocks: where a block ends must not matter.
        clock: FloatArray = np.add.accumulate(np.concatenate([[self.clock], gaps / rate]))[1:]
        self.clock = float(clock[-1])
        return clock


class Factors(Protocol):
    """Yields factors of one stage in blocks of any size."""

    def draw(self, count: int) -> FloatArray:
        """Return `count` factors."""
        ...


def variation_source(scenario: Scenario, replication: int, stage: str) -> Factors:
    """Return the factors on the times of a stage, or on the load of the experts."""
    if stage == "experts":
        return ExpertSource(scenario, replication)
    return VariationSource(scenario, replication, stage)


class VariationSource:
    """Yields factors of mean 1 on the times of one stage."""

    def __init__(self, scenario: Scenario, replication: int, stage: str) -> None:
        self.cv: float = getattr(scenario.scatter, stage)
        self.law = scenario.scatter.law
        self._factors = stream(scenario.seed, replication, f"{stage} times")

    def draw(self, count: int) -> FloatArray:
        """Return `count` factors."""
        if self.law == "gamma" or self.cv == 0:
            return _gamma(self._factors, self.cv, count)
        sigma = math.sqrt(math.log1p(self.cv**2))
        factors: FloatArray = np.exp(sigma * self._factors.standard_normal(count) - sigma**2 / 2)
        return factors


class ExpertSource:
    """Yields the load of the busiest expert rank over the mean rank's, one per FFN stage played.

    The tokens of a microbatch choose; every layer has its own popularity.
    """

    def __init__(self, scenario: Scenario, replication: int) -> None:
        self._load = scenario.expert_load or ExpertLoad()
        self._measured = stream(scenario.seed, replication, "expert imbalance")
        self._choices = stream(scenario.seed, replication, "expert choices")
        self._drift = stream(scenario.seed, replication, "expert drift")
        bundle = scenario.bundle
        self._shares = self._load.rank_shares(bundle.ffn_workers)
        self._count = round(self._load.choices(bundle.attention_workers * bundle.batch_size))
        self._of_layer = self._choices.spawn(len(self._shares))
        self._pools = [
            _pool(self._count, dispersion, shares)
            for dispersion, shares in zip(self._load.dispersions(), self._shares, strict=True)
        ]
        self._microbatches, self._layers = scenario.microbatches, scenario.latency.layers
        self._played = 0

    def draw(self, count: int) -> FloatArray:
        """Return `count` factors >= 1."""
        if self._load.imbalance is not None:
            beyond = _gamma(self._measured, self._load.imbalance_cv, count)
            measured: FloatArray = 1.0 + (self._load.imbalance - 1.0) * beyond
            return measured
        stages = (self._played + np.arange(count)) // self._microbatches % self._layers
        self._played += count
        shares = self._shares[stages % len(self._shares)]
        together = self._load.concentration(self._count)
        if together is not None:
            drawn = self._drift.standard_gamma(together * shares)
            shares = drawn / drawn.sum(axis=1, keepdims=True)
        counts = (
            self._different(stages % len(self._shares))
            if together is None
            else self._choices.multinomial(self._count, shares)
        )
        busiest: FloatArray = counts.max(axis=1) * (shares.shape[1] / self._count)
        return busiest

    def _different(self, layers: IntArray) -> IntArray:
        """Return the choices of each rank by chance, shape (stages, ranks), layer by layer.

        A token's choices are different experts: N choices vary as if they were drawn without
        replacement from a pool, which for one token is all experts. Each layer has its own stream.
        """
        counts = np.empty((layers.size, self._shares.shape[1]), np.int64)
        for layer in np.unique(layers):
            at, generator = np.flatnonzero(layers == layer), self._of_layer[layer]
            pool = self._pools[layer]
            if pool is not None:
                counts[at] = generator.multivariate_hypergeometric(pool, self._count, at.size)
            else:
                counts[at] = generator.multinomial(self._count, self._shares[layer], at.size)
        return counts


def _pool(choices: int, dispersion: float, shares: FloatArray) -> IntArray | None:
    """Return a pool from which N draws vary so much less than independent ones; None if none does.

    Parts of a few draws are not whole: of unequal ranks they would no longer be the shares.
    """
    if not choices > dispersion < 1:
        return None
    parts = (choices - dispersion) / (1 - dispersion) * shares
    whole = np.maximum(np.rint(parts), np.ceil(choices * shares - 1e-9)).astype(np.int64)
    if whole.sum() >= LARGEST_POOL or (np.ptp(shares) > 0 and parts[shares > 0].min() < FEWEST):
        return None
    return whole


def _gamma(generator: np.random.Generator, cv: float, count: int) -> FloatArray:
    if cv == 0:
        return np.ones(count)
    shape = 1.0 / cv**2
    return np.asarray(generator.standard_gamma(shape, count) / shape)


def initial_requests(scenario: Scenario, replication: int) -> tuple[IntArray, FloatArray]:
    """Return the requests in slots at time zero of a stationary start.

    With k tokens per step a request lives ``n = ceil(D / k)`` steps and is found with a chance
    proportional to n, at a uniform step: a draw proportional to D is kept with chance n / D.

    Returns
    -------
    tuple
        Rows (prompt, steps, output, tokens, preemptions) as `State.returned`, and (begun, arrival).
    """
    slots = scenario.bundle.attention_workers * scenario.bundle.batch_size * scenario.microbatches
    generator = stream(scenario.seed, replication, "start")
    tokens = token_fraction(scenario.latency.tokens_per_step)
    top, unit = tokens.numerator, tokens.denominator
    law = scenario.law
    rows: list[IntArray] = []
    missing = slots
    while missing > 0:
        count = min(math.ceil(missing * top / unit) + 16, 1_000_000)
        found = law.sample_stationary(generator, count)
        steps = (found.decode_tokens * unit + top - 1) // top
        keep = generator.random(count) * found.decode_tokens < steps
        age = (
            found.age
            if top == unit
            else np.minimum(np.floor(generator.random(count) * steps).astype(np.int64), steps - 1)
        )
        prompt = found.prompt_tokens * unit + top * age
        if scenario.kv_capacity is not None:
            keep &= prompt + top * (steps - age - 1) <= scenario.kv_capacity * unit
            if not keep.any() and len(rows) == 0 and count >= 16:
                break
        block = np.stack(
            [
                prompt,
                steps - age,
                found.decode_tokens * unit - top * age,
                found.decode_tokens,
                np.zeros(count, dtype=np.int64),
            ],
            axis=1,
        )[keep][:missing]
        rows.append(block)
        missing -= block.shape[0]
    requests = np.concatenate(rows) if rows else np.empty((0, 5), dtype=np.int64)
    times = np.stack([np.full(len(requests), FOUND_IN_SLOT), np.zeros(len(requests))], axis=1)
    return requests, times
