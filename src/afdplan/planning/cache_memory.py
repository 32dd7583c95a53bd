"""How likely is it that the KV cache of a worker overflows, and how many requests fit?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from afdplan.calibration.memory import CacheKind, WorkerMemory
from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad, TokenLoad
from afdplan.model.checks import check_number
from afdplan.theory.attention_time import spread
from afdplan.theory.worker_load import WorkerLoad, convolve_slots

__all__ = ["CacheMemory", "CacheSpace", "CacheSums"]

MOST_REQUESTS = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpace:
    """Room for KV cache on one device of an attention worker.

    Attributes
    ----------
    capacity
        In bytes, or in tokens of one full-context request, > 0.
    kinds
        What one cached token takes, in the same unit.

    Examples
    --------
    >>> CacheSpace.tokens(1e6).capacity
    1000000.0
    """

    capacity: float
    kinds: tuple[CacheKind, ...]

    @classmethod
    def tokens(cls, capacity: float) -> CacheSpace:
        """Return the space for `capacity` tokens per attention worker (> 0), all layers alike."""
        number = check_number("kv_tokens", capacity, strict=True)
        return cls(capacity=number, kinds=(CacheKind(1.0, None),))

    def scaled(self, factor: float) -> CacheSpace:
        """Return `factor` times the room."""
        return replace(self, capacity=self.capacity * factor)

    def sharing(self, fraction: float) -> CacheSpace:
        """Return the space where a cached token takes that fraction: shared blocks count once."""
        kinds = tuple(CacheKind(k.bytes_per_token * fraction, k.window) for k in self.kinds)
        return replace(self, kinds=kinds)

    @classmethod
    def of(cls, memory: WorkerMemory) -> CacheSpace | None:
        """Return what weights and reserve leave of a device; None if nothing is left."""
        if memory.cache_capacity_bytes <= 0:
            return None
        return cls(capacity=memory.cache_capacity_bytes, kinds=memory.cache)


class CacheSums:
    """The law of the KV memory of S independent stationary slots, computed once per S.

    A slot with load y takes ``sum over kinds of share * min(y, window)``; the memory of S slots
    is the S-fold convolution of that law, so an overflow probability is exact, tails included.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    kinds
        What one cached token takes; only their proportions matter here.
    """

    def __init__(self, law: LengthLaw, kinds: tuple[CacheKind, ...]) -> None:
        scale = sum(kind.bytes_per_token for kind in kinds)
        shares = tuple(CacheKind(kind.bytes_per_token / scale, kind.window) for kind in kinds)
        self.slot = slot = _cache_law(law, shares)
        mean, std = slot.moments.mean, slot.moments.std
        centred = (slot.support - mean) / max(std, 1e-9 * mean, 1e-300)
        self.skewness = float(slot.probabilities @ centred**3)
        self._sums: dict[int, WorkerLoad] = {}

    def exceedance(self, requests: int, capacity: float) -> float:
        """Return the chance that `requests` slots need more than `capacity` [tokens]."""
        if requests * self.slot.highest <= capacity:
            return 0.0
        if requests * self.slot.lowest > capacity:
            return 1.0
        if requests not in self._sums:
            self._sums[requests] = convolve_slots(self.slot, requests)
        # A sum equal to the capacity fits, whatever the rounding of the grid.
        return min(self._sums[requests].exceedance(capacity * (1 + 1e-9)), 1.0)


class CacheMemory:
    """The KV memory of a worker as a function of its slots.

    Parameters
    ----------
    sums
        Law of the memory of S slots, of the same kinds of cache.
    space
        Room on one device.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> law = IndependentLengths(prompt="100", decode="fixed:1")
    >>> space = CacheSpace.tokens(1000.0)
    >>> memory = CacheMemory(CacheSums(law, space.kinds), space)
    >>> memory.overflow_probability(10), memory.overflow_probability(11)
    (0.0, 1.0)
    >>> memory.most_requests(0.001)
    10
    """

    def __init__(self, sums: CacheSums, space: CacheSpace) -> None:
        self.capacity_tokens = space.capacity / sum(kind.bytes_per_token for kind in space.kinds)
        self._sums = sums

    def mean_fraction(self, requests: int) -> float:
        """Return the mean share of the space that `requests` slots use."""
        return requests * self._sums.slot.moments.mean / self.capacity_tokens

    def overflow_probability(self, requests: int, share: float = 1.0) -> float:
        """Return the chance that `requests` slots need more than a share of the space."""
        return self._sums.exceedance(requests, share * self.capacity_tokens)

    def most_requests(
        self, probability: float, share: float = 1.0, most: int = MOST_REQUESTS
    ) -> int:
        """Return the most slots S whose overflow probability is at most `probability`; 0 if none.

        Infinite memory is never asked for: at most `most` slots are tried, 131,072 unless given.
        The memory of more slots is stochastically larger, so bisection is exact.
        """

        def fits(slots: int) -> bool:
            return self.overflow_probability(slots, share) <= probability

        # About where sums that were nearly normal would end, then steps that double to both sides.
        guess = self._likely_requests(probability, share * self.capacity_tokens)
        low, high, step = 0, most + 1, 1
        at = min(max(guess, 1), most)
        while low < at < high:
            if fits(at):
                low, at = at, at + step
            else:
                high, at = at, at - step
            step *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _likely_requests(self, probability: float, capacity: float) -> int:
        """Return the most slots by the Cornish-Fisher expansion of their sum, to its skewness."""
        moments = self._sums.slot.moments
        deviations = -NormalDist().inv_cdf(min(max(probability, 1e-9), 1 - 1e-9))
        skewed = (deviations**2 - 1) / 6 * self._sums.skewness * moments.std
        half = deviations * moments.std / 2
        room = half**2 + moments.mean * max(capacity - skewed, 0.0)
        root = (math.sqrt(room) - half) / max(moments.mean, 1e-300)
        return int(min(root, MOST_REQUESTS) ** 2)


def _cache_law(law: LengthLaw, kinds: tuple[CacheKind, ...]) -> SlotLoad:
    """Return the law of one slot's memory on an even grid, its mean and variance exact."""
    windows = {kind.window for kind in kinds if kind.bytes_per_token > 0}
    scale = sum(kind.bytes_per_token for kind in kinds)
    if len(windows) == 1:
        return law.slot_load(windows.pop()).stretched(scale)
    tokens = law.slot_load()
    values = np.zeros(tokens.probabilities.size)
    for kind in kinds:
        cap = math.inf if kind.window is None else float(kind.window)
        values += kind.bytes_per_token * np.minimum(tokens.support, cap)
    held = tokens.probabilities > 0
    values, chances = values[held], tokens.probabilities[held]
    mean = float(chances @ values)
    moments = TokenLoad(mean=mean, variance=float(chances @ (values - mean) ** 2))
    if values.size == 1 or values[-1] <= values[0]:
        return SlotLoad(
            lowest=mean, spacing=max(mean, 1.0), probabilities=np.ones(1), moments=moments
        )
    # As fine as one token of the smallest slope, so that binning adds nothing that matters.
    spacing = min(kind.bytes_per_token for kind in kinds if kind.bytes_per_token > 0)
    grid = spread(values, chances, spacing)
    return SlotLoad(
        lowest=grid.lowest, spacing=grid.spacing, probabilities=grid.probabilities, moments=moments
    )
