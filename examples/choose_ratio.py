"""From a trace and a latency model to the ratio, its neighbours and its certainty."""

from __future__ import annotations

import sys

import afdplan
from afdplan.files.traces.example import example_trace_path


def main(path: str) -> None:
    """Print what a planner wants to know about one trace."""
    trace = afdplan.read_trace(path)
    load = afdplan.token_load_estimate(trace)
    print(f"{trace.requests:,} requests; a slot holds {load.value:,.0f} tokens on average")
    print(f"({load.low:,.0f} to {load.high:,.0f} with {load.confidence:.0%} confidence)")

    latency = afdplan.load_latency("deepseek-v3-ascend-910c")
    answer = afdplan.recommend_ratio(
        afdplan.EmpiricalLengths(trace), latency, batch_size=128, token_load=load
    )
    print(answer)
    low, high = answer.near_equal
    for point in answer.curve:
        if point.attention_workers in (low, answer.optimal_attention_workers, high):
            print(f"  A = {point.attention_workers:3}: regret {point.regret:.2%}")
    if answer.uncertainty is not None:
        print(f"over the load's interval: {answer.uncertainty.low} to {answer.uncertainty.high}")
    for warning in answer.warnings:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(example_trace_path()))
