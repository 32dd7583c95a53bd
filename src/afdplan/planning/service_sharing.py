"""Which numbers of prefill workers and decode devices go together best?

With a budget of N devices and P workers of g devices, decoding has N - P g. The rate of the service

    rate(P) = largest rate that P workers and the slots of the best decode side carry

is at most what P workers prefill, which rises with P, and what is decoded beside them, which
falls: branch and bound over P, from the crossing of both, finds its top. Groups of un-split ranks
give what one gives, times their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import ceil, inf
from typing import Any, TypeVar

from afdplan.planning.colocated import Colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.first_token import EXACT, PrefillPool
from afdplan.planning.held import Deployment
from afdplan.planning.limits import TIE, Limits

__all__ = [
    "MORE_DECODE",
    "Sharing",
    "cheapest_ranks",
    "cheapest_split",
    "least_cost",
    "most_ranks",
    "most_split",
    "multiplied",
]

Either = TypeVar("Either", PlannedDesign, Colocated)
MORE_DECODE = (1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0)
"""Factors on the rate that decoding is planned for, where bursts fill its slots; the second is the
step of a finer search."""
GUESSES = 8
"""Numbers of workers tried next to the crossing before intervals are halved."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sharing:
    """Prefill workers in front of a decode side.

    Attributes
    ----------
    pool, workers
        Kind and number of prefill workers.
    decode
        The decode side.
    rate
        Requests per second that are carried (at least).
    decode_factor
        On the wanted rate that decoding is planned for.
    """

    pool: PrefillPool
    workers: int
    decode: Deployment
    rate: float
    decode_factor: float = 1.0

    @property
    def prefill_devices(self) -> int:
        """Devices of all prefill workers."""
        return self.workers * self.pool.model.devices

    @property
    def devices(self) -> int:
        """Devices of both sides."""
        return self.prefill_devices + self.decode.devices

    def __str__(self) -> str:
        each = self.pool.model.devices
        noun = "prefill worker" if self.workers == 1 else "prefill workers"
        size = "1 device" if each == 1 else f"{each} devices"
        return f"{self.workers} {noun} of {size} and {self.decode}"


def multiplied(plan: Either, copies: int) -> Either:
    """Return a deployment with so many independent bundles or groups; each gives the same."""
    changes: dict[str, Any] = {"replicas": copies}
    factor = copies / (plan.replicas if isinstance(plan, Colocated) else plan.design.bundles)
    if not isinstance(plan, Colocated):
        changes = {"design": replace(plan.design, bundles=copies)}
    for name in ("tokens_per_second", "requests_per_second", "cost"):
        changes[name] = getattr(plan, name) * factor
    return replace(plan, **changes)


def most_split(
    pools: Sequence[PrefillPool],
    devices: int,
    decode: Callable[[int], PlannedDesign | None],
) -> Sharing | None:
    """Return the sharing of a budget with the most requests per second; None if there is none.

    Parameters
    ----------
    pools
        Kinds of prefill workers.
    devices
        N, the budget.
    decode
        The best design on so many devices.
    """
    found = [_most_split(pool, devices, decode) for pool in pools]
    return _best(one for one in found if one is not None)


def _best(options: Iterable[Sharing]) -> Sharing | None:
    """Return what carries most; of equals, what takes fewest devices."""
    return max(options, key=lambda one: (one.rate, -one.devices), default=None)


def _most_split(
    pool: PrefillPool, devices: int, decode: Callable[[int], PlannedDesign | None]
) -> Sharing | None:
    each, most = pool.model.devices, (devices - 2) // pool.model.devices
    if most < 1:
        return None
    best: Sharing | None = None
    # Intervals of P with the most that each can carry: what its largest number prefills, and what
    # decodes beside the largest one below it that was tried.
    open_intervals = [(-pool.most_rate(most), 1, most, inf)]
    crossing, tried = most // 2, 0
    while open_intervals:
        bound, low, high, decoded = heappop(open_intervals)
        if best is not None and -bound <= best.rate * (1 + EXACT):
            break
        number = min(max(crossing, low), high) if tried < GUESSES else (low + high) // 2
        tried += 1
        found = decode(devices - number * each)
        if found is not None:
            rate, able = pool.most_rate(number, found), pool.most_rate(number)
            one = Sharing(pool=pool, workers=number, decode=found, rate=rate)
            best = _best(other for other in (best, one) if other is not None and other.rate > 0)
            # As if both sides grew with their devices.
            per_device = found.requests_per_second / (devices - number * each)
            crossing = round(per_device * devices / (able / number + per_device * each))
        for first, last, most_decoded in (
            (low, number - 1, decoded),
            (number + 1, high, 0.0 if found is None else found.requests_per_second),
        ):
            if first <= last and most_decoded > 0:
                most_carried = min(pool.most_rate(last), most_decoded)
                heappush(open_intervals, (-most_carried, first, last, most_decoded))
    return best


