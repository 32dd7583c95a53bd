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
from afdplan.planning.verdict import Verdict
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
    (64, 10**9, True), (63, 10**9, False), (64, 2400, True), (64, 2399, False),
])  # fmt: skip
def test_what_would_take_minutes_is_not_played(monkeypatch, slots, stages, is_played):
    """Four workers of two times 8 slots; two runs of 15 steps of 4 x 2 x 10 stages."""
    monkeypatch.setattr(played, "MOST_SLOTS", slots)
    monkeypatch.setattr(played, "MOST_STAGES", stages)
    monkeypatch.setattr(played, "simulate", lambda scenario: scenario)
    monkeypatch.setattr(played, "record_timeline", lambda _, steps: steps)
    latency = LatencyModel.linear(
        attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), layers=10, tokens_per_step=2.0
    )
    law = IndependentLengths(prompt="fixed:100", decode="fixed:30")
    problem = RatioProblem(law=law, latency=latency, batch_size=8, microbatches=2)
    found = played.play_bundles(problem, 2, [4, 2, 3])
    assert (found is not None) is is_played
    if found is not None:
        assert [one.bundle.attention_workers for one in found.results] == [2, 3, 4]
        assert found.chosen is found.results[0]
        assert found.timeline == 3
        assert {one.requests_per_worker for one in found.results} == {16}
        assert {one.replications for one in found.results} == {2}
        assert {(one.start, one.window) for one in found.results} == {("stationary", "steady")}


class Neighbours:
    """A search that notes which spaces it is asked for; every plan scores 8."""

    def __init__(self, space, numbers=(1, 2, 4)):
        self.space, self.asked = space, []
        self.source = SimpleNamespace(ffn_workers=self._numbers)
        self.numbers = numbers

    def _numbers(self, most):
        self.most = most
        return self.numbers

    def best(self, limits, space, known):
        self.asked.append((space.batch_sizes, space.microbatches, space.ffn_workers))
        self.known = known
        return SimpleNamespace(score=8.0, design=len(self.asked))


@pytest.fixture
def plain(monkeypatch):
    """Neighbours in A are told at once, and nothing is known to be beaten."""
    steps = []

    def next_pair(search, space, design, limits, step):
        steps.append(step)
        return replace(design, attention_workers=design.attention_workers + 3 * step)

    def against(search, best, words, pair, limits):
        return SimpleNamespace(
            change=words, kind="attention_workers", breaks="", regret=0.5, plan=search.worst
        )

    monkeypatch.setattr(neighbours, "_next_pair", next_pair)
    monkeypatch.setattr(neighbours, "_against", against)
    monkeypatch.setattr(neighbours, "_able", lambda search, space, near, limits: search.able)
    monkeypatch.setattr(neighbours, "_same_ratio", lambda search, space, design, *_: design)
    Neighbours.able, Neighbours.worst = None, SimpleNamespace(score=5.0, design=1)
    return steps


def test_every_neighbour_is_looked_for(plain):
    """Batches, microbatches and FFN workers on both sides; each gives up 8 of 10."""
    space = SearchSpace(batch_sizes=(2, 4, 8, 16, 32))
    search, best = Neighbours(space), SimpleNamespace(design=DESIGN, score=10.0)
    found = neighbours.alternatives(search, best, Limits(devices=16))
    assert plain == [-1, 1]
    assert [one.change for one in found] == [
        "3 fewer attention workers", "3 more attention workers", "batch size 4", "batch size 16",
        "1 microbatch", "3 microbatches", "1 FFN worker per bundle", "4 FFN workers per bundle",
    ]  # fmt: skip
    m = space.microbatches
    assert search.asked == [
        ((4,), m, None), ((16,), m, None),
        (space.batch_sizes, (1,), None), (space.batch_sizes, (3,), None),
        (space.batch_sizes, m, (1,)), (space.batch_sizes, m, (4,)),
    ]  # fmt: skip
    assert [one.regret for one in found[2:]] == pytest.approx([0.2] * 6)
    assert search.most == 16
    neighbours.alternatives(search, best, Limits(most_cost=9.0))
    assert search.most == 8 * 2


@pytest.mark.parametrize(("m", "changes"), [(1, [2]), (4, [3]), (6, [])])
def test_one_to_four_microbatches_are_compared(plain, m, changes):
    search = Neighbours(SearchSpace(batch_sizes=(8,)), numbers=(2,))
    best = SimpleNamespace(design=replace(DESIGN, microbatches=m), score=10.0)
    neighbours.alternatives(search, best, Limits(devices=16))
    assert [asked[1] for asked in search.asked] == [(count,) for count in changes]


