"""Does a barrier-free answer say where its theory is not declared to hold?"""

from __future__ import annotations

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend


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
    answer = recommend(problem, max_attention_workers=12)
    told = any("outside the declared validity" in one for one in answer.warnings)
    assert answer.optimal_attention_workers == 12
    assert told == warns
