"""Do the requests of a bundle fit the memory of its attention workers, and how many would?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afdplan.calibration.memory import WorkerMemory
from afdplan.errors import InfeasibleError
from afdplan.lengths.law import LengthLaw
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums

if TYPE_CHECKING:
    from afdplan.calibration.latency_choice import LatencyChoice

__all__ = ["MemoryLimit", "memory_limit", "require_fit", "require_memory"]

OVERFLOW = 1e-3
"""Most chance, per attention worker and step, that the cache does not fit: the plan's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """What the memory of an attention worker holds.

    Attributes
    ----------
    most_requests
        Most request slots of a worker, m B, that overflow with at most `overflow_probability`.
    overflow_probability
        That was allowed, per worker and step.
    mean_bytes
        Mean KV cache of the asked requests on one device [bytes].
    capacity_bytes
        Room for KV cache on one device [bytes].
    """

    most_requests: int
    overflow_probability: float
    mean_bytes: float
    capacity_bytes: float

    def largest_batch_size(self, microbatches: int) -> int:
        """Return the largest B that fits with so many microbatches; 0 if none does."""
        return self.most_requests // microbatches


def memory_limit(
    law: LengthLaw, memory: WorkerMemory, requests: int, *, overflow: float = OVERFLOW
) -> MemoryLimit | None:
    """Return what fits an attention worker; None if weights leave no room at all.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    memory
        Of the device and model.
    requests
        Slots that are asked for, m B >= 1.
    overflow
        Most chance that they do not fit, per worker and step.

    Examples
    --------
    >>> from afdplan.calibration.derived import derived_model
    >>> from afdplan.lengths.law import IndependentLengths
    >>> law = IndependentLengths(prompt="geometric:2000", decode="geometric:500")
    >>> limit = memory_limit(law, derived_model("deepseek-v3", "h200").memory, 40_000)
    >>> limit.mean_bytes > 1e12 > limit.capacity_bytes
    True
    """
    space = CacheSpace.of(memory)
    if space is None:
        return None
    held = CacheMemory(CacheSums(law, space.kinds), space)
    return MemoryLimit(
        most_requests=held.most_requests(overflow),
        overflow_probability=overflow,
        mean_bytes=held.mean_fraction(requests) * space.capacity,
        capacity_bytes=space.capacity,
    )


def require_memory(
    law: LengthLaw, memory: WorkerMemory | None, batch_size: int, microbatches: int
) -> MemoryLimit | None:
    """Return the limit, or refuse a bundle whose requests do not fit the named device.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    memory
        Of the device and model; None if no device is named: then nothing is known.
    batch_size, microbatches
        B and m of an attention worker.

    Raises
    ------
    InfeasibleError
        If the requests overflow the memory with more than a chance of 0.001 per step; names the
        largest batch size that fits.
    """
    if memory is None:
        return None
    requests = microbatches * batch_size
    limit = memory_limit(law, memory, requests)
    if limit is None:
        raise InfeasibleError(
            "no memory is left for the KV cache after weights and reserve: give more "
            "attention_devices, another precision or hardware"
        )
    most = limit.largest_batch_size(microbatches)
    if batch_size > most:
        asked = "1 request takes" if requests == 1 else f"{requests:,} requests take"
        mend = f"the largest batch size that fits is {most:,}" if most else "none fits"
        raise InfeasibleError(
            f"batch_size = {batch_size:,} with {microbatches} microbatches does not fit: {asked} "
            f"{limit.mean_bytes / 1e9:,.1f} GB of KV cache per attention device on average, "
            f"{limit.capacity_bytes / 1e9:,.1f} GB are free, and more than one step in 1,000 would "
            f"need more than that; {mend}"
        )
    return limit


def require_fit(
    choice: LatencyChoice, law: LengthLaw, batch_size: int, ffn_workers: int, microbatches: int
) -> int | None:
    """Return the most slots that the memory of a named device holds; None without a device.

    Raises
    ------
    InfeasibleError
        Where the requests do not fit, naming the largest batch size that does.
    """
    if not choice.is_derived:
        return None
    placement = choice.placement(batch_size=batch_size, ffn_workers=ffn_workers)
    limit = require_memory(law, placement.memory(), batch_size, microbatches)
    return None if limit is None else limit.most_requests