def test_ffn_workers_at_the_ends_or_fixed_have_no_other(plain):
    best = SimpleNamespace(design=DESIGN, score=10.0)
    for numbers, fixed, others in (
        ((2, 4), None, [(4,)]), ((1, 2), None, [(1,)]), ((1, 4), None, []), ((1, 2, 4), (2,), []),
    ):  # fmt: skip
        search = Neighbours(SearchSpace(batch_sizes=(8,), ffn_workers=fixed), numbers)
        neighbours.alternatives(search, best, Limits(devices=16))
        assert [one[2] for one in search.asked[2:]] == others


@pytest.mark.parametrize(
    ("nearest", "able", "known"), [(None, 7.0, 7.0), (2, None, 5.0), (2, 7.0, 7.0), (2, 4.0, 5.0)]
)
def test_what_gives_up_more_than_enough_others_is_not_looked_for(plain, nearest, able, known):
    search = Neighbours(SearchSpace(batch_sizes=(4, 8)), numbers=(2,))
    search.able = able and SimpleNamespace(score=able)
    best = SimpleNamespace(design=replace(DESIGN, microbatches=6), score=10.0)
    found = neighbours.alternatives(search, best, Limits(devices=16), nearest)
    assert search.known.score == known
    # The very plan that was to be beaten is no alternative once more.
    assert len(found) == (3 if nearest is None else 2)


@pytest.mark.parametrize(
    ("split", "nearest", "widths", "told"),
    [
        ("split", None, ("w",), ("split", "yes", "")),
        ("split", None, (), ("split", "yes", "")),
        (None, "near", ("w",), ("near", "no", "too slow")),
        (None, "near", (), None),
        (None, None, ("w",), None),
    ],
)
def test_where_no_split_is_possible_ranks_are_enough(monkeypatch, split, nearest, widths, told):
    def plan(name):
        parts = SimpleNamespace(attention_devices=1, ffn_workers=2, batch_size=8)
        return name and SimpleNamespace(name=name, design=parts)

    class Refused:
        def __init__(self, *_):
            self.nearest = plan(nearest)

        def __str__(self):
            return "too slow. Give it more."

    sides = SimpleNamespace(widths=lambda _: widths)
    monkeypatch.setattr(holding, "ColocatedSearch", SimpleNamespace(of=lambda _: sides))
    monkeypatch.setattr(holding, "explain_infeasible", Refused)
    said = Verdict(split="yes", gain=0.1, narrow_gain=0.2, interval=None, reasons=("a", "b"))
    monkeypatch.setattr(holding, "judge", lambda *_: said)
    source = SimpleNamespace(latency=lambda *of: of)
    search = SimpleNamespace(best=lambda limits, known: plan(split))
    found = holding._best(MORNING, Limits(devices=8), source, search)
    assert (found is None) is (told is None)
    if found is not None:
        assert (found.split.name, found.verdict.split, found.split_breaks) == told
        assert found.latency == (1, 2, 8)
        assert found.verdict.gain == (0.1 if split else None)
        first = "a" if split else "do not split: too slow"
        assert found.verdict.reasons == (first, "b")


def test_the_nearest_plan_of_a_refusal_is_held_at_the_same_share_of_every_rate(monkeypatch):
    """Half the rate of the part that asks most is half of every other's."""
    told, rates = [], []
    monkeypatch.setattr(holding, "_best", lambda *_: None)
    monkeypatch.setattr(
        holding, "explain_infeasible", lambda search, limits, where, breaks: told.append(breaks)
    )

    def hold(plan, part, limits, search):
        assert part.arrival_rate is None
        rates.append(limits.requests_per_second)
        return SimpleNamespace(breaches=["noon: slow"] if part.name == "noon" else [])

    monkeypatch.setattr(holding, "hold", hold)
    parts = {
        "morning": replace(MORNING, arrival_rate=6.0), "noon": replace(NOON, arrival_rate=2.0)
    }  # fmt: skip
    whole, limits = Circumstance(name="all requests", law=LAW), Limits(devices=8)
    searches = dict.fromkeys(("morning", "noon", "all requests"))
    asked = replace(limits, requests_per_second=4.0)
    holding._refused(whole, asked, None, parts, searches)
    assert told[-1]("plan", replace(asked, requests_per_second=3.0)) == "noon: slow"
    assert rates == [3.0, 1.0]
    rates.clear()
    holding._refused(whole, limits, None, {"morning": parts["morning"]}, searches)
    assert told[-1]("plan", limits) == ""
    assert rates == [None]


@pytest.mark.parametrize("able", [(1, 2, 3), (2,), (1, 2), (2, 3)])
def test_microbatches_that_the_system_runs_are_compared(plain, able):
    search = Neighbours(SearchSpace(batch_sizes=(8,)), numbers=(2,))
    target = SimpleNamespace(name="system", microbatches=able)
    search.space = replace(search.space, target=target)
    best = SimpleNamespace(design=replace(DESIGN, microbatches=2), score=10.0)
    neighbours.alternatives(search, best, Limits(devices=16))
    assert [asked[1] for asked in search.asked] == [(m,) for m in (1, 3) if m in able]
