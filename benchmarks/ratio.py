"""How long does a ratio take: closed form, exact curve of 64 ratios, whole process?"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from afdplan.files.latency_file import load_latency
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.trace import Trace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

REPEATS = 9


def milliseconds(
    task: Callable[[], object], calls: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median time of one call, after one call to warm up."""
    task()
    times = []
    for _ in range(REPEATS):
        start = clock()
        for _ in range(calls):
            task()
        times.append((clock() - start) / calls)
    return 1e3 * statistics.median(times)


def recommendation(law: LengthLaw, batch_size: int, m: int) -> Callable[[], object]:
    """Return a task that recommends one of 64 ratios, from the law of lengths on."""
    latency = load_latency("deepseek-v3-ascend-910c")
    return lambda: recommend_ratio(
        law, latency, batch_size=batch_size, microbatches=m, max_attention_workers=64
    )


def heavy_tails(folder: Path) -> dict[str, LengthLaw]:
    """Return laws with long tails, and the traces of `folder`."""
    two_kinds = Trace(prompt_tokens=[500] * 50 + [80_000], decode_tokens=[400] * 50 + [300])
    laws: dict[str, LengthLaw] = {
        f"lognormal, mean {mean:,}, cv {cv}": IndependentLengths(
            prompt=f"lognormal:mean={mean},cv={cv}", decode="geometric:500"
        )
        for mean, cv in ((12_000, 1.3), (4_000, 2), (2_000, 3))
    }
    laws["50 short requests to a long one"] = EmpiricalLengths(two_kinds)
    files = [example_trace_path(), *sorted(folder.glob("*.csv"))]
    for file in files:
        laws[file.name] = EmpiricalLengths(read_trace(file))
    return laws


def print_heavy_tails(folder: Path) -> None:
    """Print the processor time of a recommendation, law by law."""
    sizes = (16, 64, 256)
    table = Table("lengths", *(f"B = {b}" for b in sizes), title="Recommendation, 64 ratios")
    for name, law in heavy_tails(folder).items():
        cells = [
            " / ".join(
                f"{milliseconds(recommendation(law, b, m), clock=time.process_time):.0f}"
                for m in (2, 3, 4)
            )
            for b in sizes
        ]
        table.add_row(name, *cells)
    Console().print(table)
    Console().print("processor time in ms for m = 2 / 3 / 4; the bar is 100 ms")


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
    """Print the tables that benchmarks/README.md records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), metavar="FOLDER")
    options = parser.parse_args()
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
    print_heavy_tails(options.traces)


def _python() -> object:
    return subprocess.run([sys.executable, "-c", "pass"], check=True)


if __name__ == "__main__":
    main()
