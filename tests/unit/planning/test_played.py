"""What is played of a recommended bundle agrees with the theory that recommended it."""

from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.played import play_bundles
from afdplan.plotting.simulation_figures import causes_figure
from afdplan.report.page_bundle import played_sections
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

LATENCY = LatencyModel.linear(
    attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0), layers=8
)
LAW = IndependentLengths(prompt="geometric:100", decode="geometric:200")
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=64)


@pytest.fixture(scope="module")
def answer():
    return recommend_ratio(LAW, LATENCY, batch_size=64)


@pytest.fixture(scope="module")
def played(answer):
    best = answer.optimal_attention_workers
    return play_bundles(PROBLEM, best, (best // 2, 2 * best))


def test_idle_shares_are_those_of_the_theory(played, answer):
    run, best = played.chosen, answer.best
    assert run.scenario.bundle.attention_workers == best.attention_workers
    assert run.attention_idle_fraction.value == pytest.approx(
        best.attention_idle_fraction, abs=0.02
    )
    assert run.ffn_idle_fraction.value == pytest.approx(best.ffn_idle_fraction, abs=0.02)
    assert sum(run.attention_idle_causes.values()) == pytest.approx(
        run.attention_idle_fraction.value, abs=1e-9
    )


def test_busy_time_and_causes_fill_the_bar(played):
    (chart,) = causes_figure(played.results).charts.values()
    ends = [max(layer.columns["x2"][k] for layer in chart.layers) for k in range(6)]
    assert all(99.7 <= end <= 100 + 1e-9 for end in ends)
    assert (
        chart.layers[0]
        .columns["y"][0]
        .startswith(f"A = {played.results[0].scenario.bundle.attention_workers}:")
    )


def test_the_timeline_is_that_of_the_bundle(played, answer):
    workers = {span.worker for span in played.timeline.spans if span.stage == "attention"}
    assert len(workers) == answer.optimal_attention_workers


def test_a_bundle_that_would_take_minutes_is_not_played():
    assert play_bundles(replace(PROBLEM, batch_size=4096), 2000) is None
    (section,) = played_sections(None, 0.1, 0.2)
    assert "afdplan simulate" in section.words[0]


@pytest.mark.parametrize(
    "options", [{"overlap": "ideal"}, {"method": "mean-field", "horizon": 1000}]
)
def test_every_kind_of_ratio_can_be_played(options):
    assert play_bundles(replace(PROBLEM, **options), 3).chosen.steps > 100


def test_requests_of_one_age_start_together():
    law = IndependentLengths(prompt="100", decode="50")
    run = play_bundles(replace(PROBLEM, law=law, phase="aligned"), 3)
    assert run.chosen.scenario.start == "fresh"
    assert run.chosen.attention_idle_causes["barrier"] == pytest.approx(0, abs=1e-9)
