"""What do scatter, experts, occupancy, launches and uneven ratios cost, and does theory know it?

A grid of random bundles with every effect at once, theory against simulator; then, on shared
traces, how much each effect moves the best ratio, every row checked by simulation.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.coupling import Coupling
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from afdplan.validation.effect_cells import BATCH, balanced_times, random_bundle
from afdplan.validation.laboratory import observe

TRACES = ("azure2023_conv", "servegen_deepseek_r1", "mooncake_conversation", "sharegpt_8k_llama2")
REQUESTS, RUNS = 600, 16
EFFECTS = {
    "none": {},
    "scatter 5 %": {"scatter": Scatter(attention=0.05, ffn=0.05)},
    "scatter 20 %": {"scatter": Scatter(attention=0.2, ffn=0.2)},
    "experts by chance, 16 ranks": {
        "experts": ExpertLoad(experts=256, experts_per_token=8, ranks_per_worker=16)
    },
    "busiest rank 1.3": {"experts": ExpertLoad(imbalance=1.3, imbalance_cv=0.3)},
    "transfers occupy the FFN": {"coupling": Coupling(send_ffn=1.0, receive_ffn=1.0)},
    "transfers occupy attention": {"coupling": Coupling(send_attention=1, receive_attention=1)},
    "one peer after another": {"coupling": Coupling(send_ffn=0.2, one_by_one=True)},
    "launch of a tenth of the FFN": {"coupling": Coupling(launch=20.0)},
}


def grid(count: int) -> Iterator[str]:
    """Yield the errors of theory against simulation over `count` random bundles."""
    r = random.Random(16)
    law = IndependentLengths(prompt="geometric:300", decode="geometric:150")
    errors: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(count):
        latency, bundle, is_strict = random_bundle(r, law)
        played = simulate(
            Scenario(bundle=bundle, latency=latency, lengths=law, requests_per_worker=1500)
        )
        problem = RatioProblem(
            law=law,
            latency=latency,
            batch_size=BATCH,
            ffn_workers=bundle.ffn_workers,
            microbatches=bundle.microbatches,
        )
        found = CycleModel(problem, problem.slot_loads()).evaluate(
            np.array([float(bundle.attention_workers)]), (0.99,)
        )
        errors[is_strict].append(
            (
                found.cycle[0] / played.cycle_time.value - 1,
                found.quantiles[0, 0] / played.step_time.p99.value - 1,
            )
        )
    for is_strict, name in ((True, "scatter to 10 %, max/mean to 1.3"), (False, "beyond")):
        mean, p99 = 100 * np.abs(np.array(errors[is_strict])).T
        yield (
            f"| {name} | {mean.size} | {np.median(mean):.2f} | {mean.max():.2f} | "
            f"{np.median(p99):.2f} | {p99.max():.2f} |"
        )


class Played:
    """Runs of one bundle under common seeds: throughput at the load that its law has.

    Throughput follows the mean load of the requests that were drawn, whose true mean is known: a
    control variate, one slope for all bundles of a row.
    """

    def __init__(self, problem: RatioProblem, workers: int, runs: int) -> None:
        load = problem.law.token_load().mean
        seen = [observe(_scenario(problem, workers, seed)) for seed in range(runs)]
        self.logs = np.log([one.throughput_per_instance.value for one in seen])
        self.loads = np.log([one.mean_token_load / load for one in seen])


def _scenario(problem: RatioProblem, workers: int, seed: int) -> Scenario:
    return Scenario(
        bundle=problem.bundle(workers),
        latency=problem.latency,
        lengths=problem.law,
        requests_per_worker=REQUESTS,
        replications=1,
        seed=seed,
    )


def at_true_load(played: dict[int, Played]) -> dict[int, np.ndarray]:
    """Return the logarithms of throughput of each run, by workers, at the mean load of the law."""
    loads = np.concatenate([one.loads - one.loads.mean() for one in played.values()])
    logs = np.concatenate([one.logs - one.logs.mean() for one in played.values()])
    slope = float(loads @ logs) / float(loads @ loads)
    return {workers: one.logs - slope * one.loads for workers, one in played.items()}


def moves(name: str, law: LengthLaw, runs: int) -> Iterator[str]:
    """Yield a row per effect: best ratios, what not knowing of it costs, and error."""
    plain = balanced_times(law, 8 * BATCH)
    blind = 0
    for effect, changes in EFFECTS.items():
        problem = RatioProblem(law=law, latency=replace(plain, **changes), batch_size=BATCH)
        found = recommend(problem)
        best = found.optimal_attention_workers
        blind = blind or best
        played: dict[int, Played] = {}
        wanted = {max(best - 1, 1), best, best + 1, blind}
        while wanted - set(played):
            for workers in wanted - set(played):
                played[workers] = Played(problem, workers, runs)
            logs = at_true_load(played)
            top = max(logs, key=lambda workers: logs[workers].mean())
            wanted = {max(top - 1, 1), top + 1}
        error = math.log(found.best.throughput_per_instance) - logs[best].mean()
        yield (
            f"| {name} | {effect} | {best} | {top} | {_lost(logs[top], logs[best])} | "
            f"{_lost(logs[top], logs[blind])} | {error:+.2%} |"
        )


def _lost(top: np.ndarray, other: np.ndarray) -> str:
    """Return what the other bundle gives up, with a 95 % interval over the common seeds."""
    lost = top - other
    if top is other:
        return "0"
    width = 2 * lost.std(ddof=1) / math.sqrt(lost.size)
    return f"{lost.mean():.2%} +- {width:.2%}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print("| bundles | count | tau median % | worst % | p99 median % | worst % |")
    print("|---|---|---|---|---|---|")
    for row in grid(12 if quick else 120):
        print(row, flush=True)
    shared = Path(os.environ.get("AFDPLAN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (shared / "traces").exists():
        print("no shared traces here: no table of moves (AFDPLAN_SHARED says where)")
        return
    print("\n| trace | effect | r* | as played | regret | of the blind r* | error |")
    print("|---|---|---|---|---|---|---|")
    for name in TRACES[: 1 if quick else None]:
        law = EmpiricalLengths(read_trace(shared / "traces" / f"{name}.csv"))
        for row in moves(name, law, 4 if quick else RUNS):
            print(row, flush=True)


if __name__ == "__main__":
    main()
