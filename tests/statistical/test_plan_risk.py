"""Do memory risk and percentiles of a plan hold in the simulator, which shares no code?"""

import numpy as np
import pytest

from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from tests.shared import shared

LIGHT = IndependentLengths(prompt="uniform:100..300", decode="uniform:1..200")
_DRAW = np.random.default_rng(3)
HEAVY = EmpiricalLengths(
    Trace(
        prompt_tokens=np.minimum(_DRAW.pareto(1.5, 3000) * 300 + 50, 30_000).astype(int),
        decode_tokens=_DRAW.geometric(0.01, 3000),
    )
)


@pytest.mark.parametrize("law", [LIGHT, HEAVY], ids=["light", "heavy"])
@pytest.mark.parametrize("slots", [8, 64])
def test_overflow_frequency_is_the_stated_probability(law, slots):
    """Independent stationary workers: the count of overflows is binomial, |z| <= 5."""
    draws = 20_000
    generator = np.random.default_rng(7)
    requests = law.sample_stationary(generator, draws * slots)
    held = (requests.prompt_tokens + requests.age).reshape(draws, slots).sum(axis=1)
    for quantile in (0.9, 0.99, 0.999):
        capacity = float(np.ceil(np.quantile(held, quantile)))
        space = CacheSpace.tokens(capacity)
        chance = CacheMemory(CacheSums(law, space.kinds), space).overflow_probability(slots)
        over = int((held > capacity).sum())
        noise = np.sqrt(draws * chance * (1 - chance))
        assert abs(over - draws * chance) <= 5 * noise + 1
        planted = draws * min(2 * chance, 1.0)  # a wrong law must not pass
        assert quantile > 0.99 or abs(over - planted) > 5 * noise + 1


@pytest.mark.parametrize("law", [LIGHT, HEAVY], ids=["light", "heavy"])
def test_kv_percentiles_of_the_simulated_bundle(law):
    latency = LatencyModel.linear(attention=(1e-8, 1e-5), ffn=(1e-7, 1e-5), time_unit="s")
    result = simulate(
        Scenario(
            bundle=Bundle(attention_workers=4, batch_size=8, microbatches=2),
            latency=latency,
            lengths=law,
            requests_per_worker=20_000,
            replications=2,
        )
    )
    for share, tokens in ((0.05, result.kv_tokens_per_worker.p95.value),):
        space = CacheSpace.tokens(tokens)
        chance = CacheMemory(CacheSums(law, space.kinds), space).overflow_probability(16)
        assert chance == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize(
    "name", ["azure2023_conv", "azure2023_code", "sharegpt_8k_llama2", "arxiv_summarization"]
)
def test_p99_of_the_step_on_real_traces(name):
    """Declared: p99 of the step time within 2 % of simulation, L E[D] >= 200."""
    law = EmpiricalLengths(read_trace(shared(f"traces/{name}.csv")))
    load = law.token_load().mean
    batch = 32
    latency = LatencyModel.linear(
        attention=(1e-3 / (batch * load), 2e-4),
        ffn=(1e-3 / (8 * batch), 1e-4),
        transfer=(1e-6, 5e-5),
        layers=8,
        time_unit="s",
    )
    problem = RatioProblem(law=law, latency=latency, batch_size=batch)
    times = CycleModel(problem, problem.slot_loads()).evaluate(np.array([8.0]), (0.99,))
    result = simulate(
        Scenario(bundle=problem.bundle(8), latency=latency, lengths=law, requests_per_worker=6000)
    )
    assert times.mean[0] == pytest.approx(result.step_time.mean.value, rel=0.01)
    assert times.quantiles[0, 0] == pytest.approx(result.step_time.p99.value, rel=0.02)
