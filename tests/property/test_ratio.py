"""Laws that hold for every workload and every latency model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

requests = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)), min_size=1, max_size=30)


def sizes(largest):
    """Return numbers that a coefficient may be: nothing, or of a size that means something."""
    return st.just(0.0) | st.floats(1e-30, largest)


models = st.builds(
    lambda a, b, c, d, e, f, layers: LatencyModel.linear(
        attention=(a, b), ffn=(c, d), transfer=(e, f), layers=layers
    ),
    sizes(0.01),
    st.floats(0.1, 200),
    sizes(0.5),
    st.floats(0.1, 200),
    sizes(0.2),
    sizes(100),
    st.sampled_from([1, 10]),
)
quick = settings(max_examples=15, deadline=None)


def law_of(rows):
    prompt, decode = np.array(rows).T
    return EmpiricalLengths(Trace(prompt_tokens=prompt, decode_tokens=decode))


def answer_of(rows, model, **options):
    options = {"batch_size": 32, "max_attention_workers": 12} | options
    return recommend_ratio(law_of(rows), model, **options)


@quick
@given(rows=requests, model=models, factor=st.floats(1e-6, 1e6))
def test_scaling_all_times_scales_the_answer(rows, model, factor):
    one, other = answer_of(rows, model), answer_of(rows, model.scaled(factor))
    assert [p.objective * factor for p in other.curve] == pytest.approx(
        [p.objective for p in one.curve], rel=1e-8
    )
    assert [p.step_time for p in other.curve] == pytest.approx(
        [p.step_time * factor for p in one.curve], rel=1e-8
    )
    assert one.curve[other.optimal_attention_workers - 1].regret <= 1e-8


@quick
@given(rows=requests, model=models, order=st.randoms(use_true_random=False))
def test_permuting_the_trace_changes_no_digit(rows, model, order):
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert answer_of(rows, model).curve == answer_of(shuffled, model).curve
    assert law_of(rows).token_load() == law_of(shuffled).token_load()


@quick
@given(prompts=st.lists(st.integers(1, 3000), min_size=1, max_size=30), model=models,
       factor=st.integers(2, 50))  # fmt: skip
def test_tokens_in_another_unit_change_nothing(prompts, model, factor):
    """Of one output each, so that a prompt is all of the load: k times the tokens at 1/k each.

    With several microbatches the correction for moving loads counts the one token that every
    request grows by in a step, which no scale changes: loads of few tokens feel it.
    """
    (kind,) = model.attention
    finer = replace(kind, curve=replace(kind.curve, slope=kind.curve.slope / factor))
    rows, scaled = ([(k * prompt, 1) for prompt in prompts] for k in (1, factor))
    for m, tolerance in ((1, 2e-4), (2, 0.01)):
        one = answer_of(rows, model, microbatches=m)
        other = answer_of(scaled, replace(model, attention=(finer,)), microbatches=m)
        assert [p.step_time for p in other.curve] == pytest.approx(
            [p.step_time for p in one.curve], rel=tolerance
        )


@quick
@given(rows=requests, more=requests, model=models, copies=st.integers(2, 4))
def test_traces_are_joined_by_their_tokens(rows, more, model, copies):
    one, again = answer_of(rows, model), answer_of(copies * rows, model)
    assert [p.objective for p in again.curve] == pytest.approx(
        [p.objective for p in one.curve], rel=1e-9
    )
    tokens = [float(sum(decode for _, decode in part)) for part in (rows, more)]
    loads = [law_of(part).token_load() for part in (rows, more)]
    whole = law_of(rows + more).token_load()
    mean = np.average([load.mean for load in loads], weights=tokens)
    square = np.average([load.variance + load.mean**2 for load in loads], weights=tokens)
    assert whole.mean == pytest.approx(mean, rel=1e-9)
    assert whole.variance + whole.mean**2 == pytest.approx(square, rel=1e-9)


@quick
@given(rows=requests, model=models, at=st.integers(1, 12), m=st.integers(1, 4))
def test_a_point_alone_is_the_point_of_the_curve(rows, model, at, m):
    curve = answer_of(rows, model, microbatches=m).curve
    short = answer_of(rows, model, microbatches=m, max_attention_workers=at).curve[-1]
    problem = RatioProblem(law=law_of(rows), latency=model, batch_size=32, microbatches=m)
    alone = CycleModel(problem, problem.slot_loads()).evaluate(np.array([float(at)]))
    point = curve[at - 1]
    assert point.attention_workers == short.attention_workers == at
    assert (short.step_time, alone.mean[0]) == pytest.approx((point.step_time,) * 2, rel=2e-6)
    assert short.ffn_idle_fraction == pytest.approx(point.ffn_idle_fraction, abs=1e-5)


@quick
@given(rows=requests, model=models, method=st.sampled_from(["exact", "gaussian", "mean-field"]),
       overlap=st.sampled_from(["ideal", "pipelined"]), weight=st.floats(0.1, 10))  # fmt: skip
def test_recommended_is_never_worse_than_any_other(rows, model, method, overlap, weight):
    answer = answer_of(rows, model, method=method, overlap=overlap, ffn_weight=weight)
    assert all(point.regret >= 0 for point in answer.curve)
    assert answer.best.regret == 0
    assert answer.best.objective == max(point.objective for point in answer.curve)
    low, high = answer.near_equal
    assert low <= answer.optimal_attention_workers <= high


@quick
@given(rows=requests, model=models)
def test_one_microbatch_is_never_faster_than_two_at_equal_batch(rows, model):
    law, workers = law_of(rows), np.arange(1.0, 20.0)
    one, two = (
        CycleModel(problem, problem.slot_loads()).evaluate(workers).cycle
        for problem in (
            RatioProblem(law=law, latency=model, batch_size=16, microbatches=m) for m in (1, 2)
        )
    )
    assert (two <= one * (1 + 1e-6)).all()


@quick
@given(rows=requests, model=models)
def test_randomness_never_helps(rows, model):
    law, workers = law_of(rows), np.arange(1.0, 20.0)
    means = {}
    for method in ("mean-field", "gaussian", "exact"):
        problem = RatioProblem(law=law, latency=model, batch_size=16, method=method)
        means[method] = CycleModel(problem, problem.slot_loads()).evaluate(workers).mean
    assert (means["mean-field"] <= means["gaussian"] * (1 + 1e-6)).all()
    assert (means["mean-field"] <= means["exact"] * (1 + 1e-6)).all()


def attention_bound(law):
    model = LatencyModel.linear(attention=(0.002, 10.0), ffn=(0.05, 5.0))
    return MeanField(
        latency=model,
        mean_token_loads=(law.token_load().mean,),
        batch_size=64,
        microbatches=1,
        overlap="ideal",
    ).attention_bound_ratio()


@quick
@given(rows=requests, at=st.integers(0, 29), more=st.integers(1, 3000))
def test_longer_prompts_never_lower_the_attention_bound_ratio(rows, at, more):
    longer = list(rows)
    at %= len(longer)
    longer[at] = (longer[at][0] + more, longer[at][1])
    assert attention_bound(law_of(longer)) >= attention_bound(law_of(rows)) * (1 - 1e-12)


def test_longer_outputs_can_lower_the_attention_bound_ratio():
    # A longer output of a request with a short prompt is seen more often in the slots: it
    # displaces the long prompts by more than its own growth adds.
    before = law_of([(5000, 10), (0, 10)])
    after = law_of([(5000, 10), (0, 200)])
    assert attention_bound(after) < attention_bound(before)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize(
    "asked", [{}, {"overlap": "ideal"}, {"method": "mean-field"}, {"placement": "longest-prompt"}]
)
def test_attention_that_takes_longer_needs_no_new_law(asked, kinds, drain):
    """Longer by a constant: the model made anew from longer curves says the same."""
    latency = replace(
        LatencyModel.linear(
            attention=(1e-8, 2e-5), ffn=(1e-7, 5e-5), transfer=(1e-7, 1e-5), layers=10
        ),
        drain=drain,
    )
    (kind,) = latency.attention
    windows = (None, 128)[:kinds]
    latency = replace(
        latency, attention=tuple(replace(kind, layers=5, context_window=w) for w in windows)
    )
    law = IndependentLengths(prompt="geometric:500", decode="geometric:200")
    workers = np.array([1.0, 4.0, 20.0])

    def model(added):
        curves = [
            replace(k, curve=replace(k.curve, intercept=k.curve.intercept + more))
            for k, more in zip(latency.attention, added, strict=True)
        ]
        problem = RatioProblem(
            law=law,
            latency=replace(latency, attention=tuple(curves)),
            batch_size=32,
            microbatches=3,
        )
        return CycleModel(problem, problem.slot_loads())

    added = (1.3e-5, 0.4e-5)[:kinds]
    shifted = model([0.0] * kinds).later(added).evaluate(workers, (0.5, 0.99))
    anew = model(added).evaluate(workers, (0.5, 0.99))
    for name in ("mean", "quantiles", "attention_idle_fraction", "ffn_idle_fraction"):
        assert getattr(shifted, name) == pytest.approx(getattr(anew, name), rel=1e-12)
