"""What does a simulation say of a design that somebody recommends?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.lengths.law import LengthLaw
from afdplan.planning.design import Design
from afdplan.planning.limits import Statistic
from afdplan.planning.source import LatencySource
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario

__all__ = ["Judgement", "cache_tokens", "judge"]

LIVES = 2  # requests that each slot finishes per run


@dataclass(frozen=True)
class Judgement:
    """One bundle of a design, simulated; times in seconds."""

    design: Design
    tokens_per_second: float  # of all bundles
    noise: float  # relative half-width of the 95 % interval of the mean step time
    time_per_output_token: float  # the statistic that was asked for
    cache: float  # 99th percentile of the KV tokens of a worker over what fits

    @property
    def per_device(self) -> float:
        """Tokens per second and device in use."""
        return self.tokens_per_second / self.design.devices

    def holds(self, limit: float) -> bool:
        """Return whether the time per output token and the memory stay within their limits."""
        return self.time_per_output_token <= limit and self.cache <= 1


def judge(
    law: LengthLaw,
    source: LatencySource,
    design: Design,
    *,
    statistic: Statistic = "mean",
    seed: int,
    runs: int,
) -> Judgement:
    """Return what `runs` replications say; the same seed draws the same requests for all."""
    latency = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    result = simulate(
        Scenario(
            bundle=design.bundle,
            latency=latency,
            lengths=law,
            requests_per_worker=LIVES * design.requests_per_attention_worker,
            seed=seed,
            replications=runs,
        )
    )
    step = result.step_time
    mean = step.mean.value
    held = mean if statistic == "mean" else getattr(step, statistic)
    return Judgement(
        design=design,
        tokens_per_second=design.slots * latency.tokens_per_step / mean,
        noise=step.mean.relative_half_width,
        time_per_output_token=held / latency.tokens_per_step,
        cache=result.kv_tokens_per_worker.p99.value
        / cache_tokens(source, design.attention_devices),
    )


def cache_tokens(source: LatencySource, attention_devices: int) -> float:
    """Return the KV tokens that fit on an attention worker of so many devices."""
    room = source.cache(attention_devices)
    if room is None:
        raise ValueError("every question of these benchmarks has a memory limit")
    return room.capacity / sum(kind.bytes_per_token for kind in room.kinds)
