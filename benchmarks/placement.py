"""What does placing requests by load give back, at which ratio, and does anybody starve?

Saturated: the best ratio as played for each policy, beside blind placement and beside the theory,
on requests that all designs share. Open: 90 % of what blind placement can finish arrives.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.placement_gain import PlacementGain, placement_gain
from afdplan.planning.simulated_ratio import simulate_ratio, simulated_scenario
from afdplan.simulation.paired import Paired, play_paired
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
OTHER_SEED, CHECKING = 1, 8
"""Of the requests on which every A is played, and how many runs of each."""
SATURATED = (
    "trace",
    "m",
    "barrier costs, %",
    "longest-prompt gives back, %",
    "theory",
    "its step with it, % off",
    "share of it, %",
    "share if outputs were known, %",
    "A blind, balanced (theory)",
    "regret of the blind A, %",
    "of the recommended A, %",
    "of the theory's A, %",
    "share with K = 4, %",
    "share of longest-prompt-rank, %",
    "of fewest-tokens, %",
    "p99.9 of their waits, steps",
)
ARRIVING = (
    "trace",
    "m",
    "policy",
    "A",
    "shorter time per token, %",
    "idle at the barrier, %",
    "less of it, %",
    "p99.9 of the wait from arrival, steps",
)


def balanced(law: EmpiricalLengths, batch: int) -> LatencyModel:
    """Return times in which 16 attention workers at their mean load take as long as the FFN."""
    load = batch * law.token_load().mean
    return LatencyModel.linear(
        attention=(250.0 / load, 50.0), ffn=(200.0 / (WORKERS * batch), 100.0), transfer=(0.0, 20.0)
    )


def percent(value: Estimate) -> str:
    """Return a share with its interval."""
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def problem_of(law: EmpiricalLengths, batch: int, microbatches: int) -> RatioProblem:
    """Return the bundle that is asked about, near balance."""
    latency = balanced(law, batch)
    return RatioProblem(law=law, latency=latency, batch_size=batch, microbatches=microbatches)


def share_of(gain: PlacementGain) -> str:
    """Return the share of the barrier's cost that is given back."""
    share = gain.given_back.moved(1 / gain.barrier_cost.value)
    return f"{100 * share.value:.0f} ({100 * share.low:.0f} to {100 * share.high:.0f})"


def saturated(law: EmpiricalLengths, name: str, batch: int, microbatches: int) -> list[str]:
    """Return one row: barrier, given back, ratios, regrets, the theory's error, waits."""
    problem = problem_of(law, batch, microbatches)
    blind = recommend(problem)
    here = blind.optimal_attention_workers
    found, waits = {}, []
    for policy, window in POLICIES:
        play = partial(simulated_scenario, placement=policy, placement_window=window)
        found[policy, window] = simulate_ratio(problem, blind, play).gain
        run = play(problem, here, replications=2, requests_per_worker=2000)
        waits.append(f"{simulate(run).waiting_steps_p999:.1f}")
    gain, known = found[POLICIES[0]], placement_gain(problem, here)
    if known is None:
        raise AssertionError("the theory knows longest-prompt")
    off = known.time_per_output_token / step_of(problem, known.attention_workers) - 1
    cells = (
        name,
        microbatches,
        percent(gain.barrier_cost),
        percent(gain.given_back),
        f"{100 * known.given_back.value:.1f}",
        f"{100 * off:+.2f}",
        share_of(gain),
        "-" if gain.recovered is None else percent(gain.recovered.outputs_known),
        f"{here}, {gain.attention_workers} ({known.attention_workers})",
        percent(gain.regret_of_blind),
        *(given_up(problem, a) for a in (gain.attention_workers, known.attention_workers)),
        *(share_of(found[one]) for one in POLICIES[1:]),
        ", ".join(waits),
    )
    return [f"| {' | '.join(map(str, cells))} |"]


def placed(problem: RatioProblem, count: int) -> Paired:
    """Return longest-prompt with A = `count` on requests that no search has seen."""
    scenario = simulated_scenario(problem, count, placement=POLICIES[0][0], seed=OTHER_SEED)
    return play_paired(scenario, CHECKING)


def step_of(problem: RatioProblem, count: int) -> float:
    """Return the time per output token with A = `count`, as played."""
    return placed(problem, count).step_time.value / problem.latency.tokens_per_step


def given_up(problem: RatioProblem, recommended: int) -> str:
    """Return what a recommended A gives up against the best of every A around it, all played."""
    around = range(max(round(0.7 * recommended), 1), round(1.35 * recommended) + 1)
    runs = {count: placed(problem, count) for count in around}
    cost = {count: count + problem.ffn_weight * problem.ffn_workers for count in around}
    best = max(around, key=lambda count: runs[count].throughput.value / cost[count])
    ratio = cost[best] / cost[recommended]
    return percent(runs[recommended].against(runs[best], ratio).moved(-1.0, 1.0))


def arriving(law: EmpiricalLengths, name: str, batch: int, microbatches: int) -> list[str]:
    """Return a row per policy at 90 % load: time per output token, barrier, waits."""
    problem = problem_of(law, batch, microbatches)
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
    for heads in (SATURATED, ARRIVING):
        print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for name, law in laws:
            for microbatches in counts:
                rows = saturated if heads is SATURATED else arriving
                print(*rows(law, name, batch, microbatches), sep="\n", flush=True)


if __name__ == "__main__":
    main()
