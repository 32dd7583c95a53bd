"""What does `recommend_ratio` save against trying every number of workers in the simulator?

The sweep simulates every A up to a limit until its throughput is known to 0.5 %, all designs with
the same requests, and keeps the best. Regret is judged by the same simulations.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace

from afdplan.files.latency_file import load_latency
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import Transfer
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.recommend import recommend_ratio


def cases() -> dict[str, tuple[LengthLaw, LatencyModel, int, int, int]]:
    """Return law, latency, batch size, microbatches and largest A of each case."""
    paper = load_latency("deepseek-v3-ascend-910c")
    link = Transfer(curve=LinearCurve(slope=0.05, intercept=20.0), load="aggregate")
    growing = replace(paper, name="growing transfers", send=link, receive=link)
    geometric = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    trace = EmpiricalLengths(read_trace(example_trace_path()))
    return {
        "paper's baseline, m = 2": (geometric, paper, 256, 2, 16),
        "paper's baseline, m = 3": (geometric, paper, 170, 3, 24),
        "transfers that grow with A": (geometric, growing, 256, 2, 16),
        "bundled trace, B = 64": (trace, paper, 64, 2, 48),
    }


def main() -> None:
    """Print the table that benchmarks/README.md records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every fourth A, to 2 %%")
    quick = parser.parse_args().quick
    warm = Bundle(attention_workers=1, batch_size=2)
    law = IndependentLengths(prompt="1", decode="geometric:5")
    latency = load_latency("deepseek-v3-ascend-910c")
    simulate(Scenario(bundle=warm, latency=latency, lengths=law, requests_per_worker=500))
    recommend_ratio(law, latency, batch_size=2)
    print("| case | ratio: A, ms | sweep: A, s | sweep / ratio | regret of ratio's A, simulated |")
    print("|---|---|---|---|---|")
    for name, (law, latency, batch, microbatches, limit) in cases().items():
        start = time.process_time()
        answer = recommend_ratio(law, latency, batch_size=batch, microbatches=microbatches)
        ours = time.process_time() - start
        chosen = answer.optimal_attention_workers
        start = time.process_time()
        found = {
            count: simulate(
                Scenario(
                    bundle=Bundle(
                        attention_workers=count, batch_size=batch, microbatches=microbatches
                    ),
                    latency=latency,
                    lengths=law,
                    requests_per_worker=1000,
                    precision=0.02 if quick else 0.005,
                )
            ).throughput_per_instance
            for count in sorted({*range(1, limit + 1, 4 if quick else 1), chosen})
        }
        sweep = time.process_time() - start
        best = max(found, key=lambda count: found[count].value)
        regret = 1 - found[chosen].value / found[best].value
        noise = math.hypot(found[chosen].relative_half_width, found[best].relative_half_width)
        print(
            f"| {name} | {chosen}, {1e3 * ours:,.0f} ms | {best}, {sweep:,.1f} s "
            f"| {sweep / ours:,.0f} | {regret:.2%} +/- {noise:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
