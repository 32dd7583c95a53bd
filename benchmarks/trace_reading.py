"""How many rows per second does `read_trace` read? Run ``python -m benchmarks.trace_reading``."""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from afdplan.files.traces.reader import read_trace

BAR = 1_000_000
"""Rows per second asked for, of CSV and Parquet."""


def write_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write one trace in several formats; a tenth of the rows where lines are JSON."""
    generator = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "arrived_at": np.cumsum(generator.exponential(0.01, rows)).round(6),
            "num_prefill_tokens": generator.integers(1, 5000, rows),
            "num_decode_tokens": generator.integers(1, 1000, rows),
            "model": np.where(generator.random(rows) < 0.5, "model-a", "model-b"),
        }
    )
    start = np.datetime64("2023-11-16T18:17:03", "us")
    stamps = start + (frame["arrived_at"].to_numpy() * 1e6).astype("timedelta64[us]")
    azure = pl.DataFrame(
        {
            "TIMESTAMP": pl.Series(stamps).dt.strftime("%Y-%m-%d %H:%M:%S%.6f") + "0",
            "ContextTokens": frame["num_prefill_tokens"],
            "GeneratedTokens": frame["num_decode_tokens"],
        }
    )
    files = {
        "CSV": folder / "trace.csv",
        "CSV, ISO times": folder / "azure.csv",
        "CSV, quoted": folder / "quoted.csv",
        "CSV, some failed": folder / "failed.csv",
        "CSV, gzip": folder / "trace.csv.gz",
        "Parquet": folder / "trace.parquet",
        "JSON lines": folder / "trace.jsonl",
    }
    frame.write_csv(files["CSV"])
    azure.write_csv(files["CSV, ISO times"])
    frame.write_csv(files["CSV, quoted"], quote_style="always")
    failed = pl.Series(generator.random(rows) < 0.01)
    frame.with_columns(
        num_decode_tokens=pl.when(failed).then(None).otherwise(pl.col("num_decode_tokens"))
    ).write_csv(files["CSV, some failed"])
    frame.write_parquet(files["Parquet"])
    frame.head(rows // 10).write_ndjson(files["JSON lines"])
    with (
        files["CSV"].open("rb") as plain,
        gzip.open(files["CSV, gzip"], "wb", compresslevel=1) as packed,
    ):
        shutil.copyfileobj(plain, packed)
    return files


def measure(path: Path, repeats: int) -> tuple[int, float]:
    """Return the rows of a file and the median seconds that reading takes, after a warm-up."""
    trace = read_trace(path)
    rows = trace.requests + trace.dropped_requests
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        read_trace(path)
        seconds.append(time.perf_counter() - start)
    return rows, statistics.median(seconds)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    arguments = parser.parse_args()
    rows = arguments.rows // (10 if arguments.quick else 1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), rows)
        results = {name: measure(path, arguments.repeats) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
    if arguments.json:
        document = {
            name: {"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds}
            for name, (rows, seconds) in results.items()
        }
        print(json.dumps({"machine": platform.machine(), "results": document}, indent=2))
        return
    table = Table(title=f"read_trace, median of {arguments.repeats}")
    for heading in ("format", "rows", "MB", "seconds", "million rows/s", "bar"):
        table.add_column(heading, justify="left" if heading == "format" else "right")
    for name, (rows, seconds) in results.items():
        bar = "" if name == "JSON lines" else "met" if rows / seconds >= BAR else "missed"
        table.add_row(
            name,
            f"{rows:,}",
            f"{sizes[name] / 1e6:.0f}",
            f"{seconds:.3f}",
            f"{rows / seconds / 1e6:.2f}",
            bar,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
