"""What stage times or sweep points does a table of measurements hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.atomic import write_atomic
from afdplan.files.document import Source, opened
from afdplan.files.measurements.rows import TIME_UNITS, find_column, measurement_rows, number
from afdplan.model import parameters as ask
from afdplan.model.measurement import STAGES, Measurements, StageSamples
from afdplan.model.sweep import RatioSweep

__all__ = ["column_unit", "read_latency_table", "read_ratio_sweep", "write_latency_table"]

_STAGE_NAMES = {
    "attention": ("attn", "a", "t_a", "decode_attention", "mla", "gqa"),
    "ffn": ("moe", "f", "t_f", "expert", "experts", "mlp", "expert_ffn"),
    "send": ("a2f", "a2e", "dispatch", "c_out", "attention_to_ffn", "copy"),
    "receive": ("f2a", "e2a", "combine", "c_back", "ffn_to_attention"),
    "transfer": ("t_c", "comm", "communication", "network"),
    "step": ("decode_step",),
}
_COLUMNS = {
    "stage": ("phase", "op", "operator", "kind"),
    "load": ("tokens", "kv_tokens", "total_kv_tokens", "n"),
    "requests": ("batch", "batch_size", "num_requests"),
    "latency": ("time", "duration", "elapsed", "t", "median", "latency_median"),
}
_SWEEP_COLUMNS = {
    "attention_workers": ("a", "attention", "num_attention", "ratio", "attention_nodes"),
    "ffn_workers": ("f", "ffn", "num_ffn", "ffn_nodes"),
    "batch_size": ("b", "batch"),
    "requests_per_worker": ("s", "max_num_seqs", "batch_per_attention_rank"),
    "microbatches": ("m", "num_microbatches"),
    "context": ("isl", "mean_tokens", "context_tokens", "mean_context"),
    "step_time": ("step", "step_latency", "latency", "tpot", "time"),
    "throughput": ("tokens_per_second", "tok_s"),
    "throughput_per_instance": (
        "throughput_per_device",
        "throughput_per_gpu",
        "tok_s_per_gpu",
        "tokens_per_second_per_device",
    ),
}


@opened("measurements", LatencyModelError)
def read_latency_table(source: Source, time_unit: str | None = None) -> Measurements:
    """Return the stage times of a table with columns stage, load, latency and maybe requests.

    Parameters
    ----------
    source
        CSV, JSON lines or Parquet, told apart by content; text may be gzip.
    time_unit
        ``s``, ``ms``, ``us``, ``ns`` or ``abstract``; None takes it from the column's name
        (``latency_us``) and otherwise reads seconds, and says so.

    Raises
    ------
    LatencyModelError
        If the file is no such table; the message names the row and column.
    """
    names, rows = measurement_rows(source)
    stage_column, _ = find_column(source, names, _COLUMNS, "stage")
    load_column, _ = find_column(source, names, _COLUMNS, "load")
    time_column, suffix = find_column(source, names, _COLUMNS, "latency")
    request_column, _ = find_column(source, names, _COLUMNS, "requests", needed=False)
    unit, notes = column_unit(source, str(time_column), suffix, time_unit)
    kept: dict[str, list[tuple[int, float, float, float]]] = {}
    for at, row in rows:
        stage = _stage(source, at, row.get(str(stage_column)))
        load = number(source, at, str(load_column), row.get(str(load_column)))
        time = number(source, at, str(time_column), row.get(str(time_column)))
        if time <= 0:
            raise LatencyModelError(
                f"{source}: {time_column} in row {at} must be > 0, got {time:g}: a time that was "
                "not measured must be left out"
            )
        requests = 0.0
        if request_column is not None and row.get(request_column) not in (None, ""):
            requests = number(source, at, request_column, row[request_column])
        kept.setdefault(stage, []).append((at, load, time, requests))
    if not kept:
        raise LatencyModelError(f"{source} holds no measurements, only its columns")
    factor = 1.0 if unit == "abstract" else TIME_UNITS[unit]
    stages = []
    for stage, records in kept.items():
        table = np.array(records)
        known = bool((table[:, 3] > 0).all())
        stages.append(
            StageSamples(
                stage=stage,  # type: ignore[arg-type]  # StageSamples checks it
                rows=table[:, 0].astype(np.int64),
                loads=table[:, 1],
                times=table[:, 2] * factor,
                requests=table[:, 3] if known else None,
            )
        )
    return Measurements(
        stages=tuple(stages),
        time_unit="abstract" if unit == "abstract" else "s",
        source=source.short_name,
        format="stage table",
        notes=tuple(notes),
    )


def column_unit(
    source: Source, column: str, suffix: str | None, asked: str | None
) -> tuple[str, list[str]]:
    """Return the unit of a column of times (seconds if nobody says), and what was decided.

    Raises
    ------
    LatencyModelError
        If the unit asked for is none, or the column says another.
    """
    if asked is not None and asked not in (*TIME_UNITS, "abstract"):
        raise LatencyModelError(
            f"time unit must be one of {', '.join(TIME_UNITS)}, abstract, got {asked!r}"
        )
    if asked is not None and suffix is not None and asked != suffix:
        raise LatencyModelError(
            f"{source}: column {column} says {suffix} and the time unit was given as {asked}: "
            "rename the column or leave the unit out"
        )
    if asked or suffix:
        return asked or suffix or "", [f"Times are read in {asked or suffix}."]
    return "s", [f"Column {column} names no unit: its times are read as seconds."]


def _stage(source: Source, row: int, value: Any) -> str:
    plain = str(value).strip().lower().replace("-", "_").replace(" ", "_")
    for stage, others in _STAGE_NAMES.items():
        if plain == stage or plain in others:
            return stage
    raise LatencyModelError(
        f"{source}: stage in row {row} must be one of {', '.join(STAGES)}, got {str(value)[:40]!r}"
    )


def write_latency_table(measurements: Measurements, path: str | Path) -> None:
    """Write stage times as the CSV that `read_latency_table` reads.

    Parameters
    ----------
    measurements
        What to write.
    path
        The file; it is replaced whole or not at all.
    """
    column = "latency" if measurements.time_unit == "abstract" else "latency_s"
    lines = [f"stage,load,requests,{column}"]
    for samples in measurements.stages:
        requests = samples.requests if samples.requests is not None else [""] * samples.count
        for load, asked, time in zip(samples.loads, requests, samples.times, strict=True):
            shown = asked if isinstance(asked, str) else f"{asked:g}"
            lines.append(f"{samples.stage},{load:.12g},{shown},{float(time)!r}")
    write_atomic(path, ("\n".join(lines) + "\n").encode())


@opened("measurements", LatencyModelError)
def read_ratio_sweep(
    source: Source,
    *,
    time_unit: str | None = None,
    ffn_workers: float = 1.0,
    batch_size: float | None = None,
    microbatches: int = ask.MICROBATCHES.default,
    context: float | None = None,
    tokens_per_step: float = 1.0,
) -> RatioSweep:
    """Return the points of a sweep over ratios.

    Columns: attention_workers (or ratio), and step_time, throughput (tokens per time of the whole
    bundle) or throughput_per_instance (per worker, A + F of them); optionally ffn_workers,
    batch_size or requests_per_worker (all microbatches), microbatches and context, which
    otherwise hold for all points as given here.

    Parameters
    ----------
    source
        CSV, JSON lines or Parquet.
    time_unit
        Unit of step times, as in `read_latency_table`.
    ffn_workers, batch_size, microbatches, context
        F, B, m and mean KV tokens per request of all points without such a column.
    tokens_per_step
        Tokens that a request gains per step, for throughputs.

    Raises
    ------
    LatencyModelError
        If a column is missing or a cell is out of its domain.
    """
    names, rows = measurement_rows(source)
    found: dict[str, str | None] = {}
    units: dict[str, str | None] = {}
    for wanted in _SWEEP_COLUMNS:
        needed = wanted == "attention_workers"
        found[wanted], units[wanted] = find_column(source, names, _SWEEP_COLUMNS, wanted, needed)
    measured = [
        w for w in ("step_time", "throughput", "throughput_per_instance") if found[w] is not None
    ]
    if not measured:
        find_column(source, names, _SWEEP_COLUMNS, "step_time")
    notes: list[str] = []
    factor = 1.0
    if measured[0] == "step_time":
        unit, notes = column_unit(source, str(found["step_time"]), units["step_time"], time_unit)
        factor = 1.0 if unit == "abstract" else TIME_UNITS[unit]
    elif len(measured) > 1:
        notes.append(f"Points were taken from {found[measured[0]]}.")
    defaults = {
        "ffn_workers": ffn_workers,
        "microbatches": microbatches,
        "context": context,
        "batch_size": batch_size,
    }
    columns: dict[str, list[float]] = {name: [] for name in ("attention_workers", *defaults)}
    times = []
    for at, row in rows:
        point = {
            wanted: number(source, at, column, row.get(column))
            for wanted, column in found.items()
            if column is not None
        }
        for name, default in defaults.items():
            if name in point or (name == "batch_size" and "requests_per_worker" in point):
                continue
            if default is None:
                raise LatencyModelError(
                    f"{source}: a sweep needs {name} for its points: add the column or the option "
                    f"--{name.replace('_', '-')}"
                )
            point[name] = float(default)
        if "batch_size" not in point:
            point["batch_size"] = point["requests_per_worker"] / point["microbatches"]
        for name, value in point.items():
            if value <= 0:
                raise LatencyModelError(
                    f"{source}: {found.get(name) or name} in row {at} must be > 0, got {value:g}"
                )
        for name, values in columns.items():
            values.append(point[name])
        tokens = point["attention_workers"] * point["batch_size"] * point["microbatches"]
        tokens *= tokens_per_step
        if measured[0] == "step_time":
            times.append(point["step_time"] * factor)
        elif measured[0] == "throughput":
            times.append(tokens / point["throughput"])
        else:
            workers = point["attention_workers"] + point["ffn_workers"]
            times.append(tokens / (point["throughput_per_instance"] * workers))
    if not times:
        raise LatencyModelError(f"{source} holds no points, only its columns")
    return RatioSweep(
        attention_workers=np.array(columns["attention_workers"]),
        ffn_workers=np.array(columns["ffn_workers"]),
        batch_size=np.array(columns["batch_size"]),
        microbatches=np.array(columns["microbatches"]),
        mean_tokens=np.array(columns["context"]),
        step_times=np.array(times),
        source=source.short_name,
        notes=tuple(notes),
    )
