"""Does a barrier-free answer say where its theory is not declared to hold?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from afdplan.validation.laboratory import observe
from afdplan.validation.pool_grid import pool_cells


@pytest.mark.parametrize(
    ("decode", "attention", "least", "warns"),
    [
        ("geometric:500", (0.0, 100.0), 12, True),
        ("geometric:500", (0.0, 100.0), 2, False),
        ("lognormal:mean=500,cv=1.3", (0.02, 10.0), 12, False),
    ],
)
def test_rules_of_many_calls_where_loads_are_alike_are_said_to_be_outside(
    decode, attention, least, warns
):
    latency = LatencyModel.linear(attention=attention, ffn=(0.0, 10.0), transfer=(0.0, 5.0))
    law = IndependentLengths(prompt="geometric:1000", decode=decode)
    problem = RatioProblem(
        law=law,
        latency=latency,
        batch_size=8,
        microbatches=2,
        execution="barrier-free",
        least_calls=least,
    )
    answer = recommend(replace(problem, max_attention_workers=12))
    told = any("outside the declared validity" in one for one in answer.warnings)
    assert answer.optimal_attention_workers == 12
    assert told == warns


def cell(*words):
    (found,) = (one for one in pool_cells(full=True) if all(word in one.name for word in words))
    return found


def test_two_rhythms_are_outside_the_validity_with_the_error_between_them():
    """Calls that begin together stay in rounds of 480, those of a simulation fall into 440."""
    one = cell("light", "floor 80%", "leaves at once", "A=8 B=256 m=3")
    model, play = one.played(), one.played().play(8).play
    assert play.mean_round == pytest.approx(476.3, abs=0.5)
    assert play.other_rhythm == pytest.approx(440 / 476.3 - 1, abs=0.01)
    assert abs(play.mean_round / 440 - 1) < model.stated_error(8) < 0.15
    assert not one.is_declared
    # As alike, but of one rhythm: the pool waits for nobody, either.
    other = cell("light", "floor 20%", "leaves at once", "m=3")
    assert other.is_declared
    assert other.stated_error == pytest.approx(0.03)


@pytest.mark.parametrize(
    "words",
    [
        ("geometric", "floor 50%", "waits a while", "A=3 B=16 m=2"),
        ("correlated", "floor 80%", "leaves at once", "A=4 B=16 m=2"),
    ],
)
def test_a_percentile_that_may_be_far_off_says_between_what_it_lies(words):
    one = cell(*words)
    # Only the percentile, to 2 %: it is far enough off.
    seen = observe(replace(one.scenario(), precision=None, p99_precision=0.02)).step_time_p99
    said = float(one.theory("exact", (0.99,)).quantiles[0, 0])
    low, high = one.played().p99_between(one.bundle.attention_workers)
    assert abs(said / seen.value - 1) > 0.3
    assert low <= said <= high
    assert low <= seen.value <= high
    assert not low <= 1.6 * seen.value <= high
