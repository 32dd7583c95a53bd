"""How much shorter is a step of several kinds of layers than the rounds of each kind by itself?

A step runs its kinds of attention layers one block after the other. Let ``R_k`` be a worker's round
in block k of ``L_k`` layers and K the floor of the round, ``m max(f, c_stage)``. The schedule is a
longest path; in each block it stays on a worker or on the FFN (or link) and collects ``L_k R_k`` or
``L_k K``. A change from worker to worker where rounds last t costs

    s(t) = (1 - 1/m) t - (f + c_out + c_back)        (nothing where this is negative)

and one between a worker and the FFN half of s(K). So a step takes the largest, over choices for
each block, of what they collect less their changes. The sum of rounds that know only their own
kind, ``sum_k L_k max(R_k, K)`` with the slowest worker of each, changes for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["kinds_gain"]

FloatArray = npt.NDArray[np.float64]


def kinds_gain(
    slowest: Sequence[FloatArray],
    one_worker: Sequence[FloatArray],
    layers: Sequence[int],
    *,
    floor: FloatArray,
    trip: FloatArray,
    microbatches: int,
    is_cyclic: bool = True,
) -> FloatArray:
    """Return how much shorter a step is than the sum of its kinds' rounds, >= 0 [time].

    Parameters
    ----------
    slowest
        Round of each kind's slowest worker, kinds in their order, shape (states, designs) [time].
    one_worker
        R_k of the worker that is slowest in the kind with the widest window, same shapes [time].
    layers
        L_k.
    floor, trip
        K and f + c_out + c_back, shape (designs,) [time].
    microbatches
        m.
    is_cyclic
        Whether the last block of a step leads on to the first of the next; not if the pipeline
        drains between steps.

    Notes
    -----
    Looked at are one worker and the floor, block by block, and the slowest worker of every block;
    not mixtures of the two. Cost: O(states * designs * kinds).

    Examples
    --------
    A round of attention takes 12 in one layer and 4 in the other, the FFN 10 in both, and a change
    0.75 * 10 - 4.5 = 3: a visit to the worker for one block pays 2, so the step lasts 20, not 22.

    >>> slow, fast = np.full((1, 1), 12.0), np.full((1, 1), 4.0)
    >>> kinds_gain([slow, fast], [slow, fast], [1, 1], floor=np.array([10.0]),
    ...            trip=np.array([4.5]), microbatches=4)
    array([[2.]])
    """
    kept = 1 - 1 / microbatches
    busiest = [np.maximum(r, floor) for r in slowest]
    alone = np.sum([count * (r - floor) for r, count in zip(busiest, layers, strict=True)], axis=0)
    following = busiest[1:] + busiest[:1] if is_cyclic else busiest[1:]
    changes = np.sum(
        [
            np.maximum(kept * np.minimum(here, there) - trip, 0.0)
            for here, there in zip(busiest, following, strict=False)
        ],
        axis=0,
    )
    # What staying on the worker brings over the floor, block by block.
    excess = [count * (r - floor) for r, count in zip(one_worker, layers, strict=True)]
    half = np.maximum(kept * floor - trip, 0.0) / 2
    best: FloatArray = alone - changes
    for starts_on_worker in (False, True):
        on_floor = np.full_like(best, -np.inf if starts_on_worker else 0.0)
        on_worker = excess[0] if starts_on_worker else np.full_like(best, -np.inf)
        for _, after in pairwise(excess):
            on_floor, on_worker = (
                np.maximum(on_floor, on_worker - half),
                np.maximum(on_worker, on_floor - half) + after,
            )
        home, other = (on_worker, on_floor) if starts_on_worker else (on_floor, on_worker)
        best = np.maximum(best, np.maximum(home, other - (half if is_cyclic else 0.0)))
    gain: FloatArray = np.maximum(alone - best, 0.0)
    return gain
