r"""How much KV memory remains if blocks that requests of a worker share are held once?

N slots, B on each of W attention workers, are always busy: request i enters at ``t_i = i E[D] / N``
and holds its slot for D_i steps. Requests go to slots blindly, so of n_b(t) requests that hold a
block b none is on a given worker with the chance ``q(n)`` that all have other slots, and

    E[unique tokens of all workers] = sum_b  tokens_b  W (1 - q(n_b(t)))  +  outputs
    q(n) = product over j < n of  (N - B - j) / (N - j)

in the mean over time, against ``sum_b tokens_b n_b(t) + outputs`` of requests that share nothing.
Only requests at the same time share: what a prefix cache keeps of earlier ones gives way to them.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.checks import check_count
from afdplan.model.prompt_blocks import PromptBlocks

__all__ = ["unique_fraction"]

WARM_UP = 0.5
"""Most of the requests that only fill the slots."""


def unique_fraction(
    blocks: PromptBlocks, prompts: IntArray, decodes: IntArray, slots: int, workers: int
) -> float:
    """Return the KV tokens of busy slots with shared blocks counted once, over those without.

    Parameters
    ----------
    blocks
        Of every prompt, in the order of arrival.
    prompts, decodes
        P and D of each request [tokens].
    slots
        N, slots of all workers together, >= 1.
    workers
        W, workers that each hold a block once, with N/W slots each, 1 to N.

    Examples
    --------
    >>> blocks = PromptBlocks.of([[1, k + 2] for k in range(400)], size=100)
    >>> prompts, decodes = np.full(400, 200), np.full(400, 1)
    >>> round(unique_fraction(blocks, prompts, decodes, 8, 1), 3)  # 9 blocks of 16, and outputs
    0.564
    >>> unique_fraction(blocks, prompts, decodes, 8, 8)  # a slot each: nothing to share
    1.0
    """
    check_count("slots", slots)
    check_count("workers", workers, maximum=slots)
    count = prompts.size
    enters = np.arange(count) * (float(decodes.mean()) / slots)
    # Once the slots are full, and before the last request enters.
    begin = enters[min(slots, int(WARM_UP * count))]
    first = np.clip(enters, begin, enters[-1])
    last = np.clip(enters + decodes, begin, enters[-1])
    if enters[-1] <= begin:
        return 1.0
    grown = ((last - enters) ** 2 - (first - enters) ** 2) / 2
    outside, shared = _outside(blocks, prompts), np.diff(blocks.ends, prepend=0)
    owner = np.repeat(np.arange(count), shared)
    at = np.arange(owner.size) - np.repeat(blocks.ends - shared, shared)
    tokens = np.minimum(prompts[owner] - at * blocks.size, blocks.size).astype(np.float64)
    # Every block is held from the first of its requests on until the next change of their number.
    ids = np.concatenate([blocks.ids, blocks.ids])
    times = np.concatenate([first[owner], last[owner]])
    steps = np.repeat([1, -1], owner.size)
    order = np.lexsort((times, ids))
    ids, times, steps = ids[order], times[order], steps[order]
    tokens = np.concatenate([tokens, tokens])[order]
    held = np.cumsum(steps)
    same = np.append(ids[1:] == ids[:-1], False)
    lasts = np.where(same, np.append(np.diff(times), 0.0), 0.0)
    once = _holders(slots, workers)[np.minimum(held, slots)]
    alone = float(grown.sum() + (outside * (last - first)).sum())
    return float((tokens * once * lasts).sum() + alone) / float(
        (tokens * held * lasts).sum() + alone
    )


def _holders(slots: int, workers: int) -> FloatArray:
    """Return the mean number of workers that hold a block of n requests, n = 0 .. slots."""
    taken = np.arange(slots, dtype=np.float64)
    others = np.maximum(slots - slots / workers - taken, 0.0) / (slots - taken)
    none = np.cumprod(np.concatenate([[1.0], others]))
    return workers * (1.0 - none)


def _outside(blocks: PromptBlocks, prompts: IntArray) -> IntArray:
    """Return the tokens of each prompt that no block names."""
    named = np.diff(blocks.ends, prepend=0) * blocks.size
    return np.asarray(np.maximum(prompts - named, 0), dtype=np.int64)
