"""Un-split ranks hold the experts of as many FFN workers as their devices are, no more."""

from __future__ import annotations

from dataclasses import replace

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, zipf_popularity
from afdplan.planning import colocated_search
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from afdplan.planning.source import MeasuredSource
from afdplan.theory.fresh_times import ffn_times

LAW = IndependentLengths(prompt="geometric:500", decode="geometric:100")
PLAIN = LatencyModel.linear(
    attention=(3e-9, 6e-5), ffn=(5e-7, 5e-5), transfer=(1e-8, 2e-5), layers=10, time_unit="s"
)
POPULAR = ExpertLoad(
    experts=64, experts_per_token=4, ranks_per_worker=8, popularity=(zipf_popularity(64, 0.5),)
)


def source(experts):
    model = replace(PLAIN, experts=experts)
    return MeasuredSource(model, kv_tokens=1e6, attention_devices=1, ffn_devices=8)


def test_a_plan_with_known_popularity_compares_ranks_that_can_hold_its_experts():
    """It ended in an error: 64 ranks of one device counted as 64 workers of 8 ranks each."""
    widths = source(POPULAR).colocated.widths(1, 512)
    assert widths == (8, 16, 32, 64)  # 1 to 8 FFN workers; 16 would hold no whole expert each
    assert source(None).colocated.widths(1, 512) == (8, 16, 32, 64, 128, 256, 512)
    plan = make_plan(LAW, source(POPULAR), Limits(devices=128, time_per_output_token=0.05))
    assert plan.colocated
    assert plan.split.design.ffn_workers in (1, 2, 4, 8)


def test_the_ffn_of_unsplit_ranks_is_that_of_the_workers_on_their_devices(monkeypatch):
    asked = []

    def seen(latency, tokens, workers):
        asked.append((float(tokens.max()), workers))
        return ffn_times(latency, tokens, workers)

    monkeypatch.setattr(colocated_search, "ffn_times", seen)
    plan = make_plan(LAW, source(POPULAR), Limits(devices=32, time_per_output_token=0.05))
    assert {one.ranks for one in plan.colocated} <= {8, 16, 32}
    assert {workers for _, workers in asked} == {1, 2, 4}