def most_ranks(
    pools: Sequence[PrefillPool], devices: int, widths: Sequence[Colocated]
) -> Sharing | None:
    """Return the sharing of a budget between prefill and un-split ranks; None without any.

    Parameters
    ----------
    pools
        Kinds of prefill workers.
    devices
        The budget.
    widths
        The best un-split deployment of every width.
    """
    return _best(
        found
        for pool in pools
        for width in widths
        if (found := _most_ranks(pool, devices, multiplied(width, 1))) is not None
    )


def _most_ranks(pool: PrefillPool, devices: int, group: Colocated) -> Sharing | None:
    each, size = pool.model.devices, group.devices
    known: dict[int, Sharing] = {}

    def rate(copies: int) -> float:
        workers = (devices - copies * size) // each
        if copies < 1 or workers < 1:
            return 0.0
        if copies not in known:
            side = multiplied(group, copies)
            carried = pool.most_rate(workers, side)
            known[copies] = Sharing(pool=pool, workers=workers, decode=side, rate=carried)
        return known[copies].rate

    per_device = pool.rate_of_worker / each
    at = max(1, round(devices * per_device / (group.requests_per_second + per_device * size)))
    while at > 1 and rate(at) == 0:
        at -= 1
    while (better := max((at - 1, at + 1), key=rate)) and rate(better) > rate(at):
        at = better
    return known.get(at) if rate(at) > 0 else None


def cheapest_split(
    pools: Sequence[PrefillPool],
    limits: Limits,
    decode: Callable[[Limits], PlannedDesign | None],
    device_cost: float,
) -> Sharing | None:
    """Return the cheapest sharing that carries the wanted rate; None if there is none.

    Decode sides are the cheapest for the rate and for ever more, up to the last of `MORE_DECODE`:
    free slots may spare prefill workers in bursts. That ends once a decode side, with the fewest
    workers that compute the rate at all, costs as much as the cheapest found.

    Parameters
    ----------
    pools
        Kinds of prefill workers.
    limits
        With a rate.
    decode
        The best design under limits.
    device_cost
        Of a prefill device.
    """
    rate, wanted = limits.requests_per_second or 0.0, limits.wanted_rate or 0.0
    best, least, factor = None, least_cost(pools, wanted, device_cost), 1.0
    while factor <= MORE_DECODE[-1]:
        side = decode(replace(limits, requests_per_second=rate * factor))
        if side is None or (best is not None and side.cost + least >= _cost(best, device_cost)):
            break
        best = _cheapest(_behind(pools, limits, side, best, factor, device_cost), device_cost)
        factor = max(factor * MORE_DECODE[1], side.requests_per_second / wanted * (1 + TIE))
    return best


def _behind(
    pools: Sequence[PrefillPool],
    limits: Limits,
    side: Deployment,
    best: Sharing | None,
    factor: float,
    device_cost: float,
) -> Iterator[Sharing]:
    """Yield the best so far and the fewest workers of every kind in front of a decode side."""
    if best is not None:
        yield best
    rate, wanted = limits.requests_per_second or 0.0, limits.wanted_rate or 0.0
    for pool in pools:
        least = least_cost([pool], wanted, device_cost)
        if best is not None and side.cost + least >= _cost(best, device_cost):
            continue
        number = pool.fewest_workers(wanted, side)
        if number is None:
            continue
        one = Sharing(pool=pool, workers=number, decode=side, rate=rate, decode_factor=factor)
        if limits.devices is None or one.devices <= limits.devices:
            yield one


def _cost(one: Sharing, device_cost: float) -> float:
    return one.decode.cost + device_cost * one.prefill_devices


def least_cost(pools: Sequence[PrefillPool], wanted: float, device_cost: float) -> float:
    """Return what the workers cost at least that compute a rate in the long run."""
    return min(
        device_cost * pool.model.devices * max(ceil(wanted / pool.rate_of_worker * (1 - TIE)), 1)
        for pool in pools
    )


def _cheapest(options: Iterable[Sharing], device_cost: float) -> Sharing | None:
    return min(options, key=lambda one: _cost(one, device_cost), default=None)


def cheapest_ranks(
    pools: Sequence[PrefillPool],
    limits: Limits,
    widths: Sequence[Colocated],
    device_cost: float,
) -> Sharing | None:
    """Return the cheapest prefill workers and un-split ranks that carry the wanted rate."""
    wanted = limits.wanted_rate or 0.0
    best, least = None, least_cost(pools, wanted, device_cost)
    for width in widths:
        one = multiplied(width, 1)
        fewest = copies = max(1, ceil(wanted / one.requests_per_second * (1 - TIE)))
        while copies <= MORE_DECODE[-1] * fewest:
            side = multiplied(width, copies)
            if best is not None and side.cost + least >= _cost(best, device_cost):
                break
            more = side.requests_per_second / wanted * (1 - TIE)
            factor = 1.0 if copies == fewest else more
            best = _cheapest(_behind(pools, limits, side, best, factor, device_cost), device_cost)
            copies = max(copies + 1, ceil(copies * MORE_DECODE[1]))
    return best
