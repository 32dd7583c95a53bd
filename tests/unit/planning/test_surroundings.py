"""What stands around a plan is computed where it is asked for, once, if limits are kept."""

from __future__ import annotations

import pytest

from afdplan.planning import surroundings
from afdplan.planning.surroundings import Surroundings

PARTS = {
    "alternatives": ("alternatives", ()), "binding": ("shadow_prices", ()),
    "next_batch": ("next_batch", None), "sensitivity": ("sensitivities", ()),
    "broken": ("broken_inputs", ()),
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Return what was asked for: every part answers with its name and what it was given."""
    asked = []

    def answering(name):
        def answer(*given, **named):
            asked.append((name, given, named))
            return name, given

        return answer

    for name in {function for function, _ in PARTS.values()} | {"fastest_design", "pareto_front"}:
        monkeypatch.setattr(surroundings, name, answering(name))
    return asked


@pytest.mark.parametrize(("part", "function", "nothing"), [(p, *of) for p, of in PARTS.items()])
def test_each_part_is_computed_once_and_only_of_a_plan_that_keeps_its_limits(
    asked, part, function, nothing
):
    around = Surroundings("search", "best", "limits", "load", keeps_limits=True)
    given = ("search", "best", "limits")
    if part in ("sensitivity", "broken"):
        given = (*given, "load")
    assert getattr(around, part) == getattr(around, part) == (function, given)
    assert asked == [(function, given, {})]
    asked.clear()
    nearest = Surroundings("search", "best", "limits", "load", keeps_limits=False)
    assert getattr(nearest, part) == nothing
    assert asked == []


def test_few_alternatives_are_looked_for_unless_all_are_known(asked):
    around = Surroundings("search", "best", "limits", None, keeps_limits=True)
    around.nearest(3)
    assert asked == [("alternatives", ("search", "best", "limits"), {"nearest": 3})]
    every = around.alternatives
    assert around.nearest(3) is every
    assert len(asked) == 2
    broken = Surroundings("search", "best", "limits", None, keeps_limits=False)
    assert broken.nearest(3) == ()
    assert len(asked) == 2


@pytest.mark.parametrize(("fastest", "begins"), [("fast", "fast"), (None, "best")])
def test_a_front_begins_with_the_fastest_design(monkeypatch, asked, fastest, begins):
    monkeypatch.setattr(surroundings, "fastest_design", lambda search, limits: fastest)
    around = Surroundings("search", "best", "limits", None, keeps_limits=True)
    assert around.front == ("pareto_front", ("search", "best", begins, "limits"))
    assert Surroundings("s", "best", "l", None, keeps_limits=False).front == ("best",)
