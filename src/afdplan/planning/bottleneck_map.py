"""Which resource binds at which number of attention workers and batch size?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.solve import largest_resource

__all__ = ["BottleneckMap", "MapRow", "bottleneck_maps"]

Resources = Callable[[float], dict[Bottleneck, float]]
COLUMNS = 14
"""Columns that lead from 1 to beyond the largest best A; those of the best come on top."""
NEAR = 1.15
"""A column nearer than this factor to one of the best tells nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One batch size of the map.

    Attributes
    ----------
    batch_size
        B.
    best
        A that is framed; None where there is none.
    resource_times
        Time of each resource at every column, per layer and microbatch [time].
    """

    batch_size: int
    best: int | None
    resource_times: tuple[dict[Bottleneck, float], ...]

    @property
    def binding(self) -> tuple[Bottleneck, ...]:
        """The resource that needs longest at every column."""
        return tuple(largest_resource(times) for times in self.resource_times)


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckMap:
    """The map of one number of microbatches.

    Attributes
    ----------
    microbatches
        m.
    workers
        The columns: A, ascending; every framed A is one of them.
    rows
        By batch size.
    """

    microbatches: int
    workers: tuple[int, ...]
    rows: tuple[MapRow, ...]


def bottleneck_maps(
    resources: Mapping[tuple[int, int], Resources], framed: Mapping[tuple[int, int], int | None]
) -> tuple[BottleneckMap, ...]:
    """Return one map per number of microbatches, in which every framed A has its column.

    Parameters
    ----------
    resources
        By (B, m): what tells the time of each resource at any A.
    framed
        A to frame by (B, m), None where no A will do.

    Examples
    --------
    >>> def times(workers):
    ...     return {"attention": 2.0 + workers, "ffn": 4.0}
    >>> (one,) = bottleneck_maps({(8, 2): times}, {(8, 2): 2})
    >>> one.workers[:4], one.rows[0].binding[:4]
    ((1, 2, 3, 4), ('ffn', 'attention', 'attention', 'attention'))
    """
    maps = []
    for microbatches in sorted({count for _, count in resources}):
        mine = sorted(key for key in resources if key[1] == microbatches)
        best = [framed[key] for key in mine]
        columns = _columns([count for count in best if count is not None])
        rows = tuple(
            MapRow(
                batch_size=key[0],
                best=count,
                resource_times=tuple(resources[key](a) for a in columns),
            )
            for key, count in zip(mine, best, strict=True)
        )
        maps.append(BottleneckMap(microbatches=microbatches, workers=columns, rows=rows))
    return tuple(maps)


def _columns(best: Sequence[int]) -> tuple[int, ...]:
    """Return all of `best`, and between them numbers evenly on a logarithm.

    Examples
    --------
    >>> _columns([35])
    (1, 2, 3, 4, 5, 7, 10, 14, 19, 26, 35, 50, 70)
    """
    last = max([16, *(2 * count for count in best)])
    coarse = np.rint(np.geomspace(1, last, COLUMNS)).astype(int).tolist()
    far = [a for a in coarse if all(not 1 / NEAR < a / count < NEAR for count in best)]
    return tuple(sorted({*far, *best}))
