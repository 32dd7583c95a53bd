"""Does giving the longest prompt to the lightest worker recover the cost of the barrier?

Saturated and open, on real traces, with intervals over replications that share their requests.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario
from afdplan.statistics.replications import ratio_estimate

POLICIES = ("round-robin", "least-requests", "least-tokens", "longest-prompt")
REPLICATIONS = 6
SKIPPED = ("claude_code_agentic.csv", "lmcache_miniswe.csv")


def balanced(law: EmpiricalLengths, workers: int, batch: int, microbatches: int) -> LatencyModel:
    """Return times in which attention at its mean load takes as long as the FFN."""
    load = batch * (
        law.mean_prompt_tokens + law.mean_squared_decode_tokens / 2 / law.mean_decode_tokens
    )
    return LatencyModel.linear(
        attention=(250.0 / load, 50.0), ffn=(200.0 / (workers * batch), 100.0), transfer=(0.0, 20.0)
    )


def throughputs(scenario: Scenario, policy: str) -> tuple[np.ndarray, np.ndarray]:
    found, waits = [], []
    for k in range(REPLICATIONS):
        one = replace(
            scenario, placement=policy, seed=scenario.seed + k, replications=2, window="steady"
        )
        result = simulate(one)
        found.append(result.throughput_per_instance.value)
        waits.append(result.waiting_time.mean.value if result.waiting_time else 0.0)
    return np.array(found), np.array(waits)


def row(name: str, scenario: Scenario) -> str:
    base, base_wait = throughputs(scenario, "round-robin")
    flat = replace(scenario, bundle=replace(scenario.bundle, attention_workers=1))
    cells = []
    # Without a barrier: one worker with the same load, the FFN time of the whole bundle.
    latency = scenario.latency
    workers = scenario.bundle.attention_workers
    alone = replace(
        flat,
        latency=replace(latency, ffn=replace(latency.ffn, slope=latency.ffn.slope * workers)),
        requests_per_worker=4 * scenario.requests_per_worker,
    )
    if scenario.arrivals is None:
        free, _ = throughputs(alone, "round-robin")
        free = free * 2 / (workers + 1) * workers
        lost = free.mean() - base.mean()
    for policy in POLICIES[1:]:
        mine, wait = throughputs(scenario, policy)
        gain = ratio_estimate(mine, base)
        low, value, high = (100 * (g - 1) for g in (gain.low, gain.value, gain.high))
        text = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
        if scenario.arrivals is None:
            text += f", {100 * (mine.mean() - base.mean()) / lost:.0f} %"
        else:
            text += f", wait x {wait.mean() / max(base_wait.mean(), 1e-12):.3f}"
        cells.append(text)
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table that simulator.md records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), metavar="FOLDER")
    parser.add_argument("--requests", type=int, default=2000, help="per worker")
    parser.add_argument("--quick", action="store_true", help="the bundled trace, 200 requests")
    options = parser.parse_args()
    paths = [path for path in sorted(options.traces.glob("*.csv")) if path.name not in SKIPPED]
    requests = options.requests
    if options.quick:
        paths, requests = [Path(example_trace_path())], 200
    if not paths:
        parser.error(f"--traces: no *.csv in {options.traces}; name a folder with traces")
    print("| trace | least-requests | least-tokens | longest-prompt |\n|---|---|---|---|")
    for mode in ("saturated", "open at 90 % of saturation"):
        for path in paths:
            law = EmpiricalLengths(read_trace(path))
            bundle = Bundle(attention_workers=8, batch_size=64)
            scenario = Scenario(
                bundle=bundle,
                latency=balanced(law, 8, 64, 2),
                lengths=law,
                requests_per_worker=requests,
            )
            if mode != "saturated":
                rate = simulate(replace(scenario, replications=2)).throughput_per_instance.value
                rate *= 0.9 * 9 / law.mean_decode_tokens
                scenario = replace(
                    scenario, start="fresh", arrivals=Arrivals(process="poisson", rate=rate)
                )
            print(row(f"{path.stem}, {mode}", scenario), flush=True)


if __name__ == "__main__":
    main()
