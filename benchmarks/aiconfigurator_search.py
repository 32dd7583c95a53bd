"""What do aiconfigurator's AFD search and afdplan recommend, promise and deliver?

Both answer the same question with the same times: those of its own operator tables, as its
`AFDInferenceSession` adds them up. What differs is the model of the requests. Its search gives
every request the same prompt and output lengths and every attention worker the same load, and
takes the largest stage of a cycle; afdplan plans with the law of lengths and the barrier. What the
designs deliver is simulated with random lengths and, again, its times.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from afdplan.deploy.pairs import PairRule
from afdplan.deploy.target import ANY, Target
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.space import SearchSpace
from afdplan.theory.recommend import recommend_ratio
from benchmarks.aiconfigurator_times import GPUS_PER_NODE, PeerTimes, missing_peer, peer_task
from benchmarks.judgement import judge

MODEL, SYSTEM, BACKEND = "Qwen/Qwen3-235B-A22B", "h200_sxm", "vllm"
TPOT = 0.08
OVERFLOW = 0.01
MICROBATCHES = (2, 3, 4)  # what its search tries
BATCH_SIZES = (*range(8, 129, 8), *range(144, 257, 16), *range(288, 513, 32))
LARGEST_LOAD = 16_384
RATIO_REQUESTS = (64, 128, 256)  # per attention worker, two microbatches
RATIO_NODES = range(1, 8)


WHOLE_NODES = PairRule(
    words="every bundle's attention side fills whole nodes: all that its search can ask for",
    test=lambda a, f, da, df: (a * da % GPUS_PER_NODE == 0) & (f >= 1),
)
RULES = {
    "whole nodes": replace(ANY, name="whole nodes", microbatches=MICROBATCHES, pairs=WHOLE_NODES),
    "any A": replace(ANY, name="any A", microbatches=MICROBATCHES),
}


@dataclass(frozen=True)
class Question:
    """Requests, and what its search is told of them: one prompt and one output length."""

    law: LengthLaw
    mean_lengths: tuple[int, int]  # what a trace's averages say

    @property
    def told_load(self) -> tuple[int, int]:
        """Lengths whose average context is the true mean token load of a slot."""
        output = self.mean_lengths[1]
        return round(self.law.token_load().mean - output / 2), output

    @property
    def contexts(self) -> tuple[int, ...]:
        mean = self.law.token_load().mean
        return tuple(round(mean * share) for share in (0.125, 0.5, 1, 1.5, 2, 4, 8))


def questions() -> dict[str, Question]:
    """Return the bundled trace, and long prompts of bounded spread."""
    trace = read_trace(example_trace_path())
    means = round(trace.prompt_tokens.mean()), round(trace.decode_tokens.mean())
    long = IndependentLengths(prompt="uniform:2000..22000", decode="geometric:350")
    return {
        "bundled trace": Question(EmpiricalLengths(trace), means),
        "long prompts": Question(long, (12_000, 350)),
    }


def seconds(task: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Return the answer and the median processor time [s]."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        answer = task()
        times.append(time.process_time() - start)
    return answer, statistics.median(times)


def its_search(lengths: tuple[int, int], gpus: int) -> dict[str, Any]:
    """Return the row of its search with the most tokens/s per GPU under the TPOT limit."""
    task = peer_task(
        MODEL,
        SYSTEM,
        BACKEND,
        total_gpus=gpus,
        isl=lengths[0],
        osl=lengths[1],
        tpot=1e3 * TPOT,
        ttft=1e9,
        afd_max_af_ratio=float(gpus),
    )
    return task.run().iloc[0].to_dict()


def design_of(row: dict[str, Any]) -> Design:
    """Return its answer as a design; a part of a request per microbatch is rounded up, as there."""
    return Design(
        bundles=1,
        attention_workers=int(row["(a)workers"]),
        ffn_workers=int(row["(f)nodes"]),
        batch_size=int(row["(a)micro_bs"]),
        microbatches=int(row["num_microbatches"]),
        attention_devices=int(row["(a)tp"]),
        ffn_devices=GPUS_PER_NODE,
    )


def our_search(law: LengthLaw, source: PeerTimes, rule: Target, gpus: int) -> Any:
    """Return the plan with the most tokens/s per GPU, of all budgets of whole nodes."""
    space = SearchSpace(batch_sizes=BATCH_SIZES, microbatches=MICROBATCHES, target=rule)
    search = DesignSearch(law, source, space, DeviceCost())
    found = [
        search.best(
            Limits(
                devices=budget,
                time_per_output_token=TPOT,
                overflow_probability=OVERFLOW,
                node_devices=GPUS_PER_NODE,
            )
        )
        for budget in range(2 * GPUS_PER_NODE, gpus + 1, GPUS_PER_NODE)
    ]
    return max((plan for plan in found if plan is not None), key=lambda plan: plan.score)


def compare_plans(name: str, asked: Question, gpus: int, repeats: int, runs: int) -> None:
    """Print the rows of one workload; afdplan plans with the expert parallelism of its answer."""
    rows: list[tuple[str, PeerTimes, Design, float, float, float | None]] = []
    task = peer_task(MODEL, SYSTEM, BACKEND, total_gpus=gpus, isl=1024, osl=2, tpot=1, ttft=1e9)

    def times_of(parallel: int) -> PeerTimes:
        return PeerTimes(task, parallel, asked.contexts, LARGEST_LOAD)

    def add_ours(rule: str, took: float | None) -> None:
        plan = our_search(asked.law, times, RULES[rule], gpus)
        rate = plan.tokens_per_second_per_device
        rows.append((f"afdplan, {rule}", times, plan.design, rate, plan.step_time.mean, took))

    def add_its(who: str, row: dict[str, Any], took: float | None) -> None:
        source = times_of(int(row["(f)ep"]))
        rate, step = row["tokens/s/gpu"], 1e-3 * row["tpot"]
        rows.append((f"aiconfigurator, {who}", source, design_of(row), rate, step, took))

    row, took = seconds(lambda: its_search(asked.mean_lengths, gpus), repeats)
    add_its("mean lengths", row, took)
    add_its("true load", its_search(asked.told_load, gpus), None)
    parallel = int(row["(f)ep"])
    times = times_of(parallel)
    whole = RULES["whole nodes"]
    _, took = seconds(lambda: our_search(asked.law, times_of(parallel), whole, gpus), repeats)
    add_ours("whole nodes", took)
    _, alone = seconds(lambda: our_search(asked.law, times, whole, gpus), repeats)
    add_ours("any A", None)
    for who, source, design, rate, step, spent in rows:
        found = judge(asked.law, source, design, seed=1, runs=runs)
        print(
            f"| {name} | {who} | {design}, EP {source.expert_parallel} "
            f"| {'' if spent is None else f'{spent:.1f} s'} | {rate:,.0f}, {1e3 * step:.1f} ms "
            f"| {found.per_device:,.0f} +/- {found.noise:.1%}, "
            f"{1e3 * found.time_per_output_token:.1f} ms "
            f"| {rate / found.per_device - 1:+.1%} | {found.cache:.0%} |",
            flush=True,
        )
    print(f"{name}: of afdplan's {took:.1f} s, {took - alone:.1f} s read its times", flush=True)


def compare_ratios(name: str, asked: Question, requests: int, repeats: int, runs: int) -> None:
    """Print which A each recommends for one FFN node, and the regret of it in simulation."""
    task = peer_task(MODEL, SYSTEM, BACKEND, total_gpus=16, isl=1024, osl=2, tpot=1e9, ttft=1e9)
    source = PeerTimes(task, 1, asked.contexts, LARGEST_LOAD)
    batch = requests // 2
    latency = source.latency(1, 1, batch)

    def its_rates(lengths: tuple[int, int]) -> dict[int, float]:
        rows = [
            source.run(
                nodes=(nodes, 1),
                attention_devices=1,
                requests=requests,
                lengths=lengths,
                microbatches=2,
            ).get_result_dict()
            for nodes in RATIO_NODES
        ]
        return {int(row["(a)workers"]): row["tokens/s/gpu"] for row in rows}

    def our_curve() -> dict[int, float]:
        answer = recommend_ratio(
            asked.law,
            latency,
            batch_size=batch,
            ffn_weight=GPUS_PER_NODE,
            max_attention_workers=GPUS_PER_NODE * RATIO_NODES[-1],
        )
        return {point.attention_workers: point.objective for point in answer.curve}

    recommended = []
    for who, lengths in (("mean lengths", asked.mean_lengths), ("true load", asked.told_load)):
        rates, took = seconds(lambda lengths=lengths: its_rates(lengths), repeats)
        recommended.append((f"aiconfigurator, {who}", max(rates, key=rates.get), rates, took))
    curve, took = seconds(our_curve, repeats)
    whole = {count: rate for count, rate in curve.items() if count % GPUS_PER_NODE == 0}
    recommended += [
        ("afdplan, whole nodes", max(whole, key=whole.get), curve, took),
        ("afdplan, any A", max(curve, key=curve.get), curve, took),
    ]
    delivered = {
        count: judge(
            asked.law,
            source,
            Design(
                bundles=1,
                attention_workers=count,
                ffn_workers=1,
                batch_size=batch,
                ffn_devices=GPUS_PER_NODE,
            ),
            seed=1,
            runs=runs,
        )
        for count in sorted({*whole, *(count for _, count, _, _ in recommended)})
    }
    best = max(found.per_device for found in delivered.values())
    for who, count, rates, took in recommended:
        found = delivered[count]
        print(
            f"| {name}, S = {requests} | {who} | {count} | {1e3 * took:,.0f} ms "
            f"| {rates[count]:,.0f} "
            f"| {found.per_device:,.0f} +/- {found.noise:.1%} "
            f"| {rates[count] / found.per_device - 1:+.1%} | {1 - found.per_device / best:.1%} |",
            flush=True,
        )


def main() -> None:
    """Print the tables that benchmarks/README.md records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one workload, 24 GPUs, once")
    quick = parser.parse_args().quick
    if (line := missing_peer()) is not None:
        print(line)
        return
    logging.disable(logging.WARNING)  # it logs a line per candidate that its tables lack
    gpus, repeats, runs = (24, 1, 4) if quick else (40, 3, 8)
    asked = dict(list(questions().items())[: 1 if quick else None])
    its_search(asked["bundled trace"].mean_lengths, 16)  # loads its tables
    print("| one FFN node | who | A | time | promised tokens/s/GPU | simulated | error | regret |")
    print("|---|---|---|---|---|---|---|---|")
    for name, question in asked.items():
        for requests in RATIO_REQUESTS:
            compare_ratios(name, question, requests, repeats, runs)
    print(f"\n| at most {gpus} GPUs | who | design | time | promised tokens/s/GPU, TPOT ", end="")
    print("| simulated | error | KV p99 of room |\n|---|---|---|---|---|---|---|---|")
    for name, question in asked.items():
        compare_plans(name, question, gpus, repeats, runs)


if __name__ == "__main__":
    main()
