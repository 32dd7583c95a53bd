"""Which design has the shortest step, whatever its throughput?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np

from afdplan.planning.design import Combination, PlannedDesign
from afdplan.planning.limits import Limits, limited
from afdplan.planning.search import FIRST_DEVICES, DesignSearch

__all__ = ["fastest_design"]


def _fast(search: DesignSearch, limits: Limits) -> Iterator[Combination]:
    """Yield the smallest batch sizes, and larger ones at which reading is faster than there."""
    found = sorted(search.combinations(limits))
    for _, alike in groupby(found, key=lambda one: one[:2]):
        smallest, *others = alike
        yield smallest
        for larger in others:
            if search.models.least_reading(smallest, (larger.batch_size,))[0] < 1:
                yield larger


def fastest_design(search: DesignSearch, limits: Limits) -> PlannedDesign | None:
    """Return the design with the least limited statistic, whatever its throughput."""
    free = replace(
        limits,
        devices=limits.devices or 4 * FIRST_DEVICES,
        time_per_output_token=None,
        requests_per_second=None,
    )
    best: PlannedDesign | None = None
    for combination in _fast(search, free):
        devices = combination.attention_devices
        lattice = search.lattice(free, search.space, devices, free.devices or 1)
        # For every F the step grows with A: only the smallest legal A can be fastest.
        _, first = np.unique(lattice.ffn, return_index=True)
        if not first.size:
            continue
        if search.source.shares_ffn_latency:
            # More FFN workers are faster: a smaller F counts only if it allows a smaller A.
            later = np.minimum.accumulate(lattice.attention[first][::-1])[::-1]
            first = first[np.append(lattice.attention[first][:-1] < later[1:], True)]
        times = search.models.evaluate(
            combination, lattice.attention[first], lattice.ffn[first], limits.probabilities
        )
        at = int(first[int(np.argmin(limited(times)))])
        bundles = int(lattice.most_bundles[at])
        found = search.describe(search.pairs.design_of(combination, lattice, at, bundles), free)
        statistic = limits.statistic
        if best is None or found.token_time(statistic) < best.token_time(statistic):
            best = found
    return best
