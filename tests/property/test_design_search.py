"""Does the search find what trying every design finds?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.deploy.registry import find_target
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.trace import Trace
from afdplan.model.variation import ExpertLoad
from afdplan.planning.cache_memory import CacheMemory, CacheSums
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Combination, Design
from afdplan.planning.limits import Limits, limited
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem


def random_problem(seed: int):
    rng = np.random.default_rng(seed)
    if seed % 2:
        law = IndependentLengths(prompt="geometric:200", decode="geometric:300")
    else:
        heavy = np.ceil(rng.pareto(1.8, 400) * 300).astype(int)
        law = EmpiricalLengths(
            Trace(prompt_tokens=np.minimum(heavy, 20_000), decode_tokens=rng.integers(1, 900, 400))
        )
    load = law.token_load().mean
    curves = (
        LinearCurve(slope=rng.uniform(2e-8, 2e-7), intercept=rng.uniform(0, 1e-4)),
        TabulatedCurve(loads=[0, 1e4, 1e6], times=[2e-5, 2e-4, 3e-3]),
    )
    latency = LatencyModel(
        name="random",
        time_unit="s",
        attention=(AttentionLayers(curve=curves[seed % 3 == 0], layers=int(rng.integers(2, 60))),),
        ffn=RooflineCurve(floor=rng.uniform(2e-5, 3e-4), slope=rng.uniform(1e-7, 2e-6)),
        send=Transfer(
            curve=LinearCurve(slope=rng.uniform(0, 2e-7), intercept=rng.uniform(0, 5e-5)),
            load="aggregate" if seed % 5 < 2 else "worker",
        ),
        receive=Transfer(curve=LinearCurve(slope=rng.uniform(0, 2e-7), intercept=1e-5)),
        step_overhead=rng.uniform(0, 3e-3),
    )
    source = MeasuredSource(
        latency,
        attention_devices=int(rng.integers(1, 3)),
        ffn_devices=int(rng.integers(1, 3)),
        kv_tokens=load * rng.uniform(20, 400),
    )
    space = SearchSpace(
        batch_sizes=(1, 8, 24, 100),
        microbatches=(1, 2, 3),
        target=find_target(("any", "vllm-afd-plugin", "fastafd")[seed % 3]),
        max_attention_workers=None if seed % 2 else 7,
    )
    cost = DeviceCost(per="currency", attention=1.0, ffn=rng.uniform(0.5, 3), unit="USD/h")
    return law, latency, source, space, DeviceCost() if seed % 4 else cost


def every_pair(law, latency, source, space, devices):
    """Return (a, f, b, m, mean, p99, overflow) of every pair and size, with the theory alone."""
    d_a, d_f = source.attention_devices[0], source.ffn_devices
    space_a = source.cache(d_a)
    memory = CacheMemory(CacheSums(law, space_a.kinds), space_a)
    rows = []
    for b, m in product(space.batch_sizes, space.microbatches):
        overflow = memory.overflow_probability(m * b)
        for f in range(1, (devices - d_a) // d_f + 1):
            problem = RatioProblem(
                law=law, latency=latency, batch_size=b, microbatches=m, ffn_workers=f
            )
            workers = np.arange(1, (devices - f * d_f) // d_a + 1)
            times = CycleModel(problem, problem.slot_loads()).evaluate(
                workers.astype(float), (0.99,)
            )
            rows += [
                (int(a), f, b, m, mean, p99, overflow)
                for a, mean, p99 in zip(workers, times.mean, times.quantiles[:, 0], strict=True)
            ]
    return rows


def brute_force(rows, law, source, space, cost, limits):
    """Return score and design of the best of every combination."""
    d_a, d_f = source.attention_devices[0], source.ffn_devices
    best = (0.0, None)
    node = limits.node_devices
    for a, f, b, m, mean, p99, overflow in rows:
        held = mean if limits.statistic == "mean" else p99
        if overflow > limits.overflow_probability or held > (
            limits.time_per_output_token or np.inf
        ):
            continue
        if not space.target.allows(a, f, d_a, d_f) or a > (space.max_attention_workers or np.inf):
            continue
        for k in range(1, limits.devices // (a * d_a + f * d_f) + 1):
            if k * a * d_a % node or k * f * d_f % node:
                continue
            tokens = k * a * m * b / mean
            used = k * (a * d_a + f * d_f)
            price = cost.of(k * a * d_a, k * f * d_f)
            if limits.requests_per_second is None:
                score = tokens / (price + cost.idle * (limits.devices - used))
            else:
                goal = limits.requests_per_second * law.mean_decode_tokens
                if tokens < goal * (1 - 1e-9):
                    continue
                score = goal / price
            if score > best[0]:
                best = (score, (k, a, f, b, m))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_search_equals_brute_force(seed):
    law, latency, source, space, cost = random_problem(seed)
    rng = np.random.default_rng(1000 + seed)
    limits = Limits(devices=9, node_devices=1 if seed % 3 else 2)
    search = DesignSearch(law, source, space, cost)
    loose = search.best(limits)
    assert loose is not None
    rows = every_pair(law, latency, source, space, limits.devices)
    for tight in (
        limits,
        replace(limits, time_per_output_token=loose.step_time.mean * rng.uniform(0.4, 1.0)),
        replace(
            limits,
            time_per_output_token=loose.step_time.p99 * rng.uniform(0.4, 1.0),
            statistic="p99",
        ),
        replace(limits, requests_per_second=loose.requests_per_second * rng.uniform(0.1, 0.9)),
    ):
        found = search.best(tight)
        score, design = brute_force(rows, law, source, space, cost, tight)
        assert (found is None) == (design is None), (found, design)
        if found is not None:
            assert found.score == pytest.approx(score, rel=1e-6), (found.design, design)


def with_latency(source, latency):
    """Return a measured source whose workers have other times."""
    devices = source.attention_devices[0]
    return MeasuredSource(
        latency,
        attention_devices=devices,
        ffn_devices=source.ffn_devices,
        cache=source.cache(devices),
    )


@pytest.mark.parametrize("seed", [1, 3])
def test_search_with_uneven_experts_equals_brute_force(seed):
    law, latency, source, space, cost = random_problem(seed)
    experts = ExpertLoad(experts=64, experts_per_token=6, ranks_per_worker=4, share=0.8)
    latency = replace(latency, experts=experts)
    source = with_latency(source, latency)
    space = replace(space, batch_sizes=(8, 100), microbatches=(2,))
    limits = Limits(devices=9)
    rows = every_pair(law, latency, source, space, limits.devices)
    search = DesignSearch(law, source, space, cost)
    loose = search.best(limits)
    for tight in (
        limits,
        replace(limits, time_per_output_token=loose.step_time.mean * 0.8),
        replace(limits, requests_per_second=loose.requests_per_second * 0.4),
    ):
        found = search.best(tight)
        score, design = brute_force(rows, law, source, space, cost, tight)
        assert (found is None) == (design is None), (found, design)
        if found is not None:
            assert found.score == pytest.approx(score, rel=1e-4), (found.design, design)


@pytest.mark.parametrize(
    ("seed", "coupling"),
    [
        (1, Coupling(send_ffn=1.0, receive_ffn=0.7, one_by_one=True, launch=2e-5)),
        (3, Coupling(receive_attention=1.0, send_ffn=0.4, launch=5e-5)),
        (4, Coupling(fan_in="whole", dense_share=0.6, receive_ffn=0.5)),
    ],
)
def test_search_with_a_coupling_equals_brute_force(seed, coupling):
    law, latency, source, space, cost = random_problem(seed)
    latency = replace(latency, coupling=coupling)
    source = with_latency(source, latency)
    space = replace(space, batch_sizes=(8, 100), microbatches=(1, 2))
    limits = Limits(devices=9)
    rows = every_pair(law, latency, source, space, limits.devices)
    search = DesignSearch(law, source, space, cost)
    loose = search.best(limits)
    for tight in (
        limits,
        replace(limits, time_per_output_token=loose.step_time.mean * 0.8),
        replace(limits, time_per_output_token=loose.step_time.p99 * 0.8, statistic="p99"),
        replace(limits, requests_per_second=loose.requests_per_second * 0.4),
    ):
        found = search.best(tight)
        score, design = brute_force(rows, law, source, space, cost, tight)
        assert (found is None) == (design is None), (found, design)
        if found is not None:
            assert found.score == pytest.approx(score, rel=1e-6), (found.design, design)


@pytest.mark.parametrize("seed", range(12, 16))
def test_tightening_a_limit_never_helps(seed):
    law, _, source, space, cost = random_problem(seed)
    search = DesignSearch(law, source, space, cost)
    limits = Limits(devices=20)
    best = search.best(limits)
    previous = best.score
    for share in (1.0, 0.8, 0.6, 0.4):
        tight = replace(limits, time_per_output_token=best.step_time.mean * share)
        found = search.best(tight)
        score = 0.0 if found is None else found.score
        assert score <= previous * (1 + 1e-9)
        previous = score
    for probability in (1e-2, 1e-4, 1e-8):
        found = search.best(replace(limits, overflow_probability=probability))
        assert (0.0 if found is None else found.score) <= best.score * (1 + 1e-9) or (
            probability > limits.overflow_probability
        )
    fewer = search.best(Limits(devices=10))
    assert (fewer.tokens_per_second if fewer else 0.0) <= best.tokens_per_second * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(16, 20))
def test_no_feasible_neighbour_is_better(seed):
    law, _, source, space, cost = random_problem(seed)
    search = DesignSearch(law, source, space, cost)
    limits = Limits(devices=40, time_per_output_token=0.03, statistic="p95")
    best = search.best(limits)
    if best is None:
        return
    d = best.design
    for da, df, db in product((-1, 0, 1), repeat=3):
        sizes = space.batch_sizes
        at = sizes.index(d.batch_size) + db
        a, f = d.attention_workers + da, d.ffn_workers + df
        if not (0 <= at < len(sizes) and a >= 1 and f >= 1):
            continue
        if space.max_attention_workers and a > space.max_attention_workers:
            continue
        if not space.target.allows(a, f, d.attention_devices, d.ffn_devices):
            continue
        size = a * d.attention_devices + f * d.ffn_devices
        if size > limits.devices:
            continue
        other = search.describe(
            Design(
                bundles=limits.devices // size,
                attention_workers=a,
                ffn_workers=f,
                batch_size=sizes[at],
                microbatches=d.microbatches,
                attention_devices=d.attention_devices,
                ffn_devices=d.ffn_devices,
            ),
            limits,
        )
        feasible = (
            other.step_time.p95 <= limits.time_per_output_token
            and other.memory_overflow_probability <= limits.overflow_probability
        )
        assert not feasible or other.score <= best.score * (1 + 1e-9)


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_gaps_between_batch_sizes_are_searched_exactly(seed):
    law, _, source, space, cost = random_problem(seed)
    listed = replace(space, batch_sizes=(1, 8, 24), max_attention_workers=3)
    every = replace(listed, batch_sizes=tuple(range(1, 25)))
    search = DesignSearch(law, source, replace(listed, fills_gaps=True), cost)
    reference = DesignSearch(law, source, every, cost)
    loose = Limits(devices=7)
    free = reference.best(loose)
    coarse_is_worse = 0
    for limits in (
        loose,
        replace(loose, time_per_output_token=free.step_time.mean * 0.7),
        replace(loose, time_per_output_token=free.step_time.p99 * 0.8, statistic="p99"),
        replace(loose, requests_per_second=free.requests_per_second * 0.4),
        replace(loose, requests_per_second=free.requests_per_second * 0.999),
    ):
        found, best = search.best(limits), reference.best(limits)
        assert found.score == pytest.approx(best.score, rel=1e-6), (found.design, best.design)
        grid = DesignSearch(law, source, listed, cost).best(limits)
        coarse_is_worse += grid is None or grid.score < best.score * (1 - 1e-3)
    assert coarse_is_worse


@pytest.mark.parametrize("ffn_workers", [None, (16,), (32,), (16, 64)])
def test_bounds_of_a_source_whose_times_depend_on_ffn_workers(ffn_workers):
    """Blocks of one F say nothing of another; a narrowed space asks only for its own."""
    source = DerivedSource(place(find_model("deepseek-v3"), find_hardware("h200")), (1, 2))
    law = IndependentLengths(prompt="geometric:900", decode="geometric:300")
    space = SearchSpace(batch_sizes=(32, 96, 160), microbatches=(1, 2, 3))
    search = DesignSearch(law, source, space, DeviceCost())
    narrowed = replace(space, ffn_workers=ffn_workers)
    limits = Limits(devices=96, time_per_output_token=0.05)
    search.best(limits)
    found = search.best(limits, narrowed)
    best = 0.0
    for combination in search.combinations(limits, narrowed):
        lattice = search.lattice(limits, narrowed, combination[0], 96)
        times = search.models.evaluate(combination, lattice.attention, lattice.ffn)
        every = np.arange(lattice.attention.size)
        score, _ = search.pairs.scores(combination, lattice, every, times.mean, limits)
        best = max(best, float(score[limits.meets(times.mean)].max(initial=0.0)))
    assert found.score == pytest.approx(best, rel=1e-9)
    assert ffn_workers is None or found.design.ffn_workers in ffn_workers


@pytest.mark.parametrize("seed", [0, 1, 4, 5])
def test_with_a_rate_the_most_capacity_of_the_least_cost_is_taken(seed):
    """A larger batch on the same devices is free."""
    law, latency, source, space, cost = random_problem(seed)
    limits = Limits(devices=9, overflow_probability=1e-3)
    search = DesignSearch(law, source, space, cost)
    rate = search.best(limits).requests_per_second * 0.3
    found = search.best(replace(limits, requests_per_second=rate))
    d_a, d_f = source.attention_devices[0], source.ffn_devices
    able = []
    for a, f, b, m, mean, _, overflow in every_pair(law, latency, source, space, limits.devices):
        if overflow > limits.overflow_probability or not space.target.allows(a, f, d_a, d_f):
            continue
        if a > (space.max_attention_workers or np.inf):
            continue
        for k in range(1, limits.devices // (a * d_a + f * d_f) + 1):
            tokens = k * a * m * b / mean
            if tokens / law.mean_decode_tokens >= rate:
                able.append((cost.of(k * a * d_a, k * f * d_f), tokens))
    least = min(price for price, _ in able)
    most = max(tokens for price, tokens in able if price <= least * (1 + 1e-9))
    assert found.cost == pytest.approx(least, rel=1e-9)
    assert found.tokens_per_second == pytest.approx(most, rel=1e-6)
    assert found.score == pytest.approx(rate * law.mean_decode_tokens / least, rel=1e-9)


@pytest.mark.parametrize("rate", [0.01, 0.5, 20.0])
def test_a_low_rate_is_no_harder_than_a_budget(rate):
    """At 0.5 requests/s, every design of 16 devices will do: 2,133 were once evaluated."""
    source = DerivedSource(place(find_model("deepseek-v3"), find_hardware("h200")))
    law = IndependentLengths(prompt="geometric:900", decode="geometric:300")
    search = DesignSearch(law, source, SearchSpace(), DeviceCost())
    found = search.best(Limits(requests_per_second=rate, time_per_output_token=0.05))
    assert found.requests_per_second >= rate
    assert search.evaluated < 200


def test_of_many_batch_sizes_few_need_a_law():
    """Near a limit of time hundreds of sizes are within a percent of the best: one is it."""
    source = DerivedSource(place(find_model("gpt-oss-120b"), find_hardware("b200")))
    law = IndependentLengths(prompt="geometric:2000", decode="geometric:500")
    search = DesignSearch(law, source, SearchSpace(), DeviceCost())
    limits = Limits(devices=32, time_per_output_token=0.05)
    best = search.best(limits)
    assert search.models.laws < 50  # 650 when each was looked at
    design = best.design
    for size in range(design.batch_size - 3, design.batch_size + 4):
        other = search.describe(replace(design, batch_size=size), limits)
        held = limits.meets(other.step_time.mean, search.tokens_per_step)
        fits = other.memory_overflow_probability <= limits.overflow_probability
        assert not (held and fits) or other.score <= best.score * (1 + 1e-9)


@pytest.mark.parametrize(
    ("placement", "per_context"), [("longest-prompt", 0.0), ("round-robin", 1e-6)]
)
@pytest.mark.parametrize("statistic", ["mean", "p99"])
def test_more_slots_that_shorten_a_step_are_searched_too(placement, per_context, statistic):
    """So they do with a time per mean context; balanced loads make steps that are not convex."""
    latency = LatencyModel.linear(
        attention=(1e-9, 2e-5), ffn=(1e-8, 5e-5), transfer=(1e-9, 1e-6), layers=20, time_unit="s"
    )
    (kind,) = latency.attention
    latency = replace(latency, attention=(replace(kind, time_per_context=per_context),))
    law = IndependentLengths(prompt="geometric:2000", decode="geometric:2")
    space = SearchSpace(
        batch_sizes=(1, 4, 12), fills_gaps=True, microbatches=(1, 2), placement=placement
    )
    source = MeasuredSource(latency, kv_tokens=20 * law.token_load().mean)
    search = DesignSearch(law, source, space, DeviceCost())
    limits = Limits(devices=12, statistic=statistic, overflow_probability=0.05)
    fit = search.memories.most_requests(1, 24, limits)
    assert 4 < fit < 24  # the best size is not in the list
    lattice = search.lattice(limits, space, 1, 12)
    every = np.arange(lattice.attention.size)
    tried = {}
    for m, size in product((1, 2), range(1, 13)):
        if m * size > fit:
            continue
        combination = Combination(1, m, size)
        tried[combination] = search.models.evaluate(
            combination, lattice.attention, lattice.ffn, limits.probabilities
        )
    assert not search.models.grow
    pairs = [(c, Combination(1, c.microbatches, c.batch_size + 1)) for c in tried]
    shorter = any((tried[b].mean < tried[a].mean).any() for a, b in pairs if b in tried)
    assert shorter or not per_context
    steps = np.sort([t for times in tried.values() for t in limited(times)])
    for limit in (None, *steps[:: len(steps) // 40]):
        asked = replace(limits, time_per_output_token=limit)
        best = 0.0
        for combination, times in tried.items():
            score, _ = search.pairs.scores(combination, lattice, every, times.mean, asked)
            best = max(best, float(score[asked.meets(limited(times))].max(initial=0.0)))
        assert search.best(asked).score == pytest.approx(best, rel=1e-9)


@cache
def filled_problem(seed):
    law, _, source, space, cost = random_problem(seed)
    space, loose = replace(space, fills_gaps=True, max_attention_workers=None), Limits(devices=40)
    return law, source, space, cost, loose, DesignSearch(law, source, space, cost).best(loose)


@pytest.mark.parametrize(
    ("seed", "evaluated", "laws"),
    [
        (3, (70, 583, 82, 42, 36), (6, 6, 6, 6, 5)),
        (4, (117, 126, 154, 60, 42), (10, 13, 19, 10, 11)),
    ],
)
@pytest.mark.parametrize("ask", range(5))
def test_bounds_spare_as_many_designs_as_they_did(seed, evaluated, laws, ask):
    """Of thousands of pairs and sizes so few take an exact step: a looser bound is noticed here."""
    law, source, space, cost, loose, best = filled_problem(seed)
    limits = (
        loose,
        replace(loose, time_per_output_token=best.step_time.mean * 0.6),
        replace(loose, time_per_output_token=best.step_time.p99 * 0.7, statistic="p99"),
        replace(loose, requests_per_second=best.requests_per_second * 0.4),
        replace(loose, node_devices=4),
    )[ask]
    search = DesignSearch(law, source, space, cost)
    assert search.best(limits) is not None
    assert search.evaluated <= 1.02 * evaluated[ask]
    assert search.models.laws <= laws[ask]
