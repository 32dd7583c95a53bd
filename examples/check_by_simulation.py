"""Does the simulator, which knows no formula, agree with the theory about the best ratio?"""

from __future__ import annotations

import afdplan
from afdplan.model.bundle import Bundle
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario


def main() -> None:
    """Print theory beside simulation around the optimum of the paper's baseline."""
    requests = afdplan.IndependentLengths(prompt="geometric:100", decode="geometric:500")
    latency = afdplan.load_latency("deepseek-v3-ascend-910c")
    answer = afdplan.recommend_ratio(requests, latency, batch_size=256)
    print(answer)
    best = answer.optimal_attention_workers
    print("  A   theory   simulated (95 % interval)   difference")
    for workers in (best - 3, best, best + 3):
        scenario = Scenario(
            bundle=Bundle(attention_workers=workers, batch_size=256),
            latency=latency,
            lengths=requests,
            requests_per_worker=10_000,
        )
        found = simulate(scenario).throughput_per_instance
        theory = answer.curve[workers - 1].throughput_per_instance
        print(
            f"{workers:3}   {theory:.4f}   {found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
            f"   {theory / found.value - 1:+.2%}"
        )


if __name__ == "__main__":
    main()
