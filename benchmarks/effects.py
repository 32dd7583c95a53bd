"""What do scatter, experts, occupancy, launches and uneven ratios cost, and does theory know it?

A grid of random bundles with every effect at once, theory against simulator; then, on shared
traces, how much each effect moves the best ratio, every row checked by simulation.
"""

from __future__ import annotations

import argparse
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

TRACES = ("azure2023_conv", "servegen_deepseek_r1", "mooncake_conversation", "sharegpt_8k_llama2")
AROUND = 3
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


def simulated(problem: RatioProblem, workers: int, requests: int) -> float:
    """Return the throughput per instance as played."""
    scenario = Scenario(
        bundle=problem.bundle(workers),
        latency=problem.latency,
        lengths=problem.law,
        requests_per_worker=requests,
        replications=2,
    )
    return float(simulate(scenario).throughput_per_instance.value)


def moves(name: str, law: LengthLaw, requests: int) -> Iterator[str]:
    """Yield a row per effect: best ratios, what not knowing of it costs, and error."""
    plain = balanced_times(law, 8 * BATCH)
    blind = 0
    for effect, changes in EFFECTS.items():
        problem = RatioProblem(law=law, latency=replace(plain, **changes), batch_size=BATCH)
        found = recommend(problem)
        best = found.optimal_attention_workers
        blind = blind or best
        counts = sorted({*range(max(best - AROUND, 1), best + AROUND + 1), blind})
        played = {count: simulated(problem, count, requests) for count in counts}
        top = max(played, key=lambda count: played[count])
        error = found.best.throughput_per_instance / played[best] - 1
        yield (
            f"| {name} | {effect} | {best} | {top} | {1 - played[best] / played[top]:.2%} | "
            f"{1 - played[blind] / played[top]:.2%} | {error:+.2%} |"
        )


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
        for row in moves(name, law, 200 if quick else 600):
            print(row, flush=True)


if __name__ == "__main__":
    main()
