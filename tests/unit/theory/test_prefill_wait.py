"""Is the closed form of prefill waits within its declared error of the replay?"""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.files.traces.reader import read_trace
from afdplan.model.curve import RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel
from afdplan.simulation.service_queue import PromptLine, prefill_finishes
from afdplan.theory.prefill_wait import DECLARED_ERROR, erlang_wait_probability, prefill_waits
from tests.shared import shared

TRACES = ("azure2023_conv", "azure2023_code", "mooncake_conversation", "servegen_deepseek_r1")
MODEL = PrefillModel(
    name="x",
    compute=RooflineCurve(floor=0.03, slope=1.6e-5, intercept=0.004),
    pairs=(PairCost(time=5e-10),),
)


def tails(line, arrivals, workers):
    """Return the 99th percentile of the time to first token: replayed, and in closed form."""
    played = prefill_finishes(line, arrivals, workers) - arrivals
    formula = prefill_waits(arrivals, line.alone, workers) + line.alone
    return np.quantile(played, 0.99), np.quantile(formula, 0.99)


@pytest.mark.parametrize("name", TRACES)
def test_the_tail_is_within_a_tenth_on_real_arrivals(name):
    trace = read_trace(shared(f"traces/{name}.csv"))
    line = PromptLine.of(
        MODEL, trace.prompt_tokens, np.zeros_like(trace.prompt_tokens), shares_passes=False
    )
    own = (trace.requests - 1) / trace.duration
    errors = []
    for workers in (1, 2, 4, 8, 16, 64):
        for load in (0.3, 0.5, 0.7, 0.85):
            rate = load * workers / line.alone.mean()
            played, formula = tails(line, trace.arrival_times * own / rate, workers)
            errors.append(formula / played - 1)
    assert max(map(abs, errors)) <= DECLARED_ERROR


def test_one_worker_is_exact():
    generator = np.random.default_rng(4)
    prompts = generator.geometric(1 / 2000, 3000)
    line = PromptLine.of(MODEL, prompts, np.zeros_like(prompts), shares_passes=False)
    arrivals = np.cumsum(generator.exponential(0.06, 3000))
    waits = prefill_finishes(line, arrivals, 1) - arrivals - line.alone
    assert np.allclose(prefill_waits(arrivals, line.alone, 1), waits, atol=1e-8)


def test_without_the_shift_two_workers_would_be_told_to_wait_longer():
    generator = np.random.default_rng(5)
    services = np.full(20_000, 1.0)
    arrivals = np.cumsum(generator.exponential(1 / 6, 20_000))
    steps = np.concatenate([[0.0], np.cumsum(services[:-1] / 8 - np.diff(arrivals))])
    unshifted = (steps - np.minimum.accumulate(steps)).mean()
    assert prefill_waits(arrivals, services, 8).mean() < 0.7 * unshifted


def test_what_breaks_a_rule_is_refused():
    with pytest.raises(InvalidInputError, match="overloaded"):
        prefill_waits(np.array([0.0, 1.0]), np.array([4.0, 4.0]), 2)
    few = np.arange(4.0), np.full(4, 0.1), 2
    with pytest.raises(InsufficientDataError, match="5,000 arrivals, got 4") as told:
        prefill_waits(*few)
    assert told.value.estimate.tolist() == [0.0, 0.0, 0.0, 0.0]
    with pytest.raises(InvalidInputError, match="two times"):
        prefill_waits(np.zeros(3), np.ones(3), 2)
    with pytest.raises(InvalidInputError, match="below 3"):
        erlang_wait_probability(3, 3.0)
