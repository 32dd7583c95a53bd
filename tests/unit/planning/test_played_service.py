"""A service played end to end, worked by hand: who is served when, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.planning import service_verify, traffic
from afdplan.planning.service_verify import ServiceVerification, _percentile, _played
from tests.unit.planning.test_service_numbers import design, ranks

ARRIVALS, DECODES = np.array([0.0, 1.0, 2.0, 3.0, 9.0]), np.array([4, 2, 1, 2, 2])


def service(chosen, limit=None, rate=None, ttft=1.5):
    asked = []

    def at(rate):
        asked.append(rate)
        return ARRIVALS

    found = SimpleNamespace(
        pool=SimpleNamespace(
            traffic=SimpleNamespace(at=at, decodes=DECODES, prompts=10 * DECODES),
            ready=lambda workers, arrivals: arrivals + 0.1 * workers,
            limit=SimpleNamespace(time_to_first_token=ttft),
        ),
        limits=SimpleNamespace(requests_per_second=rate),
        rate=3.0,
        workers=5,
        plan=SimpleNamespace(
            recommended=chosen,
            limits=SimpleNamespace(time_per_output_token=limit),
            split=SimpleNamespace(design=SimpleNamespace(batch_size=8)),
        ),
        first_token=SimpleNamespace(p99=7.0),
    )
    return found, asked


def one_slot(step):
    """Ranks with a single slot whose requests take a step for each token."""
    other = replace(ranks(1), batch_size=1, ranks=1, tokens_per_step=1.0)
    return replace(other, step_time=replace(other.step_time, mean=step))


@pytest.mark.parametrize(("wanted", "rate"), [(None, 3.0), (2.0, 2.0)])
def test_requests_of_ranks_wait_for_slots(wanted, rate):
    """Ready half a second after they arrive; 4, 2, 1, 2, 2 tokens of a second, one at a time."""
    found, asked = service(one_slot(1.0), rate=wanted)
    told = service_verify.verify_service(found, None)
    starts = np.array([0.5, 4.5, 6.5, 7.5, 9.5])
    first, last = starts - ARRIVALS, starts + DECODES - ARRIVALS
    assert asked == [rate]
    assert (told.decode, told.requests, told.predicted_p99) == ("steps of full groups", 5, 7.0)
    assert told.first_token_p50.value == pytest.approx(np.quantile(first, 0.5))
    assert told.first_token_p99.value == pytest.approx(np.quantile(first, 0.99))
    assert told.latency_p50.value == pytest.approx(np.quantile(last, 0.5))
    assert told.latency_p99.value == pytest.approx(np.quantile(last, 0.99))
    assert told.token_time_mean == pytest.approx(1.0)
    assert told.token_time_p99.value == pytest.approx(1.0)
    assert told.good_fraction == 0.4
    assert told.goodput == pytest.approx(0.4 * rate)


def test_a_request_is_good_that_is_just_in_time():
    found, _ = service(one_slot(0.5), limit=0.5, ttft=1.75)
    # Starts at 0.5, 2.5, 3.5, 4, 9.5: after 0.5, 1.5, 1.5, 1 and 0.5 s.
    assert service_verify.verify_service(found, None).good_fraction == 1.0
    found, _ = service(one_slot(0.5), limit=0.5, ttft=1.5)
    assert service_verify.verify_service(found, None).good_fraction == 1.0
    found, _ = service(one_slot(0.5), limit=0.5, ttft=1.25)
    assert service_verify.verify_service(found, None).good_fraction == 0.6
    found, _ = service(one_slot(0.5), limit=0.49)
    assert service_verify.verify_service(found, None).good_fraction == 0.0


def test_requests_go_to_bundles_in_turn(monkeypatch):
    """Of two bundles the first has the 1st, 3rd and 5th; its last request never ends."""
    asked, shares = [], []

    def played(service, source, ready, prompts, decodes):
        asked.append((ready.tolist(), prompts.tolist(), decodes.tolist()))
        ends = ready + 2.0 * decodes
        ends[ready > 9] = np.nan
        return ready + 0.25, ends + 0.25

    monkeypatch.setattr(service_verify, "_played", played)
    found, _ = service(design(bundles=2), limit=2.0, rate=4.0)
    told = service_verify.verify_service(found, None, progress=shares.append)
    assert asked == [
        ([0.5, 2.5, 9.5], [40, 10, 20], [4, 1, 2]), ([1.5, 3.5], [20, 20], [2, 2])
    ]  # fmt: skip
    assert shares == [0.5, 1.0]
    assert (told.decode, told.requests, told.good_fraction, told.goodput) == ("simulated", 4, 1, 4)
    assert told.token_time_mean == pytest.approx(2.0)
    # A single request has no traffic of its own.
    asked.clear()
    found, _ = service(design(bundles=3))
    assert service_verify.verify_service(found, None).requests == 3  # the last one never ends
    assert len(asked) == 2


def test_only_so_many_requests_are_played(monkeypatch):
    monkeypatch.setattr(service_verify, "MOST_REQUESTS", 3)
    found, _ = service(one_slot(1.0))
    assert service_verify.verify_service(found, None).requests == 3


def test_what_was_planned_may_be_longer_than_what_is_played():
    played = Estimate(value=2.0, low=1.5, high=3.0, confidence=0.95, method="x")

    def agrees(predicted):
        one = dict.fromkeys(("first_token_p50", "token_time_p99", "latency_p50"), played)
        return ServiceVerification(
            decode="x", requests=1, first_token_p99=played, latency_p99=played, good_fraction=1.0,
            token_time_mean=1.0, goodput=1.0, predicted_p99=predicted, **one,
        ).agrees  # fmt: skip

    assert [agrees(1.29), agrees(1.31), agrees(99.0)] == [False, True, True]
    assert agrees(1.5 - 0.1 * 2.0)


@pytest.mark.parametrize(("workers", "each"), [(3, 3), (8, 1), (9, 1)])
def test_a_bundle_is_played_on_what_it_was_sent(monkeypatch, workers, each):
    """The log is in the order of ends; two requests are alike, and two never end."""
    ready = np.array([5.0, 6.0, 6.0, 6.0, 8.0, 8.0, 9.0, 9.4])
    prompts, decodes = (
        np.array([30, 10, 20, 20, 20, 20, 21, 21]),
        np.array([3, 1, 2, 7, 2, 2, 2, 2]),
    )
    seen = []

    def simulate(scenario, on_requests):
        seen.append(scenario)
        block = np.array([[20, 7, 1.0, 1.25, 9.0], [20, 2, 1.0, 1.5, 3.0]])
        on_requests(block)
        block[:] = -1  # the simulator uses its block again
        on_requests(np.array([[30, 3, 0.0, 0.25, 4.0], [20, 2, 3.0, 3.25, 5.0]]))
        on_requests(np.array([[20, 2, 3.0, 3.5, 5.5], [21, 2, 4.4, 4.5, 6.5]]))
        on_requests(np.array([[99, 9, 9.0, 9.0, 9.5]]))  # one that was never sent

    monkeypatch.setattr(service_verify, "simulate", simulate)
    monkeypatch.setattr(service_verify, "Scenario", lambda **asked: SimpleNamespace(**asked))
    one = design(attention_workers=workers, ffn_workers=2)
    asked = []
    source = SimpleNamespace(latency=lambda *of: asked.append(of))
    plan = SimpleNamespace(split=one)
    starts, ends = _played(SimpleNamespace(plan=plan), source, ready, prompts, decodes)
    assert np.flatnonzero(np.isnan(starts)).tolist() == [1, 6]
    assert np.flatnonzero(np.isnan(ends)).tolist() == [1, 6]
    rest = [0, 2, 3, 4, 5, 7]
    assert starts[rest].tolist() == [5.25, 6.5, 6.25, 8.25, 8.5, 9.5]
    assert ends[rest].tolist() == [9.0, 8.0, 14.0, 10.0, 10.5, 11.5]
    assert asked == [(1, 2, 8)]
    (scenario,) = seen
    assert scenario.lengths.arrival_times == pytest.approx(ready - 5.0)
    assert (scenario.start, scenario.window) == ("fresh", "all")
    assert scenario.requests_per_worker == each


@pytest.mark.parametrize(("size", "parts"), [(50, 20), (7, 7)])
def test_percentiles_of_a_run_come_from_consecutive_parts(monkeypatch, size, parts):
    told = {}

    def estimate(probability, quantile, beyond, totals, method):
        told.update(p=probability, q=quantile, beyond=beyond, totals=totals, method=method)

    monkeypatch.setattr(service_verify, "percentile_estimate", estimate)
    values = np.arange(size, dtype=float)
    _percentile(values, 0.5)
    assert (told["p"], told["method"], len(told["totals"])) == (0.5, "consecutive parts", parts)
    assert (sum(told["totals"]), sum(told["beyond"])) == (size, size // 2)
    assert told["beyond"][0] == 0
    assert told["beyond"][-1] == told["totals"][-1]
    assert [told["q"](p) for p in (-0.5, 0.5, 1.5)] == [0.0, (size - 1) / 2, size - 1]


TRACE = Trace(
    prompt_tokens=[9, 5, 7, 6], decode_tokens=[3, 4, 5, 1], arrival_times=[2.0, 3.0, 6.0, 6.5],
    cached_tokens=[0, 4, 2, 1], source="x",
)  # fmt: skip
LAW = EmpiricalLengths(TRACE)


@pytest.mark.parametrize(
    ("most", "rate", "name"),
    [(3, 2 / 4, "the first 3 arrivals of x"), (4, 3 / 4.5, "arrivals of x")],
)
def test_only_the_first_requests_of_a_long_trace_arrive(monkeypatch, most, rate, name):
    monkeypatch.setattr(traffic, "MOST_REQUESTS", most)
    found = traffic.service_traffic(LAW, TRACE, "trace", "recorded")
    assert found.arrivals.tolist() == [0.0, 1.0, 4.0, 4.5][:most]
    assert found.prompts.tolist() == [9, 5, 7, 6][:most]
    assert found.decodes.tolist() == [3, 4, 5, 1][:most]
    assert found.cached.tolist() == [0, 4, 2, 1][:most]
    assert (found.rate, found.name) == (rate, name)
    assert found.at(2 * rate).tolist() == (found.arrivals / 2).tolist()
    assert found.unique_fraction(4, 2) == 1.0
    assert found.cached_fraction == sum([0, 4, 2, 1][:most]) / sum([9, 5, 7, 6][:most])


def test_independent_users_arrive_once_a_second():
    found = traffic.service_traffic(LAW, TRACE, "poisson", "recorded", seed=3)
    gaps = np.random.default_rng(3).exponential(size=4)
    assert found.arrivals == pytest.approx([0.0, gaps[1], gaps[1:3].sum(), gaps[1:].sum()])
    assert (found.rate, found.name) == (1.0, "Poisson arrivals")
    assert (found.prompts.tolist(), found.cached.tolist()) == ([9, 5, 7, 6], [0, 4, 2, 1])
    law = IndependentLengths(prompt="fixed:7", decode="geometric:5")
    drawn = traffic.service_traffic(law, None, "poisson")
    assert drawn.arrivals.size == drawn.decodes.size == 50_000
    assert drawn.arrivals[-1] / 50_000 == pytest.approx(1.0, rel=0.03)
    assert drawn.cached.sum() == 0
    with pytest.raises(InvalidInputError, match="a law has no prefixes"):
        traffic.service_traffic(law, None, "poisson", "session")


def test_arrivals_need_two_moments():
    for times in ([5.0], [5.0, 5.0]):
        trace = Trace(
            prompt_tokens=[9] * len(times), decode_tokens=[3] * len(times), arrival_times=times,
            source="x",
        )  # fmt: skip
        with pytest.raises(InvalidInputError, match="x has none"):
            traffic.service_traffic(EmpiricalLengths(trace), trace)


def test_two_requests_have_times_and_shared_blocks_are_those_of_the_requests():
    times = Trace(prompt_tokens=[9, 5], decode_tokens=[3, 4], arrival_times=[0.0, 3.0], source="x")
    with pytest.raises(InvalidInputError, match="evenly spaced"):
        traffic.service_traffic(EmpiricalLengths(times), times)
    trace = SimpleNamespace(blocks="blocks")
    assert traffic._blocks(trace, "recorded") == "blocks"
    assert traffic._blocks(trace, "session") is traffic._blocks(None, "recorded") is None


@pytest.mark.parametrize(("most", "part"), [(3, (0, 3)), (9, (0, 4))])
def test_blocks_of_a_long_trace_are_those_of_its_first_requests(monkeypatch, most, part):
    asked = []
    blocks = SimpleNamespace(part=lambda *of: asked.append(of) or "part")
    monkeypatch.setattr(traffic, "MOST_REQUESTS", most)
    monkeypatch.setattr(traffic, "_blocks", lambda *_: blocks)
    assert traffic.service_traffic(LAW, TRACE, "trace", "recorded").blocks == "part"
    assert asked == [part]
