"""Which kind of measurements does a file hold, and what do they say?"""

from __future__ import annotations

import re
from collections.abc import Callable

from afdplan.errors import LatencyModelError
from afdplan.files.document import LONGEST_LINE, Source, opened
from afdplan.files.measurements.counters import PROMETHEUS_SIGN, PROMETHEUS_WORDS
from afdplan.files.measurements.expert_load import EXPERT_SIGN, EXPERT_WORDS
from afdplan.files.measurements.fastafd import FASTAFD_SCHEMA, read_fastafd_steps
from afdplan.files.measurements.fpm import FPM_SIGN, read_fpm_times
from afdplan.files.measurements.sglang import read_sglang_log, read_sglang_step_times
from afdplan.files.measurements.stepmesh import read_stepmesh_traces
from afdplan.files.measurements.table import read_latency_table
from afdplan.files.measurements.torch_trace import TraceRole, read_torch_trace
from afdplan.files.measurements.transfer_text import (
    POOL_LINE,
    STEPMESH_BLOCK,
    read_pool_lines,
    read_stepmesh_benchmark,
)
from afdplan.model.measurement import Measurements

__all__ = ["MEASUREMENT_FORMATS", "read_measurements", "recognise_measurements"]

MEASUREMENT_FORMATS = {
    "table": "columns stage, load, latency and maybe requests (CSV, JSON lines, Parquet)",
    "fastafd": "FastAFD decode-step metrics",
    "stepmesh": "StepMesh records of eight timestamps",
    "stepmesh-text": "text of StepMesh's benchmark",
    "sglang-pool": "lines of an FFN pool of SGLang's fork",
    "fpm": "forward pass metrics of Dynamo, or their self-benchmark",
    "sglang-log": "SGLang decode log lines",
    "sglang-steps": "SGLang step_time_dict",
    "torch-trace": "torch profiler Chrome trace of one rank",
    "expert-load": "counts of experts' choices, or lines of a log that compare ranks",
    "prometheus": "vLLM Prometheus snapshot (lengths only)",
}
_EIGHT_NUMBERS = re.compile(rb"^\s*\[\s*(\d+\s*,\s*){7}\d+\s*\]")
_STEP_TIMES = re.compile(rb'"step_time_dict"')
# What a format shows, wherever in the file it shows it; the first that shows is taken.
_SIGNS = (
    ("fastafd", "", re.compile(re.escape(FASTAFD_SCHEMA.encode()))),
    ("fpm", "{", FPM_SIGN),
    ("sglang-log", "", re.compile(rb"Decode batch[.,\[]")),
    ("expert-load", "", EXPERT_SIGN),
    ("stepmesh-text", "", STEPMESH_BLOCK),
    ("sglang-pool", "", POOL_LINE),
    ("prometheus", "", PROMETHEUS_SIGN),
    ("torch-trace", "{", re.compile(rb'"(traceEvents|deviceProperties|schemaVersion)"')),
    ("torch-trace", "[", re.compile(rb'"ph"\s*:')),
    ("stepmesh", "{", re.compile(rb'"timestamps')),
    ("sglang-steps", "{", _STEP_TIMES),
)
_WORDS = {"prometheus": PROMETHEUS_WORDS, "expert-load": EXPERT_WORDS}
_LONGEST_SIGN = 400


@opened("measurements", LatencyModelError)
def recognise_measurements(source: Source) -> str:
    """Return the name of the format that a file's content shows, one of `MEASUREMENT_FORMATS`.

    Parameters
    ----------
    source
        The file, a pipe or ``-``, maybe packed; all of it is looked at, until a sign shows.

    Raises
    ------
    LatencyModelError
        If it cannot be read.
    """
    head = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if source.kind == "parquet":
        return "table"
    if _EIGHT_NUMBERS.match(head):
        return "stepmesh"
    if re.match(rb'\{\s*"\d+"\s*:\s*\[', head):
        return "sglang-steps"
    first, before, length = head[:1].decode("latin-1"), b"", 0
    for block in source.blocks():
        text = before + block
        for name, start, sign in _SIGNS:
            words = _WORDS.get(name)
            may_show = words is None or any(word in text for word in words)
            if may_show and first.startswith(start) and sign.search(text):
                return name
        before = text[-_LONGEST_SIGN:]
        end = block.rfind(b"\n")
        length = length + len(block) if end < 0 else len(block) - end
        if source.kind == "text" and length > LONGEST_LINE:  # which no reader takes
            raise LatencyModelError(f"{source}: has a line that is longer than 64 MB")
    return "table"


@opened("measurements", LatencyModelError)
def read_measurements(
    source: Source,
    *,
    format_name: str | None = None,
    time_unit: str | None = None,
    role: TraceRole | None = None,
    load: float | None = None,
    requests: float | None = None,
    microbatches: int | None = None,
    peers: int = 1,
    rank: str | None = None,
    layers: int = 1,
) -> Measurements:
    """Return the stage times of a file of any known format but Prometheus.

    Parameters
    ----------
    source
        The file, a pipe or ``-``, maybe packed.
    format_name
        One of `MEASUREMENT_FORMATS`; None recognises it by content.
    time_unit
        For tables, see `read_latency_table`.
    role, load, requests, microbatches, peers
        For profiler traces, see `read_torch_trace`; `load` also serves StepMesh and pools.
    rank
        Of a log of several ranks, see `read_sglang_log`.
    layers
        Of the model, for wall times of whole passes.

    Raises
    ------
    LatencyModelError
        If the file breaks its format or an option that it needs is missing.
    """
    name = format_name or recognise_measurements(source)
    if name == "prometheus":
        raise LatencyModelError(
            f"{source} is a Prometheus snapshot: it holds lengths of requests, no stage times; "
            "write them as a trace with --to-trace"
        )
    if name == "expert-load":
        raise LatencyModelError(
            f"{source} compares loads of experts, it holds no stage times: give it to calibrate "
            "alone, through a pipe with --format expert-load"
        )
    readers: dict[str, Callable[[], Measurements]] = {
        "table": lambda: read_latency_table(source, time_unit),
        "fastafd": lambda: read_fastafd_steps(source),
        "stepmesh": lambda: read_stepmesh_traces(source, load),
        "stepmesh-text": lambda: read_stepmesh_benchmark(source, load),
        "sglang-pool": lambda: read_pool_lines(source, load),
        "fpm": lambda: read_fpm_times(source, rank, layers),
        "sglang-log": lambda: read_sglang_log(source, rank),
        "sglang-steps": lambda: read_sglang_step_times(source),
    }
    if name in readers:
        return readers[name]()
    if name != "torch-trace":
        raise LatencyModelError(
            f"format must be one of {', '.join(MEASUREMENT_FORMATS)}, got {name!r}"
        )
    if role is None or load is None:
        raise LatencyModelError(
            f"{source} is a profiler trace, which does not say whose it is nor at which load: give "
            "--role attention|ffn and --load TOKENS (KV tokens of a microbatch for attention)"
        )
    return read_torch_trace(
        source, role, load=load, requests=requests, microbatches=microbatches, peers=peers
    )
