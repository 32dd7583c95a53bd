"""What do FastAFD's decode-step metrics say?

Schema ``fastafd.afd-step-metrics.v1``: JSON lines, first a record of type ``run``, then one of
type ``decode_step`` per step with its batch, KV tokens, microbatches and latency. The latency runs
from the first worker command to the last reply, over the whole bundle.
"""

from __future__ import annotations

import msgspec
import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.json_lines import whole_records
from afdplan.model.measurement import Measurements, StageSamples

__all__ = ["FASTAFD_SCHEMA", "read_fastafd_steps"]

FASTAFD_SCHEMA = "fastafd.afd-step-metrics.v1"


class _Record(msgspec.Struct):
    schema: str
    record_type: str
    batch_size: int = 0
    total_kv_tokens: int = 0
    latency_ms: float = 0.0
    num_microbatches: int = 0


@opened("measurements", LatencyModelError)
def read_fastafd_steps(source: Source) -> Measurements:
    """Return the decode steps of a FastAFD metrics file: KV tokens, requests, seconds.

    Loads and requests are those of the whole bundle. A last line that was cut is dropped and
    counted; any other broken line is an error.

    Parameters
    ----------
    source
        The file, maybe gzip.

    Raises
    ------
    LatencyModelError
        If a record breaks the schema or has no positive latency; the message names the line.
    """
    decoder = msgspec.json.Decoder(_Record)
    steps: list[tuple[int, int, int, float]] = []
    microbatches: set[int] = set()
    cut: list[str] = []
    for at, record in whole_records(source, decoder.decode, cut, "step record"):
        if record.schema != FASTAFD_SCHEMA:
            raise LatencyModelError(
                f"{source}: schema in line {at} must be {FASTAFD_SCHEMA}, "
                f"got {record.schema[:60]!r}"
            )
        if record.record_type != "decode_step":
            continue
        if not record.latency_ms > 0:
            raise LatencyModelError(
                f"{source}: latency_ms in line {at} must be > 0, got {record.latency_ms:g}"
            )
        if record.batch_size < 1 or record.total_kv_tokens < 0:
            raise LatencyModelError(
                f"{source}: batch_size must be >= 1 and total_kv_tokens >= 0 in line {at}"
            )
        microbatches.add(record.num_microbatches)
        steps.append((at, record.total_kv_tokens, record.batch_size, record.latency_ms * 1e-3))
    if not steps:
        raise LatencyModelError(f"{source} holds no decode steps")
    table = np.array(steps)
    counts = ", ".join(str(count) for count in sorted(microbatches))
    notes = [f"Steps ran with {counts} microbatches; loads are those of the whole bundle.", *cut]
    return Measurements(
        stages=(StageSamples.of_steps(table),),
        source=source.short_name,
        format=FASTAFD_SCHEMA,
        dropped=len(cut),
        notes=tuple(notes),
    )
