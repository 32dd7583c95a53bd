"""Which designs are candidates?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from afdplan.arrays import IntArray
from afdplan.deploy.target import ANY, Target
from afdplan.errors import InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.parameters import Placement
from afdplan.planning.limits import Limits
from afdplan.planning.source import LatencySource

__all__ = ["PairLattice", "SearchSpace", "graph_batch_sizes"]


def graph_batch_sizes(largest: int) -> tuple[int, ...]:
    """Return batch sizes up to `largest`, as dense as serving systems capture graphs for.

    1, 2, 4, then every 8 to 256, every 16 to 512, every 64 to 2048, every 256 beyond; and
    `largest` itself.

    Examples
    --------
    >>> graph_batch_sizes(30)
    (1, 2, 4, 8, 16, 24, 30)
    """
    steps = ((8, 256, 8), (272, 512, 16), (576, 2048, 64), (2304, max(largest, 2304), 256))
    sizes = [1, 2, 4, *(size for low, high, step in steps for size in range(low, high + 1, step))]
    return (*(size for size in sizes if size < largest), largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What the search may choose from.

    Attributes
    ----------
    batch_sizes
        B, ascending [requests].
    fills_gaps
        Whether every batch size between two of the list is a candidate too. None fills those
        of the default list and keeps to a list that is given.
    microbatches
        m; those that the target cannot run are left out.
    target
        Rule on the pair (A, F) and on m.
    max_attention_workers
        Most A of one bundle; None leaves it to the budget.
    ffn_workers
        F of one bundle; None tries all that the source offers.
    placement
        Which free slot an admitted request gets; the un-split baseline keeps blind placement.
    max_bundle_devices
        Most devices of one bundle; None leaves it to the budget.
    """

    batch_sizes: tuple[int, ...] = field(
        default_factory=lambda: graph_batch_sizes(of_plan.LARGEST_BATCH_SIZE.default)
    )
    fills_gaps: bool | None = None
    microbatches: tuple[int, ...] = ANY.microbatches
    target: Target = ANY
    max_attention_workers: int | None = ask.MAX_ATTENTION_WORKERS.default
    ffn_workers: tuple[int, ...] | None = None
    placement: Placement = ask.PLACEMENT.default
    max_bundle_devices: int | None = of_plan.MAX_BUNDLE_DEVICES.default

    def __post_init__(self) -> None:
        for name, one in (("batch_sizes", ask.BATCH_SIZE), ("microbatches", ask.MICROBATCHES)):
            values = getattr(self, name)
            if not values:
                raise InvalidInputError(f"{name} must hold at least one number, got none")
            object.__setattr__(self, name, tuple(sorted({one.check(v, name) for v in values})))
        if self.fills_gaps is None:
            filled = self.batch_sizes == graph_batch_sizes(of_plan.LARGEST_BATCH_SIZE.default)
            object.__setattr__(self, "fills_gaps", filled)
        kept = tuple(m for m in self.microbatches if m in self.target.microbatches)
        if self.target.name != "any":
            if not kept:
                raise InvalidInputError(
                    f"{self.target.name} runs {' or '.join(map(str, self.target.microbatches))} "
                    f"microbatches, got {', '.join(map(str, self.microbatches))}"
                )
            object.__setattr__(self, "microbatches", kept)
        object.__setattr__(self, "placement", ask.PLACEMENT.check(self.placement))
        if self.max_attention_workers is not None:
            ask.MAX_ATTENTION_WORKERS.check(self.max_attention_workers)
        if self.max_bundle_devices is not None:
            of_plan.MAX_BUNDLE_DEVICES.check(self.max_bundle_devices)
        for value in self.ffn_workers or ():
            ask.FFN_WORKERS.check(value)

    def next_batch_size(self, batch_size: int) -> int | None:
        """Return the next larger candidate; None at the end.

        Examples
        --------
        >>> SearchSpace().next_batch_size(26), SearchSpace(batch_sizes=(8, 16)).next_batch_size(8)
        (27, 16)
        """
        if self.fills_gaps:
            return batch_size + 1 if batch_size < self.batch_sizes[-1] else None
        return next((size for size in self.batch_sizes if size > batch_size), None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairLattice:
    """All legal pairs for one choice of devices per attention worker, as arrays of shape (n,).

    Attributes
    ----------
    attention, ffn
        A and F of one bundle.
    ffn_numbers
        The different F, ascending.
    ratios
        Least and largest A / F.
    attention_devices, ffn_devices
        Devices of a worker of each side.
    bundle_devices
        Of one bundle.
    unit
        Bundles come in multiples of this number, so that nodes are filled.
    most_bundles
        That the budget allows, a multiple of `unit`; 0 without a budget.
    """

    attention: IntArray
    ffn: IntArray
    ffn_numbers: IntArray
    ratios: tuple[float, float]
    attention_devices: int
    ffn_devices: int
    bundle_devices: IntArray
    unit: IntArray
    most_bundles: IntArray

    @classmethod
    def build(
        cls,
        source: LatencySource,
        space: SearchSpace,
        limits: Limits,
        attention_devices: int,
        most_devices: int,
    ) -> PairLattice:
        """Return all pairs whose bundle (or group of bundles) has at most `most_devices`."""
        ffn_devices = source.ffn_devices
        most_ffn = (most_devices - attention_devices) // ffn_devices
        numbers = source.ffn_workers(most_ffn) if most_ffn > 0 else ()
        if space.ffn_workers is not None:
            numbers = tuple(f for f in numbers if f in space.ffn_workers)
        attention, ffn = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number in numbers:
            most = (most_devices - number * ffn_devices) // attention_devices
            if space.max_attention_workers is not None:
                most = min(most, space.max_attention_workers)
            a = np.arange(1, most + 1, dtype=np.int64)
            a = a[space.target.allows(a, number, attention_devices, ffn_devices)]
            a = a[a * attention_devices >= source.least_device_ratio * number * ffn_devices]
            attention.append(a)
            ffn.append(np.full(a.size, number))
        a, f = np.concatenate(attention), np.concatenate(ffn)
        size = a * attention_devices + f * ffn_devices
        unit = limits.bundle_unit(a * attention_devices, f * ffn_devices)
        fits = size * unit <= most_devices
        if space.max_bundle_devices is not None:
            fits &= size <= space.max_bundle_devices
        if source.shares_ffn_latency and space.ffn_workers is None:
            # With no longer times, g bundles of (A/g, F/g) beat one of (A, F): a smaller barrier.
            fits &= np.gcd(a, f) == 1
        a, f, size, unit = a[fits], f[fits], size[fits], unit[fits]
        most_bundles = np.zeros_like(a)
        if limits.devices is not None:
            most_bundles = limits.devices // (size * unit) * unit
        return cls(
            attention=a,
            ffn=f,
            ffn_numbers=np.unique(f),
            ratios=(float((a / f).min()), float((a / f).max())) if a.size else (1.0, 1.0),
            attention_devices=attention_devices,
            ffn_devices=ffn_devices,
            bundle_devices=size,
            unit=unit,
            most_bundles=most_bundles,
        )
