"""How many tokens have prompt and output in all, where columns count parts of them?

Some programs count cached, reasoned or spoken tokens inside the lengths, some beside them. A total
in the file decides; else a part larger than the whole; else what the format defines.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from afdplan.arrays import FloatArray
from afdplan.files.traces.lengths import Part
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.values import are_counts, token_counts

__all__ = ["Whole", "whole_lengths"]


AGREEING = 0.95
"""Share of rows in which a reading must give the total to be the right one."""
MOST_PARTS = 6
LARGER = 0.01
"""Share of rows in which a part must exceed the whole not to be inside it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whole:
    """Lengths with all their parts.

    Attributes
    ----------
    prompt, decode
        Lengths [tokens], shape (n,).
    notes
        What was decided.
    doubts
        What was assumed and may be wrong.
    """

    prompt: FloatArray
    decode: FloatArray
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def whole_lengths(
    table: Table,
    series: Mapping[str, pl.Series],
    parts: Sequence[Part],
    totals: Sequence[tuple[str, str]],
    prompt: FloatArray,
    decode: FloatArray,
    *,
    is_defined: bool,
    known: Sequence[str],
) -> Whole:
    """Return the lengths with those parts added that they do not hold yet.

    Parameters
    ----------
    table, series
        For messages, and the values of all columns.
    parts, totals
        Columns that count parts, and (``prompt``, ``decode`` or ``both``, column) of totals.
    prompt, decode
        Lengths as they stand in the file, 0 where there is none, shape (n,).
    is_defined
        Whether a format defines what its lengths hold.
    known
        Columns of parts that are known to be inside, and said to be.
    """
    parts = [part for part in parts if are_counts(part.column, series[part.column])]
    counts = {part: token_counts(table, part.column, series[part.column])[0] for part in parts}
    parts = [part for part in parts if (counts[part] > 0).any()][:MOST_PARTS]
    usual = frozenset(part for part in parts if part.is_apart)
    added, doubts = usual, list[str]()
    tellers: dict[str, str] = {}
    for sides, column in totals:
        if not are_counts(column, series[column]):
            continue
        length = {"prompt": prompt, "decode": decode}.get(sides, prompt + decode)
        mine = [part for part in parts if sides in ("both", part.side)]
        whole, absent = token_counts(table, column, series[column])
        seen = ~absent & (whole > 0) & (prompt + decode > 0)
        if not seen.any():
            continue
        missing = (whole - length)[seen]
        own = usual & frozenset(mine)
        found, share = _explaining(missing, [(p, counts[p][seen]) for p in mine], own)
        if share >= AGREEING:
            added = added - own | found
            tellers |= dict.fromkeys(("prompt", "decode") if sides == "both" else (sides,), column)
        else:
            what = {"prompt": "the prompts", "decode": "the outputs"}.get(
                sides, "prompt and output together"
            )
            doubts.append(
                f"column {shown(column)} is not {what} in "
                f"{round((1 - share) * missing.size):,} of {missing.size:,} records: are the "
                "columns of lengths the right ones?"
            )
    passed_over = frozenset(part for part in usual - added if part.is_sure)
    for part in passed_over:
        doubts.append(
            f"column {shown(tellers[part.side])} leaves tokens out that the format counts apart "
            f"(column {shown(part.column)})"
        )
    added |= passed_over
    notes = []
    lengths = {"prompt": prompt, "decode": decode}
    for side, length in lengths.items():
        mine = [part for part in parts if part.side == side]
        inside = [part for part in mine if part not in added]
        larger = [part for part in inside if _exceeds(counts[part], length)]
        if larger:
            added |= frozenset(larger)
            doubts.append(_told(larger, side, "added to", "they are often more than those"))
        left = [part for part in inside if part not in larger and part.column not in known]
        if left and side not in tellers and not is_defined:
            doubts.append(_told(left, side, "taken as part of", "no total tells otherwise"))
        chosen = [part for part in mine if part in added and part not in larger]
        if chosen:
            why = (
                f"by column {shown(tellers[side])}"
                if side in tellers
                else "the format counts them apart"
            )
            notes.append(_told(chosen, side, "added to", why))
        lengths[side] = sum((counts[p] for p in mine if p in added), length)
    return Whole(**lengths, notes=tuple(notes), doubts=tuple(doubts))


def _explaining(
    missing: FloatArray, parts: Sequence[tuple[Part, FloatArray]], usual: frozenset[Part]
) -> tuple[frozenset[Part], float]:
    """Return which parts make up what is missing to the totals, and in what share of rows.

    Of readings that explain as much the usual one is taken, then the one with fewest parts.
    """
    best, most = usual, -1.0
    choices = [c for size in range(len(parts) + 1) for c in itertools.combinations(parts, size)]
    for choice in sorted(choices, key=lambda c: frozenset(p for p, _ in c) != usual):
        found = sum((count for _, count in choice), np.zeros(missing.size))
        share = float((found == missing).mean())
        if share > most + 1e-9:
            best, most = frozenset(part for part, _ in choice), share
    return best, most


def _exceeds(part: FloatArray, whole: FloatArray) -> bool:
    some = part > 0
    return bool((part[some] > whole[some]).mean() > LARGER)


def _told(parts: Sequence[Part], side: str, done: str, why: str) -> str:
    what = "prompts" if side == "prompt" else "outputs"
    kinds = " and ".join(dict.fromkeys(part.kind for part in parts))
    columns = ", ".join(shown(part.column, 60) for part in parts)
    return f"{kinds} tokens (column {columns}) are {done} the {what}: {why}"
