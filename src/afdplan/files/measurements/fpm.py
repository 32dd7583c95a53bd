"""What do forward pass metrics say: requests, KV tokens and time of each rank and pass?

Dynamo writes them for vLLM, SGLang and TensorRT-LLM workers as JSON lines, schema
``dynamo.fpm.trace.v1``; its self-benchmark writes one JSON object, ``schema_version`` 2, with a
grid of warmed points (documentation of ai-dynamo/dynamo, forward pass metrics, 2026).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.json_lines import whole_document, whole_records
from afdplan.model.checks import frozen_array
from afdplan.model.measurement import Measurements, StageSamples

__all__ = [
    "FPM_SIGN",
    "ForwardPasses",
    "read_forward_passes",
    "read_fpm_times",
    "read_prefill_passes",
]

FPM_SIGN = re.compile(rb'"dynamo\.fpm\.trace\.v1"|"(raw_fpms|fpms|iteration_groups)"\s*:\s*\[')
SCHEMA = "dynamo.fpm.trace.v1"
LARGEST_BENCHMARK = 256_000_000


class _Requests(msgspec.Struct):
    num_prefill_requests: int = 0
    sum_prefill_tokens: int = 0
    sum_prefill_kv_tokens: int = 0
    num_decode_requests: int = 0
    sum_decode_kv_tokens: int = 0


class _Pass(msgspec.Struct):
    wall_time: float
    dp_rank: int = 0
    worker_id: str | int = ""
    scheduled_requests: _Requests = msgspec.field(default_factory=_Requests)


class _Event(msgspec.Struct):
    schema: str
    fpm: _Pass
    observed_at_unix_ms: float = 0.0


class _Line(msgspec.Struct):
    event: _Event


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForwardPasses:
    """Passes of one or several ranks that decoded something and prefilled nothing.

    Attributes
    ----------
    ranks
        Names of the ranks, worker and data-parallel rank.
    rank
        Which of them each pass is of, shape (n,), n >= 1.
    ended
        When each was observed [s since 1970]; 0 if unknown.
    requests, tokens
        Requests that decoded, and their KV tokens, > 0 and >= 0.
    times
        Wall time [s], > 0.
    rows
        Where each stands in its file.
    prefilled, idle
        How many others were left out: with a prefill; without requests.
    prefill_tokens
        Mean prompt tokens of a prefill; None if there was none.
    source
        The file.
    notes
        What the reader noticed.
    """

    ranks: tuple[str, ...]
    rank: IntArray
    ended: FloatArray
    requests: FloatArray
    tokens: FloatArray
    times: FloatArray
    rows: IntArray
    prefilled: int = 0
    idle: int = 0
    prefill_tokens: float | None = None
    source: str = "memory"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("ended", "requests", "tokens", "times"):
            object.__setattr__(self, name, frozen_array(getattr(self, name), np.float64))
        for name in ("rank", "rows"):
            object.__setattr__(self, name, frozen_array(getattr(self, name), np.int64))


@opened("forward pass metrics", LatencyModelError)
def read_forward_passes(source: Source, rank: str | None = None) -> ForwardPasses:
    """Return the passes of a trace or self-benchmark that decode and prefill nothing.

    Parameters
    ----------
    source
        JSON lines of the trace, or the JSON object of the benchmark, maybe gzip.
    rank
        Number of a data-parallel rank, or the name of a worker and rank; None takes all.

    Raises
    ------
    LatencyModelError
        If a record breaks its schema, or nothing decodes. A last line that was cut is left out
        and noted.
    """
    notes: list[str] = []
    is_trace = SCHEMA.encode() in source.head
    found = _trace(source, notes) if is_trace else _benchmark(source, notes)
    kept: list[tuple[int, float, str, float, float, float]] = []
    counts = {"prefilled": 0, "idle": 0}
    prompts = [0, 0]
    names: set[str] = set()
    for row, ended, record in found:
        name = f"{record.worker_id} rank {record.dp_rank}".strip()
        names.add(name)
        if rank not in (None, "all", str(record.dp_rank), name):
            continue
        asked = record.scheduled_requests
        if min(asked.num_decode_requests, asked.sum_decode_kv_tokens) < 0:
            raise LatencyModelError(
                f"{source}: record {row} counts fewer than 0 requests or tokens"
            )
        if asked.num_prefill_requests > 0 or asked.sum_prefill_tokens > 0:
            counts["prefilled"] += 1
            prompts[0] += asked.num_prefill_requests
            prompts[1] += asked.sum_prefill_tokens + asked.sum_prefill_kv_tokens
        elif asked.num_decode_requests == 0 or record.wall_time == 0:
            counts["idle"] += 1
        elif not 0 < record.wall_time < np.inf:
            raise LatencyModelError(
                f"{source}: wall_time in record {row} must be > 0 s, got {record.wall_time:g}"
            )
        else:
            requests, tokens = asked.num_decode_requests, asked.sum_decode_kv_tokens
            kept.append((row, ended, name, requests, tokens, record.wall_time))
    if not kept:
        there = f"; it has {', '.join(sorted(names)[:8])}" if rank and names else ""
        raise LatencyModelError(
            f"{source} holds no pass that decodes and prefills nothing ({counts['prefilled']} with "
            f"a prefill, {counts['idle']} idle{there})"
        )
    ranks = tuple(sorted({name for _, _, name, *_ in kept}))
    rows, ended_at, of, *values = zip(*kept, strict=True)
    return ForwardPasses(
        ranks=ranks,
        rank=np.searchsorted(np.array(ranks), np.array(of)),
        ended=np.array(ended_at),
        rows=np.array(rows),
        requests=np.array(values[0]),
        tokens=np.array(values[1]),
        times=np.array(values[2]),
        prefill_tokens=prompts[1] / prompts[0] if prompts[0] else None,
        source=source.short_name,
        notes=tuple(notes),
        **counts,
    )


@opened("forward pass metrics", LatencyModelError)
def read_prefill_passes(source: Source) -> dict[str, FloatArray] | None:
    """Return the passes that compute one prompt, or a chunk of one, and decode nothing.

    Parameters
    ----------
    source
        As of `read_forward_passes`.

    Returns
    -------
    dict or None
        ``tokens`` computed, ``cached`` before them, and the wall time as ``latency`` [s], shape
        (n,) each: passes of several prompts say nothing of how their pairs part. None if the file
        holds no forward pass metrics.

    Raises
    ------
    LatencyModelError
        If there is no such pass, or a record breaks its schema.
    """
    if not FPM_SIGN.search(source.head):
        return None
    notes: list[str] = []
    is_trace = SCHEMA.encode() in source.head
    kept = []
    for _, _, record in _trace(source, notes) if is_trace else _benchmark(source, notes):
        asked = record.scheduled_requests
        alone = asked.num_prefill_requests == 1 and asked.num_decode_requests == 0
        if alone and asked.sum_prefill_tokens > 0 and 0 < record.wall_time < np.inf:
            kept.append((asked.sum_prefill_tokens, asked.sum_prefill_kv_tokens, record.wall_time))
    if not kept:
        raise LatencyModelError(
            f"{source} holds no pass with one prefill and no decoding: prefill times need prompts "
            "that were served alone"
        )
    return dict(zip(("tokens", "cached", "latency"), np.array(kept, np.float64).T, strict=True))


def _trace(source: Source, notes: list[str]) -> Iterator[tuple[int, float, _Pass]]:
    """Yield (line, when, pass) of each record; notes a last line that was cut."""
    decoder = msgspec.json.Decoder(_Line, strict=False)
    for at, line in whole_records(source, decoder.decode, notes):
        event = line.event
        if event.schema != SCHEMA:
            raise LatencyModelError(
                f"{source}: schema in line {at} must be {SCHEMA}, got {event.schema[:60]!r}"
            )
        yield at, event.observed_at_unix_ms * 1e-3, event.fpm


def _benchmark(source: Source, notes: list[str]) -> Iterator[tuple[int, float, _Pass]]:
    """Yield (number, 0, pass) of each measured pass of a self-benchmark."""
    document = whole_document(source, LARGEST_BENCHMARK)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != 2:
        raise LatencyModelError(
            f"{source}: schema_version of a self-benchmark must be 2, got {version!r:.40}"
        )
    if document.get("status", "complete") != "complete" or document.get("valid") is False:
        notes.append(f"The benchmark is not complete (status {document.get('status')!r:.40}).")
    if document.get("timing_valid") is False:
        raise LatencyModelError(f"{source}: the benchmark calls its own timing invalid")
    padded = 0
    for number, (point, record) in enumerate(_points(document), start=1):
        padded += bool(point.get("padding_tokens"))
        try:
            yield number, 0.0, msgspec.convert(record, _Pass, strict=False)
        except msgspec.ValidationError as error:
            raise LatencyModelError(f"{source}: pass {number}: {str(error)[:120]}") from None
    if padded:
        notes.append(
            f"{padded} passes were padded to the size of a graph: their FFN worked on more tokens."
        )


def _points(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield (point, pass) of each measurement, wherever this version of the file keeps them."""
    for result in _objects(document.get("results")) or _objects(document.get("points")):
        point = result.get("point", result)
        point = point if isinstance(point, dict) else {}
        passes = next((result[key] for key in ("fpms", "raw_fpms") if result.get(key)), None)
        if isinstance(passes, list):
            yield from ((point, record) for record in passes)
        elif "wall_time" in result:
            yield point, _as_pass(point, result["wall_time"])
    if not document.get("results") and not document.get("points"):
        for group in _objects(document.get("iteration_groups")):
            point = group["point"] if isinstance(group.get("point"), dict) else {}
            for ranked in _objects(group.get("rank_results")):
                yield from ((point, record) for record in _objects(ranked.get("fpms")))


