"""How much of each prompt did a prefix cache hold, by what a trace records?

Some traces name the blocks of a prompt by hashes of all that precedes them, so that the same id is
the same prefix; others count the cached tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from afdplan.arrays import IntArray
from afdplan.errors import TraceError
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.values import token_counts
from afdplan.model.prompt_blocks import PromptBlocks

__all__ = ["block_size", "cached_tokens", "shared_blocks"]

SIZES = (16, 32, 64, 128, 256, 512, 1024)
RECOGNISED = 0.95
"""Share of prompts whose number of blocks a block size must explain."""


def cached_tokens(
    table: Table, column: str, values: pl.Series, prompts: IntArray
) -> tuple[IntArray, PromptBlocks | None]:
    """Return the cached tokens of each prompt, at most all but one, and its blocks if any.

    Parameters
    ----------
    table, column
        For messages.
    values
        Block ids or token counts, one entry per request in the order of arrival.
    prompts
        P of each [tokens].

    Raises
    ------
    TraceError
        If it cannot be told how many tokens a block has.
    """
    most = np.maximum(prompts - 1, 0)
    if values.dtype != pl.List:
        counts, empty = token_counts(table, column, values)
        return np.minimum(np.where(empty, 0, counts).astype(np.int64), most), None
    blocks = values.list.len().fill_null(0).to_numpy().astype(np.int64)
    size = block_size(prompts, blocks)
    if size is None:
        raise TraceError(
            f"{table.name}, column {shown(column)}: no number of tokens per block fits the "
            "prompts; give --prefix-cache session, or none"
        )
    ids = values.to_list()
    return np.minimum(size * shared_blocks(ids), most), PromptBlocks.of(ids, size)


def block_size(prompts: IntArray, blocks: IntArray) -> int | None:
    """Return the tokens of a block, of `SIZES`; None if no size fits 95 % of the prompts.

    Examples
    --------
    >>> block_size(np.array([1000, 513, 90]), np.array([2, 2, 1]))
    512
    """
    for size in SIZES:
        fits = (-(-prompts // size) == blocks) | (prompts // size == blocks)
        if fits.mean() >= RECOGNISED:
            return size
    return None


def shared_blocks(ids: Iterable[list[int] | None]) -> IntArray:
    """Return how many leading blocks of each request an earlier one had, nothing evicted.

    Examples
    --------
    >>> shared_blocks([[1, 2, 3], [1, 2, 9], None, [7, 1]]).tolist()
    [0, 2, 0, 0]
    """
    seen: set[int] = set()
    found = []
    for one in ids:
        blocks = one or []
        known = next((k for k, block in enumerate(blocks) if block not in seen), len(blocks))
        found.append(known)
        seen.update(blocks)
    return np.array(found, dtype=np.int64)
