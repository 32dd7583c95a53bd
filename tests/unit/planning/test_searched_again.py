"""What is searched again, and with what: parts that break, neighbours, fronts; worked by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning import alternatives as neighbours
from afdplan.planning import holding, played
from afdplan.planning.design import Design
from afdplan.planning.held import Breach, Circumstance
from afdplan.planning.limits import Limits
from afdplan.planning.space import SearchSpace
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
HEAVY = IndependentLengths(prompt="fixed:3000", decode="fixed:1")
MORNING, NOON = Circumstance(name="morning", law=LAW), Circumstance(name="noon", law=HEAVY)
DESIGN = Design(bundles=2, attention_workers=6, ffn_workers=2, batch_size=8, microbatches=2)


def breach(part, limit, excess):
    return Breach(part=part, limit=limit, value=1.0, allowed=1.0, excess=excess)


def held_again(monkeypatch, *breaches, limits=None):
    """Return what is searched, one search for each list of breaches that the last one left."""
    asked, shares = [], []
    limits = limits or Limits(devices=8)
    left = iter(breaches)

    def best(where, again, source, search, known=None):
        found = next(left, None)
        asked.append((where.name, again.margin, known))
        if found is None:
            return None
        return SimpleNamespace(
            basis=where, limits=again, breaches=found, split=len(asked), split_breaks=""
        )

    monkeypatch.setattr(holding, "_best", best)
    monkeypatch.setattr(holding, "_held", lambda found, *_: found)
    monkeypatch.setattr(holding, "_rate_for_all", lambda current, where, asked: asked)
    monkeypatch.setattr(holding, "DesignSearch", lambda *_, **__: None)
    search = SimpleNamespace(models=SimpleNamespace(times=None))
    found = holding.find_holding(
        LAW, None, limits, None, None, [MORNING], [NOON], search, shares.append
    )
    return found.split, asked, shares


def test_the_part_that_breaks_most_is_planned_for(monkeypatch):
    slow, full = breach("noon", "time per output token", 0.3), breach("morning", "KV memory", 0.1)
    found, asked, shares = held_again(monkeypatch, [slow, full], [full], [])
    assert (found, asked) == (
        3, [("all requests", 0.0, None), ("noon", 0.0, None), ("morning", 0.0, None)]
    )  # fmt: skip
    assert shares == pytest.approx([0.5, 0.6, 0.65, 0.7])


@pytest.mark.parametrize(
    ("limit", "excess", "more"),
    [
        ("time per output token", 0.3, 0.3),
        ("time per output token", 7.0, 1.0),
        ("KV memory", 0.3, 0.05),
    ],
)
def test_a_part_that_had_its_turn_gets_a_margin(monkeypatch, limit, excess, more):
    again, left = breach("noon", limit, excess), 0.9
    limits = Limits(devices=8, margin=0.1)
    found, asked, _ = held_again(monkeypatch, [again], [again], [again], [], limits=limits)
    assert found == 4
    once = 1 - left / (1 + more) * (1 - 1e-6)
    twice = 1 - (1 - once) / (1 + more) * (1 - 1e-6)
    assert [margin for _, margin, _ in asked] == pytest.approx([0.1, 0.1, once, twice], abs=1e-12)


def test_of_parts_that_had_their_turn_the_others_come_first(monkeypatch):
    noon, morning = (breach(part, "KV memory", 0.1) for part in ("noon", "morning"))
    _, asked, _ = held_again(monkeypatch, [noon], [noon, morning], [])
    assert [name for name, _, _ in asked] == ["all requests", "noon", "morning"]


def test_only_a_rate_takes_more_of_the_same(monkeypatch):
    rate = breach("noon", "rate", 9.0)
    found, asked, _ = held_again(monkeypatch, [rate], [rate], [])
    assert (found, asked) == (
        3, [("all requests", 0.0, None), ("all requests", 0.0, 1), ("all requests", 0.0, 2)]
    )  # fmt: skip


def test_after_six_tries_the_first_is_told(monkeypatch):
    slow = breach("noon", "time per output token", 0.1)
    found, asked, shares = held_again(monkeypatch, *[[slow]] * 20)
    assert (found, len(asked), len(shares)) == (1, 7, 7)
    found, asked, _ = held_again(monkeypatch, [slow], [slow])  # nothing is found then
    assert (found, len(asked)) == (1, 3)
    found, asked, _ = held_again(monkeypatch, *[[slow]] * 6, [])
    assert (found, len(asked)) == (7, 7)


@pytest.mark.parametrize(
    ("rates", "possible", "told"),
    [
        ((1.0, 1.0), False, "noon"),
        ((6.0, 3.0), False, "morning"),
        ((1.0, 1.0), True, ""),
    ],
)
def test_a_refusal_is_told_of_what_asks_most(monkeypatch, rates, possible, told):
    """Loads of 2,000 and 3,000 tokens, at so many requests per second; 2 of all."""
    asked = []
    monkeypatch.setattr(holding, "_best", lambda *_: possible or None)
    monkeypatch.setattr(
        holding, "explain_infeasible",
        lambda search, limits, where, breaks: asked.append((search, limits, where)),
    )  # fmt: skip
    parts = {
        one.name: replace(one, arrival_rate=rate)
        for one, rate in zip((MORNING, NOON), rates, strict=True)
    }
    searches = {name: name for name in ("morning", "noon", "all requests")}
    whole = Circumstance(name="all requests", law=LAW)
    limits = Limits(devices=8, requests_per_second=1.25)
    holding._refused(whole, limits, None, parts, searches)
    ((search, inside, where),) = asked
    assert (search, where) == (told or "all requests", told)
    rate = dict(zip(parts, rates, strict=True)).get(told, 1.25)
    assert inside.requests_per_second == rate


def test_batch_sizes_of_the_list_and_what_gives_up_most():
    space = SearchSpace(batch_sizes=(4, 8, 16))
    assert [neighbours._listed(space, size) for size in (3, 4, 9, 16, 99)] == [4, 4, 8, 16, 16]

    def one(regret, breaks=""):
        return SimpleNamespace(regret=regret, breaks=breaks, plan=regret)

    found = [one(0.3), one(0.1), one(-0.5, "devices"), one(0.2)]
    assert [neighbours._last_of(found, n) for n in (1, 2, 3, 4)] == [0.1, 0.2, 0.3, None]


def lattice(attention, ffn, bundles):
    return SimpleNamespace(
        attention=np.array(attention), ffn=np.array(ffn), most_bundles=np.array(bundles)
    )


def test_the_next_legal_ratio_has_as_many_bundles_as_fit():
    asked = []

    def all_pairs(limits, space, devices, most):
        asked.append((space.ffn_workers, devices, most))
        return lattice([9, 2, 6, 4, 7], [2] * 5, [1, 5, 2, 3, 0])

    search = SimpleNamespace(lattice=all_pairs)
    space = SearchSpace(batch_sizes=(8,))
    for step, workers, bundles in ((-1, 4, 3), (1, 7, 2)):
        for limits, most in ((Limits(devices=16), 16), (Limits(most_cost=9.0), 32)):
            found = neighbours._next_pair(search, space, DESIGN, limits, step)
            assert found == replace(DESIGN, attention_workers=workers, bundles=bundles)
            assert asked[-1] == ((2,), 1, most)
    first, last = (replace(DESIGN, attention_workers=a) for a in (2, 9))
    assert neighbours._next_pair(search, space, first, Limits(devices=16), -1) is None
    assert neighbours._next_pair(search, space, last, Limits(devices=16), 1) is None


def test_another_number_of_ffn_workers_keeps_the_ratio():
    search = SimpleNamespace(lattice=lambda *_: lattice([1, 8, 10, 14], [3] * 4, [1] * 4))
    found = neighbours._same_ratio(search, None, DESIGN, Limits(devices=16), 3)
    assert found == replace(DESIGN, attention_workers=8, ffn_workers=3)  # of 9: the first as near
    search = SimpleNamespace(lattice=lambda *_: lattice([], [], []))
    found = neighbours._same_ratio(search, None, DESIGN, Limits(devices=16), 3)
    assert found == replace(DESIGN, ffn_workers=3)


class Refilled:
    """A search whose designs are slow from a batch size on, and full from another on."""

    def __init__(self, slow, full):
        self.slow, self.full, self.tried = slow, full, []

    def lattice(self, *_):
        return lattice([6, 6, 5], [1, 2, 2], [7, 4, 9])

    def refilled(self, design, limits):
        self.tried.append(design.batch_size)
        time = 2.0 if design.batch_size >= self.slow else 1.0
        return SimpleNamespace(
            design=design, token_time=lambda _: time, score=0.0,
            held_overflow_probability=0.5 if design.batch_size >= self.full else 1e-3,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("slow", "full", "found", "tried"),
    [
        (99, 99, 32, [32]),
        (16, 99, 8, [32, 16, 8]),
        (99, 16, 8, [32, 16, 8]),
        (1, 99, None, [32, 16, 8, 4]),
    ],
)
def test_something_to_beat_is_looked_for_at_three_smaller_batches(slow, full, found, tried):
    search = Refilled(slow, full)
    space, limits = SearchSpace(batch_sizes=(2, 4, 8, 16, 32, 64)), Limits(
        devices=16, time_per_output_token=1.0
    )  # fmt: skip
    plan = neighbours._able(search, space, replace(DESIGN, batch_size=32), limits)
    assert (plan and (plan.design.batch_size, plan.design.bundles)) == (found and (found, 4))
    assert search.tried == tried
    illegal = replace(DESIGN, attention_workers=7)
    assert neighbours._able(search, space, illegal, limits) is None


@pytest.mark.parametrize(
    ("time", "devices", "breaks"),
    [(1.0, 16, ""), (1.1, 16, "time per output token"), (1.0, 15, "devices"), (1.0, None, "")],
)
def test_what_an_alternative_loses_and_breaks(time, devices, breaks):
    plan = SimpleNamespace(token_time=lambda _: time, score=3.0)
    search = SimpleNamespace(describe=lambda *_: plan)
    limits = Limits(devices=devices, most_cost=None if devices else 9.0, time_per_output_token=1.0)
    best = SimpleNamespace(score=4.0)
    found = neighbours._against(search, best, "x", DESIGN, limits)
    assert (found.regret, found.breaks, found.kind) == (0.25, breaks, "attention_workers")


def test_a_front_is_of_six_times_from_the_fastest_to_twice_the_best():
    """Designs score their time until 3 s; what is known is passed on from point to point."""
    asked = []

    def plan(time, score, name):
        return SimpleNamespace(token_time=lambda _: time, score=score, design=name)

    def best(limits, known=None):
        asked.append((limits.time_per_output_token, known and known.design))
        time = limits.time_per_output_token
        return plan(time, min(time, 3.0), f"{time:.3f}")

    recommended = plan(5.0, 3.5, "best")
    found = neighbours.pareto_front(
        SimpleNamespace(best=best), recommended, plan(0.25, 1.0, "fast"), Limits(devices=8)
    )
    times = np.geomspace(0.25 * (1 + 1e-6), 10.0, 6)
    assert [time for time, _ in asked] == pytest.approx(times)
    names = [f"{time:.3f}" for time in times]
    assert [known for _, known in asked] == [None, *names[:4], "best"]
    assert [one.design for one in found] == [*names[:5], "best"]
    # A recommended design that is as fast as any: a percent more is looked at.
    asked.clear()
    neighbours.pareto_front(
        SimpleNamespace(best=best), plan(0.1, 1.0, "best"), plan(1.0, 1.0, "fast"),
        Limits(devices=8),
    )  # fmt: skip
    assert asked[-1][0] == pytest.approx(1.01)


@pytest.mark.parametrize(("slots", "stages", "is_played"), [
    (64, 10**9, True), (63, 10**9, False), (64, 4800, True), (64, 4799, False),
])  # fmt: skip
def test_what_would_take_minutes_is_not_played(monkeypatch, slots, stages, is_played):
    """Four workers of two times 8 slots; two runs of 30 steps of 4 x 2 x 10 stages."""
    monkeypatch.setattr(played, "MOST_SLOTS", slots)
    monkeypatch.setattr(played, "MOST_STAGES", stages)
    monkeypatch.setattr(played, "simulate", lambda scenario: scenario)
    monkeypatch.setattr(played, "record_timeline", lambda _, steps: steps)
    latency = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), layers=10)
    law = IndependentLengths(prompt="fixed:100", decode="fixed:30")
    problem = RatioProblem(law=law, latency=latency, batch_size=8, microbatches=2)
    found = played.play_bundles(problem, 2, [4, 2])
    assert (found is not None) is is_played
    if found is not None:
        assert [one.bundle.attention_workers for one in found.results] == [2, 4]
        assert found.chosen is found.results[0]
        assert found.timeline == 3
        assert {one.requests_per_worker for one in found.results} == {16}
        assert {one.replications for one in found.results} == {2}
        assert {(one.start, one.window) for one in found.results} == {("stationary", "steady")}
