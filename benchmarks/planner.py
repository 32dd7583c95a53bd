"""What does the planner's search save against simulating every design, and what does it lose?

An engineer without it would simulate every legal (devices per attention worker, A, F, B, m) and
keep the best that meets the limits. That is done here in full on a small space, and both answers
are then simulated again, longer and with other requests, and judged by that. For 64 devices and
all batch sizes the time per design is measured on a sample and multiplied by their number.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.latency import LatencyModel
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import make_plan
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import LatencySource, MeasuredSource
from afdplan.planning.space import SearchSpace
from benchmarks.judgement import Judgement, cache_tokens, judge

REPLICATIONS = 3  # runs per design
AGAIN = 25  # times as many for the two answers
OVERFLOW = 0.01  # the 99th percentile of a worker's KV tokens, which the simulator reports
DEVICES = 64  # budget of the question that is too large to be tried in full
SAMPLE = 8  # of its designs, whose simulation is timed


@dataclass(frozen=True)
class Case:
    """A question to both, and the small space that is tried in full."""

    law: LengthLaw
    source: Callable[[], LatencySource]
    limits: Limits
    batch_sizes: tuple[int, ...]


def cases() -> dict[str, Case]:
    """Return the three questions."""
    geometric = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    long = IndependentLengths(prompt="geometric:2000", decode="geometric:500")
    trace = EmpiricalLengths(read_trace(example_trace_path()))
    # The published coefficients, with the unit that nobody published read as a microsecond.
    paper = LatencyModel.linear(
        attention=(0.00165e-6, 50e-6),
        ffn=(0.083e-6, 100e-6),
        transfer=(0.022e-6, 20e-6),
        time_unit="s",
        name="the paper's coefficients in us",
    )
    return {
        "paper's coefficients in us, geometric": Case(
            geometric,
            lambda: MeasuredSource(paper, kv_tokens=300_000),
            Limits(devices=8, time_per_output_token=700e-6, overflow_probability=OVERFLOW),
            (64, 128, 192, 208, 224, 240),
        ),
        "DeepSeek-V3 on H200, geometric": Case(
            long,
            lambda: DerivedSource(
                place(find_model("deepseek-v3"), find_hardware("h200")), attention_devices=(1,)
            ),
            Limits(devices=24, time_per_output_token=0.05, overflow_probability=OVERFLOW),
            (16, 32, 48, 64, 96, 128),
        ),
        "Qwen3-30B on H100, bundled trace, p99": Case(
            trace,
            lambda: DerivedSource(
                place(find_model("qwen3-30b-a3b"), find_hardware("h100-sxm")),
                attention_devices=(1,),
            ),
            Limits(
                devices=8,
                time_per_output_token=0.03,
                statistic="p99",
                overflow_probability=OVERFLOW,
            ),
            (32, 64, 96, 128, 160, 192),
        ),
    }


def every_design(case: Case, source: LatencySource, space: SearchSpace) -> list[Design]:
    """Return every legal design whose mean memory fits, with as many bundles as there is room.

    That is all that can be left out without a simulation: more slots than the cache holds on
    average.
    """
    total, mean_load = case.limits.devices or 0, case.law.token_load().mean
    found = []
    for devices in source.attention_devices:
        room = cache_tokens(source, devices)
        for ffn in source.ffn_workers(total // source.ffn_devices):
            most = (total - ffn * source.ffn_devices) // devices
            least = source.least_device_ratio * ffn * source.ffn_devices / devices
            for attention in range(1, most + 1):
                if attention < least:
                    continue
                size = attention * devices + ffn * source.ffn_devices
                found += [
                    Design(
                        bundles=total // size,
                        attention_workers=attention,
                        ffn_workers=ffn,
                        batch_size=batch,
                        microbatches=microbatches,
                        attention_devices=devices,
                        ffn_devices=source.ffn_devices,
                    )
                    for batch in space.batch_sizes
                    for microbatches in space.microbatches
                    if batch * microbatches * mean_load <= room
                ]
    return found


def timed(task: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """Return the answer and the median processor time [s]."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        answer = task()
        times.append(time.process_time() - start)
    return answer, statistics.median(times)


