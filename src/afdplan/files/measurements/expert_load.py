"""What do serving systems write about how unevenly their experts are loaded?

Either counts per layer and expert (dumps of a recorder: popularity), or, per pass, how the ranks
compare (lines of a log: the busiest rank over the mean). Lines are taken wherever they stand in a
log:

- vLLM, experiments with ``[EPLB_TRACE] rank_load ... rank_tokens=[...]``;
- SGLang, ``[Expert Balancedness] ... current_pass_balancedness=0.9``, mean over layers of mean/max;
- vLLM-Ascend, ``[Expert Hotness] Current: mean=1.2, max=2.0, Updated: mean=1.0, max=1.1``,
  max/mean per layer, before and after the rebalancing that it plans.

vLLM's own ``EPLB step: ... balancedness=`` lines are refused: until August 2026 they compared
layers, not ranks (vllm-project/vllm pull requests 36304 and 51784), and a line does not say which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.json_lines import whole_document
from afdplan.model.checks import frozen_array

__all__ = ["EXPERT_SIGN", "EXPERT_WORDS", "ExpertRecord", "read_expert_load"]


_NUMBER = rb"([0-9.]+)"
# Lengths are bounded: what a damaged line repeats a million times would take its square.
_RANKS = re.compile(rb"\[EPLB_TRACE\] rank_load.{0,300}?rank_tokens=\[([0-9., ]*)\]")
_SGLANG = re.compile(rb"\[Expert Balancedness\].{0,300}?current_pass_balancedness=" + _NUMBER)
_ASCEND = re.compile(
    rb"\[Expert Hotness\] Current: mean=" + _NUMBER + rb", max=" + _NUMBER + rb", "
    rb"Updated: mean=" + _NUMBER + rb", max=" + _NUMBER
)
_VLLM_STEP = re.compile(rb"EPLB step:.{0,300}?balancedness=")
_KEYS = ("logical_count", "expert_load", "expert_counts", "counts")
EXPERT_SIGN = re.compile(
    rb"\[EPLB_TRACE\] rank_load|\[Expert Balancedness\]|\[Expert Hotness\]|EPLB step: |"
    rb'"(?:' + "|".join(_KEYS).encode() + rb')"\s*:\s*\[\s*\['
)
EXPERT_WORDS = (b"[EPLB_TRACE]", b"[Expert ", b"EPLB step: ", *(f'"{k}"'.encode() for k in _KEYS))
"""One of which is in what shows that sign; found a dozen times as fast."""
LARGEST_COUNTS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertRecord:
    """How unevenly experts, or the ranks that hold them, were loaded.

    Attributes
    ----------
    counts
        Choices of each expert in each layer that has experts, >= 0, each layer with one or more,
        shape (layers, experts); None if only ranks were compared.
    busiest
        Load of the busiest rank over the mean rank's, >= 1, one per pass, shape (passes,); None
        if experts were counted.
    rebalanced
        The same as the system expects it after the rebalancing that it plans, shape (passes,);
        None if it does not say.
    ranks
        How many ranks were compared; None if the lines do not say.
    source, format
        File, and who wrote it.
    notes
        What was left out, and what the numbers cannot say.
    """

    counts: FloatArray | None = None
    busiest: FloatArray | None = None
    rebalanced: FloatArray | None = None
    ranks: int | None = None
    source: str = ""
    format: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("counts", "busiest", "rebalanced"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, frozen_array(value, np.float64))


@opened("measurements", LatencyModelError)
def read_expert_load(source: Source) -> ExpertRecord:
    """Return what a dump or a log says of the load of experts or ranks.

    Parameters
    ----------
    source
        A log; JSON with a table (layers by experts, or passes by layers by experts), bare or under
        ``logical_count``, ``expert_load``, ``expert_counts`` or ``counts``; maybe packed.

    Raises
    ------
    LatencyModelError
        If it holds none of these, a count is negative or not finite, or the lines compare layers.
    """
    if re.match(rb'\s*(\[\s*\[|\{\s*")', source.head):  # a log's lines may begin with [EPLB
        return _of_counts(_table(source), source, "JSON of counts")
    return _of_lines(source)


def _table(source: Source) -> Any:
    content = whole_document(source, LARGEST_COUNTS)
    if isinstance(content, dict):
        found = [key for key in _KEYS if key in content]
        if not found:
            raise LatencyModelError(
                f"{source} has no table of counts: put it under one of {', '.join(_KEYS)}, "
                f"got {', '.join(map(str, list(content)[:4]))}"
            )
        content = content[found[0]]
    try:
        return np.asarray(content, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise LatencyModelError(
            f"{source}: counts must be a table of numbers, layers by experts, all rows alike"
        ) from None


def _of_counts(table: Any, source: Source, format_name: str) -> ExpertRecord:
    if table.ndim not in (2, 3) or not table.size or table.dtype.kind not in "iuf":
        raise LatencyModelError(
            f"{source}: counts must be numbers of shape (layers, experts) or (passes, layers, "
            f"experts), got shape {table.shape}"
        )
    counts = np.asarray(table, dtype=np.float64)
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise LatencyModelError(f"{source}: counts must be finite and at least 0")
    if counts.ndim == 3:
        counts = counts.sum(axis=0)
    chosen = counts.sum(axis=1) > 0
    if not chosen.any():
        raise LatencyModelError(f"{source}: no expert was chosen in any layer: was it recording?")
    notes = []
    if not chosen.all():
        missing = int((~chosen).sum())
        notes.append(f"{missing} of {chosen.size} layers chose no expert (dense) and are left out.")
    return ExpertRecord(
        counts=counts[chosen], source=source.short_name, format=format_name, notes=tuple(notes)
    )


def _of_lines(source: Source) -> ExpertRecord:
    busiest: list[float] = []
    rebalanced: list[float] = []
    names: set[str] = set()
    sizes: set[int] = set()
    idle = steps = 0
    for number, line in source.lines():
        if match := _RANKS.search(line):
            tokens = _numbers(source, number, match[1].split(b","))
            sizes.add(len(tokens))
            names.add("vLLM rank loads")
            if sum(tokens) > 0:
                busiest.append(max(tokens) * len(tokens) / sum(tokens))
            else:
                idle += 1
        elif match := _SGLANG.search(line):
            (share,) = _numbers(source, number, [match[1]])
            names.add("SGLang balancedness")
            if 0 < share <= 1:
                busiest.append(1 / share)
            else:
                idle += 1
        elif match := _ASCEND.search(line):
            mean, _, updated, _ = _numbers(source, number, list(match.groups()))
            names.add("Ascend expert hotness")
            if min(mean, updated) >= 1:
                busiest.append(mean)
                rebalanced.append(updated)
            else:
                idle += 1
        else:
            steps += bool(_VLLM_STEP.search(line))
    if not busiest and steps:
        raise LatencyModelError(
            f"{source}: vLLM's balancedness lines compared layers instead of ranks until August "
            "2026 (its pull requests 36304, 51784) and do not say which they are: record rank "
            "loads or dump counts per expert"
        )
    if not busiest:
        raise LatencyModelError(
            f"{source} says nothing of the load of experts: give counts per layer and expert, or a "
            "log with rank loads of vLLM, balancedness of SGLang or hotness of vLLM-Ascend"
        )
    if len(names) > 1 or len(sizes) > 1:
        raise LatencyModelError(
            f"{source} mixes {' and '.join(sorted(names))}"
            + (f" of {', '.join(map(str, sorted(sizes)))} ranks" if len(sizes) > 1 else "")
            + ": give the log of one server"
        )
    notes = [f"{idle} passes without tokens are left out."] if idle else []
    if "SGLang balancedness" in names:
        notes.append("1/balancedness of a pass: over its layers a little less than mean max/mean.")
    return ExpertRecord(
        busiest=np.array(busiest),
        rebalanced=np.array(rebalanced) if rebalanced else None,
        ranks=sizes.pop() if sizes else None,
        source=source.short_name,
        format=names.pop(),
        notes=tuple(notes),
    )


def _numbers(source: Source, number: int, texts: list[bytes]) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError:
        shown = b", ".join(texts).decode("utf-8", "replace")
        raise LatencyModelError(
            f"{source}: line {number} has a load that is no number: {shown:.60}"
        ) from None