def _as_pass(point: dict[str, Any], wall_time: Any) -> dict[str, Any]:
    """Return a grid point that only sums up its pass in the form of a pass."""
    is_prefill = point.get("point_type") == "prefill" or bool(point.get("total_prefill_tokens"))
    count, tokens = point.get("batch_size", 0), point.get("total_kv_read_tokens", 0)
    names = (
        ("num_prefill_requests", "sum_prefill_tokens")
        if is_prefill
        else ("num_decode_requests", "sum_decode_kv_tokens")
    )
    return {
        "wall_time": wall_time,
        "dp_rank": point.get("dp_rank", 0),
        "scheduled_requests": dict(zip(names, (count, tokens), strict=True)),
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@opened("forward pass metrics", LatencyModelError)
def read_fpm_times(source: Source, rank: str | None = None, layers: int = 1) -> Measurements:
    """Return attention times per layer from the wall times of decoding passes.

    Parameters
    ----------
    source, rank
        As in `read_forward_passes`.
    layers
        Layers of a pass: its wall time is shared out evenly.

    Raises
    ------
    LatencyModelError
        As `read_forward_passes`.

    Notes
    -----
    A wall time holds all that the rank did or waited for in the pass. What it gains per KV token is
    attention; what it has per request and in any case also holds the FFN, if the worker computes
    it, and the wait for others, if it exchanges tokens with them.
    """
    passes = read_forward_passes(source, rank)
    notes = [
        *passes.notes,
        "Wall times of a pass are taken as attention: what they gain per KV token is attention's, "
        "what they have per request and in any case may hold FFN and waiting too.",
    ]
    if passes.prefilled or passes.idle:
        notes.append(
            f"{passes.prefilled} passes with a prefill and {passes.idle} without a request are "
            "left out."
        )
    return Measurements(
        stages=(
            StageSamples(
                stage="attention",
                loads=passes.tokens,
                requests=passes.requests,
                times=passes.times / layers,
                rows=passes.rows,
            ),
        ),
        source=passes.source,
        format="forward pass metrics",
        dropped=passes.prefilled + passes.idle,
        notes=tuple(notes),
    )
