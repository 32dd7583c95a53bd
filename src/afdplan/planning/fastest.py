"""Which design has the shortest step, whatever its throughput?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.planning.design import Combination, PlannedDesign
from afdplan.planning.limits import Limits, limited
from afdplan.planning.search import FIRST_DEVICES, DesignSearch

__all__ = ["fastest_design"]


def fastest_design(search: DesignSearch, limits: Limits) -> PlannedDesign | None:
    """Return the design with the least limited statistic, whatever its throughput."""
    free = replace(
        limits,
        devices=limits.devices or 4 * FIRST_DEVICES,
        time_per_output_token=None,
        requests_per_second=None,
    )
    smallest: dict[tuple[int, int], int] = {}
    for devices, m, b in search.combinations(free):
        smallest[devices, m] = min(b, smallest.get((devices, m), b))
    best: PlannedDesign | None = None
    for (devices, m), b in smallest.items():
        combination = Combination(devices, m, b)
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
