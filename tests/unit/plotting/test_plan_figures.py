"""The plan page's grid is what the planner would say, and its front hides no marker."""

from dataclasses import replace
from itertools import combinations, product
from types import SimpleNamespace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from afdplan.planning.plan_grid import plan_grid, plan_grid_axes
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.plotting.label_places import label_places
from afdplan.plotting.picture import draw_figures
from afdplan.plotting.plan_figures import front_figure, idle_figure, plan_title
from afdplan.plotting.ratio_figures import case_key

LATENCY = LatencyModel.linear(attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), layers=60, time_unit="s")
LAW = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
SOURCE = MeasuredSource(LATENCY, kv_tokens=4e5)
LIMITS = Limits(devices=16, time_per_output_token=0.03)
SPACE = SearchSpace(batch_sizes=(8, 16, 32, 64, 128), microbatches=(1, 2, 3))


@pytest.fixture(scope="module")
def plan():
    return make_plan(LAW, SOURCE, LIMITS, space=SPACE)


@pytest.fixture(scope="module")
def cases(plan):
    return list(plan_grid(plan))


def test_every_case_is_what_a_narrowed_plan_recommends(plan, cases):
    sizes, counts = plan_grid_axes(plan)
    assert {case.batch_size for case in cases} <= set(sizes)
    assert {case.microbatches for case in cases} <= set(counts)
    assert set(sizes) <= set(SPACE.batch_sizes)  # what was never searched may be better
    found = 0
    for case in cases:
        narrow = replace(SPACE, batch_sizes=(case.batch_size,), microbatches=(case.microbatches,))
        if case.best is None:
            assert case.reason
            continue
        found += 1
        other = make_plan(LAW, SOURCE, LIMITS, space=narrow)
        assert case.best.design == other.split.design
        assert case.best.score <= plan.split.score * (1 + 1e-9)
    assert found >= 6


def test_the_recommended_design_is_one_of_the_cases(plan, cases):
    best = plan.split.design
    (case,) = (c for c in cases if c.best is not None and c.best.design == best)
    assert (case.batch_size, case.microbatches) == (best.batch_size, best.microbatches)


def test_what_memory_refuses_is_not_offered(plan, cases):
    search = DesignSearch(LAW, SOURCE, plan.space, plan.cost)
    offered = {(case.batch_size, case.microbatches) for case in cases}
    for size, count in product(*plan_grid_axes(plan)):
        narrow = replace(SPACE, batch_sizes=(size,), microbatches=(count,))
        if not search.combinations(plan.planned_limits, narrow):
            assert (size, count) not in offered
    assert len(offered) < len(list(product(*plan_grid_axes(plan))))
    for sizes, counts in [map(set, zip(*offered, strict=True))]:
        assert offered == set(product(sizes, counts))  # buttons of both sides go together


def test_the_frames_are_those_of_the_recommended_ffn_workers(plan, cases):
    for case in cases:
        if case.best is not None and case.best.design.ffn_workers == (
            plan.split.design.ffn_workers
        ):
            assert case.attention_workers == case.best.design.attention_workers


def test_the_front_marks_the_baseline_the_plan_and_the_case_that_is_chosen(plan, cases):
    figure = front_figure(plan, cases)
    assert set(figure.charts) == {case_key(case) for case in cases}
    for case in cases:
        points = {
            layer.name: layer for layer in figure.charts[case_key(case)].layers
            if layer.kind == "point"
        }  # fmt: skip
        is_other = case.best is not None and case.best.design != plan.split.design
        assert ("chosen B and m" in points) == is_other
        best = plan.best_colocated
        assert points["best not split"].columns["y"] == [best.tokens_per_second_per_device]
        assert points["best not split"].columns["text"] == [f"EP{best.ranks}"]
        if is_other:
            chosen = points["chosen B and m"].columns["y"]
            assert chosen == [case.best.tokens_per_second_per_device]


def test_a_label_leaves_a_marker_close_above_its_point_in_sight():
    """The baseline stood a few pixels above the plan, under the word recommended."""
    plan, baseline = (0.5, 0.5), (0.5, 0.56)
    (place,) = label_places([(*plan, "recommended")], [baseline], size=(290, 300))
    assert place != "above"
    both = label_places([(*baseline, "EP32"), (*plan, "recommended")], size=(290, 300))
    assert both == ("above", "left")
    free = label_places([(*plan, "recommended")], [(0.7, 0.9)], size=(290, 300))
    assert free == ("above",)


def test_the_picture_of_a_plan_has_its_legend_off_the_limit_and_no_label_on_another(plan):
    picture = draw_figures([front_figure(plan)], "plan")
    (room,) = picture.subfigs
    (axes,) = room.axes
    (legend,) = room.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 4
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_label_keeps_off_the_line():
    rising = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.95)]
    assert label_places([(0.5, 0.5, "8:1")], lines=[rising], size=(400, 300)) == ("above",)
    steep = [(0.45, 0.1), (0.5, 0.5), (0.51, 0.9)]
    assert label_places([(0.5, 0.5, "8:1")], lines=[steep], size=(400, 300)) == ("left",)


def test_pictures_of_an_un_split_recommendation_say_what_they_show(plan):
    told = {"split": plan.split, "alternatives": (), "recommended": "2 x 32 ranks"}
    unsplit = SimpleNamespace(kind="un-split", **told)
    split = SimpleNamespace(kind="split", **told)
    assert plan_title(unsplit) == "2 x 32 ranks"
    assert plan_title(split) == str(plan.split.design)
    for one, name in ((unsplit, "best split"), (split, "recommended")):
        (chart,) = idle_figure(one).charts.values()
        assert chart.y.limits == (f"{name}: attention", f"{name}: FFN")