def compare(name: str, case: Case, *, quick: bool) -> list[str]:
    """Return the rows of one case: small space, limits, default space."""
    repeats, runs = (1, 2) if quick else (3, REPLICATIONS)
    source = case.source()
    space = SearchSpace(batch_sizes=case.batch_sizes[:: -2 if quick else 1])

    limit = case.limits.time_per_output_token or math.inf

    def search(case: Case, space: SearchSpace) -> Design:
        found = DesignSearch(case.law, case.source(), space, DeviceCost()).best(case.limits)
        if found is None:
            raise RuntimeError(f"{name}: the planner found no design, the benchmark expects one")
        return found.design

    def ask(design: Design, seed: int, runs: int) -> Judgement:
        statistic = case.limits.statistic
        return judge(case.law, source, design, statistic=statistic, seed=seed, runs=runs)

    planned, ours = timed(lambda: search(case, space), repeats)
    designs = every_design(case, source, space)
    swept, brute = timed(lambda: [ask(d, 0, runs) for d in designs])
    legal = [found for found in swept if found.holds(limit)]
    best = max(legal, key=lambda found: found.tokens_per_second).design
    again = {d: ask(d, 1, AGAIN * runs) for d in {planned, best}}
    mine, theirs = again[planned], again[best]
    noise = (mine.noise**2 + theirs.noise**2) ** 0.5 if planned != best else 0.0

    wide = replace(case, limits=replace(case.limits, devices=DEVICES))
    whole = SearchSpace()
    _, large = timed(lambda: search(wide, whole), repeats)
    _, plan = timed(lambda: make_plan(wide.law, wide.source(), wide.limits, space=whole))
    everything = every_design(wide, source, whole)
    sample = random.Random(0).sample(everything, 4 if quick else SAMPLE)
    _, spent = timed(lambda: [ask(d, 0, runs) for d in sample])
    regret = 1 - mine.tokens_per_second / theirs.tokens_per_second
    each = spent / len(sample)
    guess = each * len(everything)
    return [
        f"| {name} | {len(designs):,} | {1e3 * ours:,.0f} ms | {brute:,.1f} s "
        f"| {brute / ours:,.0f} | {regret:+.2%} +/- {noise:.2%} |",
        *(
            f"| {name}, {who} | {found.design} | {1e3 * found.time_per_output_token:.4g} ms "
            f"| {1e3 * limit:g} ms | {found.cache:.1%} |"
            for who, found in (("planner", mine), ("brute force", theirs))
        ),
        f"| {name} | {len(everything):,} | {large:,.2f} s | {plan:,.2f} s "
        f"| {1e3 * each:,.0f} ms | {guess / 3600:,.1f} h | {guess / large:,.0f} |",
    ]


HEADS = (
    "| small space | designs | search | brute force | brute / search | regret, simulated |",
    "| simulated again, longer | answer | TPOT | limit | KV tokens, p99 of room |",
    "| 64 devices, every B | designs | search | plan | one design | brute force | brute / search |",
)


def main() -> None:
    """Print the tables that benchmarks/README.md records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every second B, half the runs")
    quick = parser.parse_args().quick
    asked = cases()
    first = next(iter(asked.values()))
    warm = Design(bundles=1, attention_workers=1, ffn_workers=1, batch_size=8)
    judge(first.law, first.source(), warm, seed=0, runs=2)  # compiles the kernel
    rows = []
    for name, case in asked.items():
        start = time.perf_counter()
        rows.append(compare(name, case, quick=quick))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    small, mine, theirs, large = zip(*rows, strict=True)
    pairs = [line for both in zip(mine, theirs, strict=True) for line in both]
    for head, lines in zip(HEADS, (small, pairs, large), strict=True):
        print(f"\n{head}\n|{'---|' * (head.count('|') - 1)}")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
