"""What does placing requests by load give back, at which ratio, and does anybody starve?

Saturated: the best ratio as played for each policy, beside blind placement and beside the theory,
on requests that all designs share. Open: 90 % of what blind placement can finish arrives.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.placement_gain import placement_gain
from afdplan.planning.simulated_ratio import recovered, simulate_ratio, simulated_scenario
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals
from afdplan.statistics.replications import ratio_estimate
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from benchmarks.machine import describe_machine, load_warning

WORKERS = 16
POLICIES = (
    ("longest-prompt", 1),
    ("longest-prompt", 4),
    ("longest-prompt-rank", 1),
    ("fewest-tokens", 1),
)
OPEN_RUNS = 4


def balanced(law: EmpiricalLengths, batch: int) -> LatencyModel:
    """Return times in which 16 attention workers at their mean load take as long as the FFN."""
    load = batch * law.token_load().mean
    return LatencyModel.linear(
        attention=(250.0 / load, 50.0), ffn=(200.0 / (WORKERS * batch), 100.0), transfer=(0.0, 20.0)
    )


def percent(value: Estimate) -> str:
    """Return a share with its interval."""
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def saturated(law: EmpiricalLengths, name: str, batch: int, microbatches: int) -> list[str]:
    """Return a row per policy: barrier, given back, ratios, regret, waits."""
    problem = RatioProblem(
        law=law, latency=balanced(law, batch), batch_size=batch, microbatches=microbatches
    )
    blind, rows = recommend(problem), []
    for policy, window in POLICIES:
        start = time.perf_counter()
        changes = {"placement": policy, "placement_window": window}
        played = simulate_ratio(
            problem,
            blind,
            partial(simulated_scenario, **changes),
        )
        took, gain = time.perf_counter() - start, played.gain
        known = (
            placement_gain(problem, blind.optimal_attention_workers, policy)
            if window == 1
            else None
        )
        share = gain.given_back.moved(1 / gain.barrier_cost.value)
        theory = "" if known is None else f"{100 * known.given_back.value:.1f}"
        run = simulate(
            simulated_scenario(
                problem, gain.attention_workers, replications=2, requests_per_worker=2000, **changes
            )
        )
        rows.append(
            f"| {name} | {microbatches} | {policy}{f', K = {window}' if window > 1 else ''} | "
            f"{percent(gain.barrier_cost)} | {percent(gain.given_back)} | {theory} | "
            f"{100 * share.value:.0f} ({100 * share.low:.0f} to {100 * share.high:.0f}) | "
            f"{gain.blind_attention_workers} | {gain.attention_workers} | "
            f"{'' if known is None else known.attention_workers} | "
            f"{percent(gain.regret_of_blind)} | {run.waiting_steps_p999:.1f} | {took:.1f} |"
        )
    return rows


def foreseen(law: EmpiricalLengths, name: str, batch: int, microbatches: int) -> str:
    """Return what known outputs would add, at the A that is best blind."""
    problem = RatioProblem(
        law=law, latency=balanced(law, batch), batch_size=batch, microbatches=microbatches
    )
    found = recovered(problem, recommend(problem).optimal_attention_workers)
    words = ("-", "-") if found is None else map(percent, (found.prompts_only, found.outputs_known))
    return f"| {name} | {microbatches} | {' | '.join(words)} |"


def arriving(law: EmpiricalLengths, name: str, batch: int, microbatches: int) -> list[str]:
    """Return a row per policy at 90 % load: time per output token, barrier, waits."""
    problem = RatioProblem(
        law=law, latency=balanced(law, batch), batch_size=batch, microbatches=microbatches
    )
    count = recommend(problem).optimal_attention_workers
    most = simulate(simulated_scenario(problem, count, replications=2, requests_per_worker=2000))
    rate = 0.9 * most.throughput_per_instance.value * (count + 1) / law.mean_decode_tokens
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for policy, window in (("round-robin", 1), ("fewest-requests", 1), *POLICIES):
        scenario = simulated_scenario(
            problem,
            count,
            placement=policy,
            placement_window=window,
            start="fresh",
            arrivals=Arrivals(process="poisson", rate=rate),
            replications=2,
            requests_per_worker=3000,
        )
        runs = [simulate(replace(scenario, seed=seed)) for seed in range(OPEN_RUNS)]
        found[policy, window] = [
            np.array(values)
            for values in zip(
                *(
                    (
                        run.request_time_per_output_token.mean.value,
                        run.attention_idle_causes["barrier"],
                        run.waiting_steps_p999,
                    )
                    for run in runs
                ),
                strict=True,
            )
        ]
    tpot, idle, _ = found["round-robin", 1]
    rows = []
    for (policy, window), (mine, barrier, waits) in found.items():
        faster = ratio_estimate(mine, tpot).moved(-1.0, 1.0)
        less = ratio_estimate(barrier, idle).moved(-1.0, 1.0)
        rows.append(
            f"| {name} | {microbatches} | {policy}{f', K = {window}' if window > 1 else ''} | "
            f"{count} | {percent(faster)} | {100 * idle.mean():.1f} | {percent(less)} | "
            f"{waits.mean():.1f} |"
        )
    return rows


def main() -> None:
    """Print the tables that placement.md records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), metavar="FOLDER")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="the bundled trace, 32 slots, m = 2")
    options = parser.parse_args()
    paths, batch, counts = sorted(options.traces.glob("*.csv")), options.batch_size, (2, 3)
    if options.quick:
        paths, batch, counts = [Path(example_trace_path())], 32, (2,)
    if not paths:
        parser.error(f"--traces: no *.csv in {options.traces}; name a folder with traces")
    laws = [(path.stem.partition(".")[0], EmpiricalLengths(read_trace(path))) for path in paths]
    print(describe_machine(), load_warning() or "idle machine", "", sep="\n")
    print(
        "| trace | m | policy | barrier costs, % | given back, % | theory | share of it, % "
        "| blind A | A | theory | regret of the blind A, % | p99.9 of the wait, steps | s |\n"
        f"|{'---|' * 13}"
    )
    for name, law in laws:
        for microbatches in counts:
            print("\n".join(saturated(law, name, batch, microbatches)), flush=True)
    print("\n| trace | m | by prompts, % of the barrier | outputs known, % |\n|---|---|---|---|")
    for name, law in laws:
        for microbatches in counts:
            print(foreseen(law, name, batch, microbatches), flush=True)
    print(
        "\n| trace, 90 % load | m | policy | A | shorter time per token, % | barrier idle, % "
        f"| less of it, % | p99.9 of the wait, steps |\n|{'---|' * 8}"
    )
    for name, law in laws:
        for microbatches in counts:
            print("\n".join(arriving(law, name, batch, microbatches)), flush=True)


if __name__ == "__main__":
    main()
