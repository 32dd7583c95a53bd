"""What do several bundles do on the same requests, replication by replication?

Bundles that see the same requests differ by less than either is unsure: the interval of a ratio
of their throughputs is narrower than that of each. Runs are short and independent: each begins
as an observer finds the slots, warms up, and is then measured over a number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import UnsupportedError
from afdplan.model.estimate import Estimate
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.record import Part, Recorder
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.tables import token_fraction
from afdplan.statistics.replications import ratio_estimate

__all__ = ["MOST_SECONDS", "Paired", "play_paired"]

WARM_UP, MEASURED = 2, 4
"""Lengths of a run, in residual lives ``E[D^2] / E[D]`` of a request."""
LEAST_STEPS = 40
MOST_SECONDS = 0.4
"""Of one run, about, on one core; longer ones are cut down to one residual life."""
PER_REQUEST, PER_STAGE = 120e-9, 12e-9
"""Seconds per request and per stage of a worker, about."""
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paired:
    """One bundle's replications.

    Attributes
    ----------
    scenario
        What was played.
    parts
        What each replication did after its warm-up.
    seconds
        That one may take, about.
    """

    scenario: Scenario
    parts: tuple[Part, ...]
    seconds: float = MOST_SECONDS

    @property
    def throughputs(self) -> FloatArray:
        """Tokens per time of each replication, shape (replications,) [tokens/time]."""
        unit = token_fraction(self.scenario.latency.tokens_per_step).denominator
        tokens = np.array([part.integers[ix.UNITS] for part in self.parts]) / unit
        times: FloatArray = np.array([part.floats[ix.CLOCK] for part in self.parts])
        return tokens / times

    def against(self, other: Paired, factor: float = 1.0) -> Estimate:
        """Return this throughput times `factor` over that of a bundle on the same requests."""
        runs = min(len(self.parts), len(other.parts))
        return ratio_estimate(factor * self.throughputs[:runs], other.throughputs[:runs])

    @property
    def throughput(self) -> Estimate:
        """Tokens per time [tokens/time]."""
        return ratio_estimate(self.throughputs, np.ones(len(self.parts)))

    @property
    def step_time(self) -> Estimate:
        """Mean time of an output step [time]."""
        total = [part.floats[ix.STEP_TIME] for part in self.parts]
        steps = [part.integers[ix.STEP] * self.scenario.microbatches for part in self.parts]
        return ratio_estimate(total, steps)

    @property
    def step_time_quantiles(self) -> tuple[float, float, float]:
        """p50, p95, p99 of the step time, all replications together [time]."""
        total = reduce(add, self.parts).histograms[ix.STEP_TIMES]
        return total.quantile(0.5), total.quantile(0.95), total.quantile(0.99)

    @property
    def attention_idle_fraction(self) -> float:
        """Share of the time in which an attention worker computes nothing."""
        total = reduce(add, self.parts)
        workers = self.scenario.bundle.attention_workers
        return 1 - total.busy / (workers * float(total.floats[ix.CLOCK]))

    @property
    def ffn_idle_fraction(self) -> float:
        """The same of the FFN."""
        total = reduce(add, self.parts)
        return 1 - float(total.floats[ix.FFN_BUSY] / total.floats[ix.CLOCK])

    def with_more(self, replications: int) -> Paired:
        """Return these and so many further replications."""
        first = len(self.parts)
        more = [_play(self.scenario, first + k, self.seconds) for k in range(replications)]
        return replace(self, parts=(*self.parts, *more))


def play_paired(scenario: Scenario, replications: int, seconds: float = MOST_SECONDS) -> Paired:
    """Return a saturated bundle's replications, on requests that depend on the seed only.

    Parameters
    ----------
    scenario
        What to play; how long is decided here, so that all runs of one workload are alike.
    replications
        Independent runs, >= 2.
    seconds
        That a run may take, about; longer ones are cut down, by default to one residual life.

    Raises
    ------
    UnsupportedError
        If the scenario has arrivals: what is not saturated yields what arrives.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.bundle import Bundle
    >>> from afdplan.model.latency import LatencyModel
    >>> found = play_paired(Scenario(
    ...     bundle=Bundle(attention_workers=2, batch_size=4, microbatches=1),
    ...     latency=LatencyModel.linear(attention=(0.0, 50), ffn=(0.0, 30), transfer=(0.0, 10)),
    ...     lengths=IndependentLengths(prompt="100", decode="geometric:5")), 2)
    >>> round(found.throughput.value, 6)  # 8 tokens in 50 + 10 + 30 + 10
    0.08
    """
    if scenario.arrivals is not None:
        raise UnsupportedError("bundles are compared saturated: leave the arrivals out")
    none = Paired(scenario=scenario, parts=(), seconds=seconds)
    return none.with_more(replications)


def _steps(scenario: Scenario, most_seconds: float) -> int:
    """Return the steps of one residual life, fewer where they would take too long to play."""
    law, tokens = scenario.law, scenario.latency.tokens_per_step
    life = law.mean_squared_decode_tokens / law.mean_decode_tokens / tokens
    cells = scenario.bundle.attention_workers * scenario.microbatches
    seconds = cells * (
        PER_STAGE * (1 + scenario.latency.layers)
        + PER_REQUEST * scenario.bundle.batch_size * tokens / law.mean_decode_tokens
    )
    least = life * min(most_seconds / MOST_SECONDS, 1.0)
    most = max(most_seconds / seconds, least) / (WARM_UP + MEASURED)
    return max(math.ceil(min(life, most)), LEAST_STEPS)


def _play(scenario: Scenario, replication: int, seconds: float) -> Part:
    life = _steps(scenario, seconds)
    engine = Engine(scenario, replication)
    engine.run(stop_step=WARM_UP * life)
    recorder = Recorder(engine)
    recorder.cut()
    engine.run(stop_step=(WARM_UP + MEASURED) * life)
    return recorder.cut()
