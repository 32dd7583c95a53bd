"""Small parts of a plan by hand: rates of parts, methods beside, prices of nodes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning import held, plan_answer, ratio_grid
from afdplan.planning.binding import shadow_prices
from afdplan.planning.limits import Limits
from afdplan.planning.plan import Plan
from afdplan.planning.space import SearchSpace
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, microbatches=1)


@pytest.mark.parametrize(("rate", "told"), [(3.0, [3.0, None]), (None, [0.5, None])])
def test_arrivals_of_a_part_are_scaled_to_the_stated_rate(monkeypatch, rate, told):
    """Six requests in 10 s come 0.5 times a second: a stated rate of 3 is six times that."""
    trace = Trace(
        prompt_tokens=[9] * 6, decode_tokens=[2] * 6, arrival_times=[0, 1, 2, 3, 4, 10], source="x"
    )
    parts = [SimpleNamespace(name="x", trace=trace, arrival_rate=one) for one in (0.5, None)]
    monkeypatch.setattr(held, "tell_apart", lambda _: parts)
    found, ends = held.circumstances(trace, None, Limits(devices=8, requests_per_second=rate))
    assert [one.arrival_rate for one in found] == told
    assert ends == ()


@pytest.mark.parametrize(
    ("changes", "asked", "methods"),
    [
        ({}, "exact", ["gaussian", "mean-field"]), ({}, None, ["exact", "gaussian", "mean-field"]),
        ({"phase": "aligned"}, "exact", []),
        ({"horizon": 9, "method": "mean-field"}, "mean-field", []),
    ],
)  # fmt: skip
def test_methods_that_were_not_asked_for_stand_beside(changes, asked, methods):
    """Requests of one length make no barrier: all methods give A B tokens in a step of sums."""
    problem = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, microbatches=1, **changes)
    workers = np.array([2.0, 3.0])
    found = ratio_grid._other_methods(problem, problem.slot_loads(), workers, asked)
    assert list(found) == methods
    for told in found.values():
        steps = 10 * (1e-3 + 0.016 + 2e-3 + 8e-4 * workers + 2 * (5e-4 + 1.6e-5))
        assert told == pytest.approx(8 * workers / steps / (workers + 1), rel=1e-6)


@pytest.mark.parametrize("node", [1, 2, 8])
def test_nodes_of_two_devices_have_a_price_too(node):
    search = SimpleNamespace(
        space=SearchSpace(batch_sizes=(8,)), asked=[],
        memories=SimpleNamespace(of_worker=lambda _: None),
    )  # fmt: skip

    def best(limits, space=None, known=None):
        search.asked.append(limits)
        return SimpleNamespace(score=2.0 if limits.node_devices == 1 else 1.0, design="x")

    search.best = best
    recommended = SimpleNamespace(score=1.0, design=SimpleNamespace(attention_devices=1))
    prices = shadow_prices(search, recommended, Limits(requests_per_second=3.0, node_devices=node))
    assert [(price.limit, price.gain) for price in prices] == (
        [] if node == 1 else [("whole nodes", 1.0)]
    )


def test_a_plan_is_shown_without_what_it_was_made_from():
    assert {one.name for one in fields(Plan) if not one.repr} == {
        "surroundings", "requests", "source",
    }  # fmt: skip


@contextmanager
def bar(words):
    """Give the words of a bar for what shows its share."""
    yield words


def test_a_service_is_played_where_there_is_one(monkeypatch):
    """What is played shows how far it is."""
    monkeypatch.setattr(
        "afdplan.planning.service_verify.verify_service",
        lambda service, source, progress: (service, source, progress),
    )
    monkeypatch.setattr(
        "afdplan.planning.verify.verify_plan",
        lambda plan, progress: (plan, progress),
    )
    monkeypatch.setattr(
        "afdplan.planning.plan_around.plan_around",
        lambda plan, show: (plan, show),
    )
    played = plan_answer._played(SimpleNamespace(service="service"), "source", bar)
    assert played == ("service", "source", "playing the service")
    assert plan_answer._played(SimpleNamespace(service=None), "source", bar) is None
    assert plan_answer._verified("plan", bar) == ("plan", "simulating")
    assert plan_answer._around("plan", bar) == ("plan", "other batches")
