"""By how much limits are broken, which rate a part needs, what is left to decode: by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.planning.held import (
    Breach,
    Circumstance,
    _heavier,
    breaches,
    circumstances,
    hold,
    limits_in,
)
from afdplan.planning.holding import Holding, _rate_for_all
from afdplan.planning.limits import Limits
from afdplan.planning.service_search import _is_as_wide, _left, _too_few, _with_shared_blocks
from tests.unit.planning.test_service_numbers import LAW, LIMITS, SEARCH, design, pool, ranks

SHORT = IndependentLengths(prompt="fixed:500", decode="fixed:10")


def found(time=0.1, overflow=0.0, rate=5.0):
    return SimpleNamespace(
        token_time=lambda statistic: time,
        held_overflow_probability=overflow,
        requests_per_second=rate,
    )


def test_each_limit_and_by_how_much_it_is_broken():
    limits = Limits(
        devices=8, time_per_output_token=0.2, requests_per_second=4.0, overflow_probability=0.01,
        margin=0.25,
    )  # fmt: skip
    assert list(breaches(found(0.15), "x", limits)) == []
    (slow,) = breaches(found(0.18), "x", limits)
    assert (slow.limit, slow.value) == ("time per output token", 0.18)
    assert slow.allowed == pytest.approx(0.15)
    assert slow.excess == pytest.approx(0.2)
    assert str(slow) == "x: 180 ms per output token, 150 ms allowed: 20.0 % of it too long".replace(
        "of it ", ""
    )
    (full,) = breaches(found(overflow=0.03), "x", limits)
    assert (full.value, full.allowed, full.excess) == (0.03, 0.01, 0.03)
    assert str(full) == (
        "x: the KV cache overflows with probability 0.03 per worker and step, 0.01 allowed"
    )
    assert list(breaches(found(overflow=0.01), "x", limits)) == []
    (few,) = breaches(found(rate=4.0), "x", limits)
    assert (few.value, few.allowed, few.excess) == (4.0, 5.0, pytest.approx(0.2))
    assert str(few) == "x: 4 requests/s can be finished, 5 are needed: 20.0 % too few"
    assert len(list(breaches(found(0.2, 1.0, 1.0), "x", limits))) == 3
    little = replace(slow, excess=0.00099)
    assert "0.00099 of it too long" in str(little)
    assert "0.1 % too long" in str(replace(slow, excess=0.001))


@pytest.mark.parametrize("deployment", [design(), ranks()])
def test_a_deployment_under_the_requests_of_a_part(deployment):
    """Prompts of half the length: shorter steps, and the rate of the part alone."""
    from afdplan.planning.search import DesignSearch

    search = DesignSearch(SHORT, SEARCH.source, SEARCH.space, SEARCH.score.cost)
    where = Circumstance(name="noon", law=SHORT, arrival_rate=7.0)
    limits = replace(LIMITS, requests_per_second=3.0)
    held = hold(deployment, where, limits, search)
    assert limits_in(where, limits).requests_per_second == 7.0
    assert limits_in(replace(where, arrival_rate=None), limits).requests_per_second == 3.0
    assert limits_in(where, LIMITS).requests_per_second is None
    shorter = 10 * 1e-6 * 8 * (LAW.token_load().mean - SHORT.token_load().mean)
    step = deployment.step_time.mean - shorter
    assert held.time_per_output_token == pytest.approx(step)
    assert held.requests_per_second == pytest.approx(deployment.slots / step / 10)
    assert (held.part, held.arrival_rate, held.mean_token_load) == ("noon", 7.0, 504.5)
    assert held.meets_limit
    assert not hold(
        deployment, where, replace(limits, time_per_output_token=0.99 * step), search
    ).meets_limit


def test_a_stated_rate_scales_what_was_recorded():
    """500 and 1,500 requests in halves of 1,000 s: of 4 requests/s in all, 2 and 6."""
    times = np.concatenate([np.linspace(0, 1000, 500, False), np.linspace(1000, 2000, 1500)])
    prompts = np.concatenate([np.full(500, 100), np.full(1500, 4000)])
    trace = Trace(
        prompt_tokens=prompts, decode_tokens=np.full(2000, 20), arrival_times=times, source="x"
    )
    for rate, first, last in ((None, 0.5, 1.5), (4.0, 2.0, 6.0)):
        limits = Limits(devices=8, requests_per_second=rate)
        parts, ends = circumstances(trace, None, limits)
        assert ends == ()
        assert len(parts) >= 2
        assert parts[0].arrival_rate == pytest.approx(first, rel=0.01)
        assert parts[-1].arrival_rate == pytest.approx(last, rel=0.01)
        assert parts[0].law.token_load().mean == pytest.approx(109.5)


def holding(rates, recommended=10.0):
    """Return where the deployment finishes so many requests per second, of which some arrive."""
    parts = tuple(
        SimpleNamespace(part=name, requests_per_second=able, arrival_rate=arrive, breaches=())
        for name, able, arrive in rates
    )
    return SimpleNamespace(
        parts=parts, ends=(), recommended=SimpleNamespace(requests_per_second=recommended)
    )


def test_the_rate_at_which_every_part_gets_its_own():
    """Slots that finish 8 of the first finish 4 of the second: 3 of those are 6 of the first."""
    limits, law = Limits(devices=8, requests_per_second=4.0), SHORT
    now = holding([("first", 8.0, 5.0), ("second", 4.0, 3.0)])
    for name, wanted in (("first", 6.0), ("second", 3.0), ("all requests", 7.5)):
        asked = _rate_for_all(now, Circumstance(name=name, law=law), limits)
        assert asked.requests_per_second == pytest.approx(wanted, rel=1e-8)
    # Of all requests no fewer than were asked for; a part without arrivals gets the stated rate.
    calm = holding([("first", 80.0, 5.0), ("second", 40.0, None)])
    asked = _rate_for_all(calm, Circumstance(name="all requests", law=law), limits)
    assert asked.requests_per_second == pytest.approx(4.0)
    asked = _rate_for_all(calm, Circumstance(name="first", law=law), limits)
    assert asked.requests_per_second == pytest.approx(8.0)
    free = Limits(devices=8)
    assert _rate_for_all(now, Circumstance(name="first", law=law), free) is free


def test_the_gravest_breach_is_told_first():
    def held(*excesses):
        broken = tuple(
            Breach(part="x", limit="rate", value=1.0, allowed=2.0, excess=e) for e in excesses
        )
        return SimpleNamespace(breaches=broken)

    one = Holding(
        basis=None, limits=LIMITS, search=None, split="split", colocated=(), verdict=None,
        latency=None, parts=(held(0.1, 0.4), held()), ends=(held(0.2),),
    )  # fmt: skip
    assert [breach.excess for breach in one.breaches] == [0.4, 0.2, 0.1]
    assert one.recommended == "split"
    rank = ranks()
    for split, recommended in (("yes", "split"), ("even", rank), ("no", rank)):
        two = replace(one, colocated=(rank,), verdict=SimpleNamespace(split=split))
        assert two.recommended is recommended


def test_what_prefill_leaves_to_decode():
    sharing = SimpleNamespace(
        prefill_devices=6, workers=3, pool=SimpleNamespace(model="m"), decode_factor=1.1
    )
    left = _left(Limits(devices=20, requests_per_second=4.0), sharing, 1.5)
    assert (left.devices, left.requests_per_second) == (14, 6.0)
    left = _left(Limits(requests_per_second=4.0), sharing, 1.0)
    assert (left.devices, left.requests_per_second) == (None, 4.0)
    assert _left(Limits(devices=20), sharing, 2.0).requests_per_second is None
    for change, same in (({}, True), ({"workers": 4}, False), ({"decode_factor": 1.2}, False)):
        other = SimpleNamespace(**(vars(sharing) | change))
        assert _is_as_wide(sharing, other) is same


def test_too_few_devices_for_both_sides():
    """A worker of two devices computes one prompt a second."""
    pools = [pool(limit=60.0, devices=2)]
    said = str(_too_few(Limits(devices=6, requests_per_second=2.5), pools, SEARCH))
    assert said.startswith("6 devices are too few: prefill alone takes 6 devices at least")
    quick = Limits(devices=9, requests_per_second=2.5, time_per_output_token=1e-3)
    said = str(_too_few(quick, pools, SEARCH))
    assert said.startswith("6 of 9 devices compute prompts; on the others no plan meets all limits")
    said = str(_too_few(Limits(devices=9, requests_per_second=2.5), pools, SEARCH))
    assert said.startswith("9 devices are too few: prefill takes 6 devices at least, and with what")
    said = str(_too_few(Limits(requests_per_second=2.5), pools, SEARCH))
    assert said.startswith("prefill takes 6 devices at least")


def test_memory_that_shared_blocks_leave_is_planned_with_until_it_holds():
    """A larger deployment shares less of its own: no more is taken off than it saves."""
    asked = []

    def planned(fraction):
        asked.append(fraction)
        decode = replace(design(bundles=round(2 / fraction)))
        return SimpleNamespace(plan=SimpleNamespace(recommended=decode), fraction=fraction)

    def traffic(*fractions):
        left = iter(fractions)
        seen = []

        def unique(slots, workers):
            seen.append((slots, workers))
            return next(left)

        return SimpleNamespace(unique_fraction=unique, seen=seen)

    shares = traffic(0.5, 0.6, 0.6)
    found = _with_shared_blocks(planned, shares)
    assert asked == [1.0, 0.5, 0.6]
    assert found.fraction == 0.6
    assert shares.seen[0] == (48, 6)  # two bundles of three workers of eight
    asked.clear()
    assert _with_shared_blocks(planned, traffic(1.0)).fraction == 1.0
    assert asked == [1.0]
    asked.clear()
    assert _with_shared_blocks(planned, traffic(0.5, 0.5)).fraction == 0.5
    asked.clear()
    assert (
        _with_shared_blocks(planned, traffic(0.5, *[0.5 + k / 100 for k in range(1, 9)])).fraction
        == 1.0
    )


def test_lighter_requests_have_one_token_at_least():
    """Where prompts hardly matter, outputs shrink: 100 to 25 and 1 to 1, prompts of 4 to 1."""
    trace = Trace(prompt_tokens=[4, 4], decode_tokens=[100, 1], source="x")
    light = _heavier(trace, EmpiricalLengths(trace).token_load().mean / 4)
    rows = light
    assert rows.decode_tokens.tolist() == [25, 1]
    assert rows.prompt_tokens.tolist() == [1, 1]
    # Where they do, prompts alone grow: 1,000 by as many tokens as the mean load does.
    trace = Trace(prompt_tokens=[1000, 1000], decode_tokens=[3, 3], source="x")
    heavy = _heavier(trace, EmpiricalLengths(trace).token_load().mean + 500)
    assert heavy.prompt_tokens.tolist() == [1500, 1500]
    assert heavy.decode_tokens.tolist() == [3, 3]
