"""Published numbers of arXiv:2601.21351 and what real traces must give."""

from __future__ import annotations

import pytest

from afdplan.files.latency_file import load_latency
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.theory.recommend import recommend_ratio
from tests.models import PAPER, geometric
from tests.shared import shared

TABLE = [
    # batch, mean prompt, mean decode, r* at horizon 10,000, r* in the steady state
    (256, 100, 500, "9.301", "9.555"),
    (128, 100, 500, "7.075", "7.202"),
    (512, 100, 500, "10.223", "10.731"),
    (256, 100, 100, "2.169", "2.169"),
    (256, 500, 500, "17.253", "17.506"),
]


@pytest.mark.parametrize(("batch", "prompt", "decode", "finite", "steady"), TABLE)
def test_table_of_optimal_ratios(batch, prompt, decode, finite, steady):
    for horizon, printed in ((10_000, finite), (None, steady)):
        answer = recommend_ratio(
            geometric(prompt, decode),
            PAPER,
            batch_size=batch,
            overlap="ideal",
            method="mean-field",
            horizon=horizon,
        )
        # The printed digits are rounded half up in the last place.
        assert answer.optimal_ratio == pytest.approx(float(printed), abs=5.1e-4)


def test_published_rounding_of_the_first_four_reproduced_rows():
    published = {
        (256, 100, 500): 9.30,
        (128, 100, 500): 7.08,
        (256, 100, 100): 2.17,
        (256, 500, 500): 17.25,
    }
    for (batch, prompt, decode), value in published.items():
        answer = recommend_ratio(
            geometric(prompt, decode),
            PAPER,
            batch_size=batch,
            overlap="ideal",
            method="mean-field",
            horizon=10_000,
        )
        assert answer.optimal_ratio == pytest.approx(value, abs=6e-3)


def test_row_four_is_an_interior_point_bound_by_the_ffn():
    answer = recommend_ratio(
        geometric(100, 100), PAPER, batch_size=256, overlap="ideal", method="mean-field"
    )
    assert answer.optimal_ratio == pytest.approx(answer.interior_ratio)
    assert answer.bottleneck == "ffn"


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ({"overlap": "ideal", "method": "mean-field"}, {9}),
        ({"overlap": "ideal", "method": "exact"}, {10}),
        ({"microbatches": 2}, {7, 8}),
        ({"microbatches": 3}, {9, 10}),
    ],
)
def test_best_integers_on_the_baseline(options, best):
    answer = recommend_ratio(geometric(), PAPER, batch_size=256, **options)
    assert answer.optimal_attention_workers in best


def test_built_in_model_is_the_published_one():
    built_in = load_latency("deepseek-v3-ascend-910c")
    assert built_in.attention == PAPER.attention
    assert (built_in.ffn, built_in.send, built_in.receive) == (PAPER.ffn, PAPER.send, PAPER.receive)
    assert built_in.time_unit == "abstract"


def test_azure_conversation_token_load():
    law = EmpiricalLengths(read_trace(shared("traces/azure2023_conv.csv")))
    load = law.token_load()
    assert f"{load.mean:.3f} {load.std:.3f}" == "1226.479 712.879"
