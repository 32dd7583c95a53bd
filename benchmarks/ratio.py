"""How long does a ratio take: closed form, exact curve of 64 ratios, whole process?"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from afdplan.files.example_trace import example_trace_path
from afdplan.files.latency_file import load_latency
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import RatioProblem

REPEATS = 9


def milliseconds(task: Callable[[], object], calls: int = 1) -> float:
    """Return the median time of one call, after one call to warm up."""
    task()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(calls):
            task()
        times.append((time.perf_counter() - start) / calls)
    return 1e3 * statistics.median(times)


def curve(law: EmpiricalLengths | IndependentLengths, m: int) -> Callable[[], object]:
    """Return a task that computes the exact pipelined curve for 64 ratios at B = 256."""
    import numpy as np

    problem = RatioProblem(
        law=law, latency=load_latency("deepseek-v3-ascend-910c"), batch_size=256, microbatches=m
    )
    workers = np.arange(1.0, 65.0)
    return lambda: CycleModel(problem, problem.slot_loads()).evaluate(workers)


def process(*arguments: str) -> Callable[[], object]:
    """Return a task that runs the command line as a whole process."""
    command = [sys.executable, "-m", "afdplan", *arguments]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Print the table that benchmarks/README.md records."""
    latency = load_latency("deepseek-v3-ascend-910c")
    field = MeanField(
        latency=latency,
        mean_token_loads=(599.0,),
        batch_size=256,
        microbatches=2,
        overlap="pipelined",
    )
    geometric = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    wide = IndependentLengths(prompt="uniform:0..70000", decode="uniform:1..30000")
    long = EmpiricalLengths(Trace(prompt_tokens=[50, 99_000], decode_tokens=[900, 1_000]))
    trace = str(example_trace_path())
    ratio = ("ratio", "--trace", trace, "--latency", latency.name, "--batch-size", "256", "--json")
    rows = [
        (
            "closed form, one optimum",
            milliseconds(
                lambda: field.optimal_ratio(ffn_weight=1.0, lowest=1.0, highest=64.0), 100
            ),
            1.0,
        ),
        *(
            (
                f"exact curve, 64 ratios, geometric, m = {m}",
                milliseconds(curve(geometric, m)),
                100.0,
            )
            for m in (1, 2, 3, 4)
        ),
        ("the same, m = 2, loads to 100,000 tokens", milliseconds(curve(wide, 2)), 100.0),
        ("the same, m = 2, two kinds of requests", milliseconds(curve(long, 2)), 100.0),
        ("process: afdplan ratio, 20,000-row trace", milliseconds(process(*ratio)), 1500.0),
        ("process: afdplan --help", milliseconds(process("--help")), 200.0),
        ("process: python -c pass", milliseconds(_python), None),
    ]
    table = Table("task", "median", "bar", title="Ratio")
    for name, value, bar in rows:
        table.add_row(name, f"{value:,.3g} ms", "" if bar is None else f"{bar:,.0f} ms")
    Console().print(table)


def _python() -> object:
    return subprocess.run([sys.executable, "-c", "pass"], check=True)


if __name__ == "__main__":
    main()
