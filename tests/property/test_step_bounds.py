"""Is no bound of the step above the step, for heavy tails and layers of several kinds too?"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.curve import TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits, limited
from afdplan.planning.source import MeasuredSource
from afdplan.planning.step_line import StepLines
from afdplan.planning.step_models import StepModels

PROMPTS = ("geometric:50", "geometric:2000", "lognormal:mean=50,cv=3")
DECODES = ("geometric:2", "geometric:100", "lognormal:mean=100,cv=1.3", "lognormal:mean=10,cv=4")


@cache
def law_of(prompt, decode):
    return IndependentLengths(prompt=prompt, decode=decode)


def random_latency(rng, window):
    layers = int(rng.choice([4, 40]))
    latency = LatencyModel.linear(
        attention=(10 ** rng.uniform(-9, -7), 10 ** rng.uniform(-6, -4)),
        ffn=(10 ** rng.uniform(-8, -6), 10 ** rng.uniform(-6, -4)),
        transfer=(10 ** rng.uniform(-8, -6), 10 ** rng.uniform(-6, -4.3)),
        layers=layers,
        time_unit="s",
    )
    if window is None:
        return latency
    (kind,) = latency.attention
    local = replace(kind, layers=layers // 2, context_window=window)
    drain = bool(rng.random() < 0.3)
    return replace(
        latency, attention=(replace(kind, layers=layers - layers // 2), local), drain=drain
    )


COUPLED = Coupling(send_attention=1.0, send_ffn=0.8, receive_ffn=1.0, one_by_one=True)


@pytest.mark.parametrize(
    ("window", "coupling"),
    [(None, Coupling()), (16, Coupling()), (1024, Coupling()), (16, COUPLED)],
)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_bound_exceeds_the_step(prompt, window, coupling):
    rng = np.random.default_rng(11)
    workers = np.array([1, 2, 5, 16, 64])
    for number, decode in enumerate(DECODES):
        law = law_of(prompt, decode)
        latency = replace(random_latency(rng, window), coupling=coupling)
        models = StepModels(law, MeasuredSource(latency))
        # Over prompts and decodes every number of microbatches meets every window.
        for m in {(number + PROMPTS.index(prompt)) % 4 + 1, 2 + number % 2}:
            combination = Combination(1, m, int(rng.choice([1, 2, 16])))
            stages = models.times.stages(workers, np.ones(5, dtype=int), combination[2])
            times = models.evaluate(combination, workers, np.ones(5, dtype=int), (0.99,))
            for limits in (Limits(devices=8), Limits(devices=8, statistic="p99")):
                held = limited(times) if limits.probabilities else times.mean
                rough = models.rough_bounds([combination], stages, limits)
                tight = models.tight_bounds(combination, stages, limits)
                for mean, statistic in (rough, tight):
                    assert (mean <= times.mean).all()
                    assert (statistic <= held).all()


@pytest.mark.parametrize("window", [None, 1024])
@pytest.mark.parametrize("prompt", PROMPTS[1:])
def test_no_line_from_a_batch_size_exceeds_a_later_step(prompt, window):
    """Also where experts are uneven: their busiest rank grows with the root of the load."""
    rng = np.random.default_rng(7)
    workers, ones = np.array([1, 3, 9, 32]), np.ones(4, dtype=int)
    tightest = []
    for decode in DECODES[1::2]:
        law = law_of(prompt, decode)
        latency = random_latency(rng, window)
        for experts in (None, ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=8)):
            models = StepModels(law, MeasuredSource(replace(latency, experts=experts)))
            for m, b in ((1, 20), (3, 40)):
                base, last = Combination(1, m, b), int(1.25 * b)
                mean = models.evaluate(base, workers, ones).mean
                line = StepLines(models).of(base, last, workers, ones, mean)
                for size in (b + 1, (b + last) // 2, last):
                    step = models.evaluate(Combination(1, m, size), workers, ones).mean
                    assert (line.at(size) <= step * (1 + 1e-9)).all()
                tightest.append((line.at(last) / step).max())
    assert np.median(tightest) > 0.99  # a line that is far below would spare nothing


def test_a_line_holds_across_the_kink_of_a_roofline():
    law = IndependentLengths(prompt="geometric:200", decode="geometric:100")
    ones = np.ones(3, dtype=int)
    workers = np.array([2, 4, 8])
    flat = LatencyModel.linear(
        attention=(1e-9, 1e-5), ffn=(1e-7, 1e-4), transfer=(1e-9, 1e-6), layers=8
    )
    for kink in (84, 100, 180, 240, 390, 440, 520):
        ffn = TabulatedCurve(loads=[0, kink, 2 * kink], times=[1e-4, 1e-4, 5e-4])
        models = StepModels(law, MeasuredSource(replace(flat, ffn=ffn)))
        base = Combination(1, 2, 40)
        mean = models.evaluate(base, workers, ones).mean
        line = StepLines(models).of(base, 64, workers, ones, mean)
        for size in range(41, 65):
            step = models.evaluate(Combination(1, 2, size), workers, ones).mean
            assert (line.at(size) <= step * (1 + 1e-9)).all()
