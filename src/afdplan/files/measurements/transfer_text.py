"""What do the printed summaries of transfers say: StepMesh's benchmark, and an FFN pool of SGLang?

StepMesh's benchmark prints a block per 500 transfers, rows of mean, median, 99th percentile and
maxima in milliseconds for each pushed or pulled tensor. The pool of SGLang's fork logs, every so
many calls, its means per call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.model.measurement import Measurements, Stage, StageSamples

__all__ = ["POOL_LINE", "STEPMESH_BLOCK", "read_pool_lines", "read_stepmesh_benchmark"]

STEPMESH_BLOCK = re.compile(rb"comm bmk gpu=(\d+): mean=")
POOL_LINE = re.compile(
    rb"afd pool time: (\d+) calls in .*?wire in ([0-9.]+) ms, work ([0-9.]+) ms, "
    rb"wire out ([0-9.]+) ms"
)
_TENSOR = re.compile(rb"gpu=\d+ (push|pull) \d+:")
_ROW = re.compile(rb"^\s*(process|net_cost)\s+([0-9.]+)\s+([0-9.]+)(?:\s+[0-9.]+){4}\s*$")


@opened("measurements", LatencyModelError)
def read_stepmesh_benchmark(source: Source, tokens: float | None) -> Measurements:
    """Return transfer and FFN times from the text that StepMesh's benchmark prints.

    Of each block the tensor whose network cost has the largest median is taken: the activations;
    its cost is there and back together. Medians stand for their 500 transfers.

    Parameters
    ----------
    source
        The text, maybe within a log.
    tokens
        Tokens of one transfer, which the text does not say.

    Raises
    ------
    LatencyModelError
        If there is no whole block, its times are 0, or the tokens are not given.
    """
    blocks = list(_blocks(source))
    if not blocks:
        raise LatencyModelError(f"{source} holds no whole block of StepMesh's benchmark")
    cost = [max(block["net_cost"]) for block in blocks]
    work = [max(block["process"]) for block in blocks]
    if min(cost) <= 0:
        raise LatencyModelError(
            f"{source}: a net_cost of 0 ms: was StepMesh built with STEPMESH_ENABLE_TRACE?"
        )
    stages = [("transfer", [0.5e-3 * time for time in cost])]
    if min(work) > 0:
        stages.append(("ffn", [1e-3 * time for time in work]))
    notes = (
        "Transfer times are there and back together; both directions are taken as equal.",
        f"Times are medians of {len(blocks)} blocks of 500 transfers, of the largest tensor.",
    )
    return _measurements(source, tokens, stages, "StepMesh benchmark text", notes)


def _blocks(source: Source) -> Iterator[dict[str, list[float]]]:
    """Yield the medians of each whole block [ms], one per tensor."""
    block: dict[str, list[float]] | None = None
    tensors = 0
    for _, line in source.lines():
        if STEPMESH_BLOCK.search(line):
            if block is not None and tensors and len(block["net_cost"]) == tensors:
                yield block
            block, tensors = {"process": [], "net_cost": []}, 0
        tensors += bool(_TENSOR.search(line))
        row = _ROW.match(line)
        if row and block is not None:
            try:
                block[row.group(1).decode()].append(float(row.group(3)))
            except ValueError:
                continue
    if block is not None and tensors and len(block["net_cost"]) == tensors:
        yield block


@opened("measurements", LatencyModelError)
def read_pool_lines(source: Source, tokens: float | None) -> Measurements:
    """Return FFN and transfer times from the lines ``afd pool time: N calls ...``.

    Parameters
    ----------
    source
        The pool's log.
    tokens
        Tokens of one call, which the lines do not say.

    Raises
    ------
    LatencyModelError
        If there is no such line with times above 0, or the tokens are not given.
    """
    found = [match.groups() for _, line in source.lines() if (match := POOL_LINE.search(line))]
    try:
        table = np.array([[float(number) for number in row] for row in found]).reshape(-1, 4)
    except ValueError:
        raise LatencyModelError(f"{source}: a line of the pool holds no numbers") from None
    if not len(table) or not (table[:, 1:] > 0).all():
        raise LatencyModelError(f"{source} holds no line of an AFD pool with times above 0")
    names = ("send", "ffn", "receive")
    stages = [(name, (1e-3 * table[:, at]).tolist()) for at, name in enumerate(names, start=1)]
    notes = (f"Times are means of {table[:, 0].sum():,.0f} calls, in {len(table)} lines.",)
    return _measurements(source, tokens, stages, "SGLang pool log", notes)


def _measurements(
    source: Source,
    tokens: float | None,
    stages: Iterable[tuple[Stage | str, list[float]]],
    form: str,
    notes: tuple[str, ...],
) -> Measurements:
    if tokens is None or not tokens > 0:
        raise LatencyModelError(
            f"{source} does not say how many tokens a transfer carries: give --load TOKENS"
        )
    return Measurements(
        stages=tuple(
            StageSamples(
                stage=stage,  # type: ignore[arg-type]  # StageSamples checks it
                loads=np.full(len(times), float(tokens)),
                times=np.array(times),
            )
            for stage, times in stages
        ),
        source=source.short_name,
        format=form,
        notes=notes,
    )
