from __future__ import annotations

from contextlib import contextmanager

import pytest

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InfeasibleError
from afdplan.model import parameters as ask
from afdplan.planning.ratio_answer import answer_ratio
from afdplan.planning.ratio_question import RatioQuestion
from afdplan.theory.recommend import recommend
from afdplan.workload.requests import requests_of_laws

MODEL = LatencyChoice(latency="deepseek-v3-ascend-910c")
REQUESTS = requests_of_laws("geometric:100", "geometric:500")
DEFAULTS = {
    **{one.key: one.default for one in (*ask.PROBLEM, *ask.PLAYED)},
    "max_attention_workers": None,
    "by": None,
}


def asked(choice=MODEL, batch_size=64, *, has_around=False, **given):
    return RatioQuestion.of(DEFAULTS | given, REQUESTS, choice, batch_size, has_around=has_around)


@pytest.mark.parametrize(
    ("given", "is_played"),
    [
        ({}, False),
        ({"method": "gaussian"}, False),
        ({"method": "simulated"}, True),
        ({"placement": "longest-prompt"}, False),  # a formula knows it
        ({"placement_window": 4}, True),
        ({"kv_capacity": 400_000}, True),
        ({"seed": 7}, False),
        ({"placement": "longest-request"}, True),
        ({"placement": "longest-prompt-rank"}, True),  # of two microbatches
        ({"placement": "longest-prompt-rank", "microbatches": 1}, False),
        ({"placement": "longest-prompt-rank", "overlap": "ideal"}, False),
        ({"placement": "longest-prompt", "execution": "synchronous", "memory": "preempt"}, True),
    ],
)
def test_what_no_formula_knows_is_played(given, is_played):
    question = asked(**given)
    assert (question.played is not None) == is_played
    if is_played:  # the formulas are asked for what they know
        assert question.problem.method == ask.METHOD.default
        assert question.problem.placement == ask.PLACEMENT.default
        assert question.placement == given.get("placement", ask.PLACEMENT.default)


def test_an_answer_by_formula_is_that_of_the_theory():
    question = asked(placement="longest-prompt", max_attention_workers=12)
    found = answer_ratio(question)
    assert question.problem.max_attention_workers == 12
    best = recommend(question.problem)
    blind = recommend(question.blind)
    assert found.recommendation.optimal_attention_workers == best.optimal_attention_workers
    assert found.recommendation.curve == best.curve
    assert question.blind.placement == ask.PLACEMENT.default
    assert found.gain.blind_attention_workers == blind.optimal_attention_workers
    assert found.gain.placement == "longest-prompt"
    assert (found.played, found.around, found.day, found.effects) == (None, None, None, ())
    assert found.warnings == best.warnings


def test_without_a_policy_the_longest_prompt_is_compared():
    found = answer_ratio(asked())
    assert found.gain.placement == "longest-prompt"
    assert found.gain.recovered is None


def test_times_at_other_batches_are_those_of_the_choice():
    choice = LatencyChoice(model="deepseek-v3", hardware="h200")
    question = asked(choice, 64)
    assert question.latency_of(64).ffn(64) == question.problem.latency.ffn(64)
    assert question.most_requests > 128
    # What is told beside an answer needs the errors of its times; other batches do not.
    assert question.problem.latency.uncertainty is not None
    assert question.latency_of(64).uncertainty is None
    with pytest.raises(InfeasibleError, match="largest batch size"):
        asked(choice, 60_000)


@pytest.mark.parametrize(
    ("execution", "shown"), [("synchronous", []), ("barrier-free", ["ratios", "effects"])]
)
def test_what_takes_long_shows_what_it_does(execution, shown):
    names = []

    @contextmanager
    def bar(name):
        names.append(name)
        yield lambda _: None

    answer_ratio(asked(execution=execution, max_attention_workers=4), bar)
    assert names == shown
