"""Do failures leave what the formula says, by a run that shares no code with it?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.failures import Failures
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.failures import play_failures
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.failures import bundle_failures, mean_outage, no_spare_probability

GENERATOR = np.random.default_rng(8)
DECODES = np.concatenate([GENERATOR.geometric(1 / 200, 900), GENERATOR.integers(2000, 6000, 100)])
LAW = EmpiricalLengths(Trace(prompt_tokens=np.ones(1000, np.int64), decode_tokens=DECODES))
CASES = {
    "rare": (0.05, 8, Failures(device_mtbf=4e5, restart=300.0)),
    "often": (0.05, 32, Failures(device_mtbf=2e4, restart=120.0)),
    "repaired": (0.05, 8, Failures(device_mtbf=4e5, restart=60.0, repair=4000.0)),
    "spare": (0.05, 8, Failures(device_mtbf=4e5, restart=60.0, repair=4000.0, spare_devices=1)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_formula_is_what_a_run_with_failures_gives(case):
    token_time, devices, failures = CASES[case]
    bundles = 6
    expected = bundle_failures(LAW, token_time, devices, failures, bundles * devices)
    runs = [
        play_failures(
            DECODES,
            token_time,
            bundles=bundles,
            bundle_devices=devices,
            slots=4,
            failures=failures,
            duration=80 / expected.rate,
            seed=seed,
        )
        for seed in range(24)
    ]

    def z(values, value):
        values = np.array(values)
        spread = max(values.std(ddof=1) / math.sqrt(values.size), 1e-9 * abs(value))
        return (values.mean() - value) / spread

    # Bundles that wait for repair fail less often than the infinite source of the formula.
    slack = 1 + 0.06 * (failures.repair > 0)
    outages = [run.mean_outage for run in runs]
    if failures.repair:
        assert 1 / slack <= np.mean(outages) / expected.outage <= slack
        assert np.mean([run.share for run in runs]) == pytest.approx(expected.share, rel=0.02)
    else:
        assert abs(z([run.share for run in runs], expected.share)) <= 5
        # Power: without the lost work the formula would be refused.
        assert abs(z([run.share for run in runs], expected.availability)) > 5
        assert abs(z([run.lost_tokens for run in runs], expected.lost_tokens)) <= 5
    rate = np.mean([run.failures / (80 / expected.rate * bundles) for run in runs])
    assert rate == pytest.approx(expected.rate * expected.availability, rel=0.06)


def test_without_failures_nothing_is_lost():
    law = LAW
    never = bundle_failures(law, 0.05, 64, Failures(device_mtbf=1e30, restart=300.0))
    assert never.share == pytest.approx(1.0, abs=1e-12)
    near, far = (
        bundle_failures(law, 0.05, 64, Failures(device_mtbf=mtbf, restart=300.0))
        for mtbf in (64 * 0.05 / 1.01e-9, 64 * 0.05 / 0.99e-9)
    )
    assert near.lost_tokens == pytest.approx(far.lost_tokens, rel=1e-3)
    assert near.share == pytest.approx(far.share, rel=1e-6)


def test_geometric_lengths_lose_their_mean_age():
    """Without memory, useful tokens are (1 - p) / (p + ...): the closed sum of a geometric law."""
    from afdplan.lengths.law import IndependentLengths

    law = IndependentLengths(prompt="fixed:1", decode="geometric:100")
    failures = Failures(device_mtbf=8e3, restart=10.0)
    found = bundle_failures(law, 0.1, 8, failures)
    q, p = math.exp(-found.rate * 0.1), 1 / 100
    chance = p * q / (1 - (1 - p) * q)
    tokens = p * q / (1 - (1 - p) * q) ** 2
    assert found.share == pytest.approx(0.1 * tokens / (1 - chance) / (1 / found.rate + 10), 1e-5)


def test_more_spares_and_smaller_bundles_lose_less():
    kept = [Failures(device_mtbf=1e6, restart=300.0, repair=1e4, spare_devices=k) for k in range(5)]
    outages = [mean_outage(256, one) for one in kept]
    assert outages == sorted(outages, reverse=True)
    chances = [no_spare_probability(256, one) for one in kept]
    assert chances[0] == 1.0
    assert chances == sorted(chances, reverse=True)
    shares = [bundle_failures(LAW, 0.05, n, kept[0], 256).share for n in (8, 16, 64, 256)]
    assert shares == sorted(shares, reverse=True)


def test_a_mean_time_of_zero_is_refused():
    with pytest.raises(InvalidInputError, match="device_mtbf"):
        Failures(device_mtbf=0.0)


STEADY = LatencyModel.linear(
    attention=(0.0, 0.01), ffn=(0.0, 0.01), transfer=(0.0, 0.0), time_unit="s"
)


def played(failures, **changes):
    """Return what the simulator gives a bundle of eight devices with steps of a constant time."""
    asked = {
        "bundle": Bundle(attention_workers=6, ffn_workers=2, batch_size=8, microbatches=1),
        "latency": STEADY,
        "lengths": IndependentLengths(prompt="50", decode="geometric:200"),
        "requests_per_worker": 2500,
        "replications": 12,
        "seed": 4,
    }
    return simulate(Scenario(**(asked | changes), failures=failures))


@pytest.mark.parametrize(
    "failures",
    [Failures(device_mtbf=300.0, restart=0.0), Failures(device_mtbf=240.0, restart=5.0)],
    ids=["work is lost", "and time"],
)
def test_the_formula_is_within_the_interval_of_the_simulator(failures):
    found = played(failures, confidence=0.999)
    lost = found.failures
    assert lost.failures > 100
    expected = bundle_failures(found.scenario.law, 0.02, 8, failures)
    assert lost.share.low <= expected.share <= lost.share.high
    assert lost.share.relative_half_width < 0.07
    # Power: without the work that is lost it would not hold.
    assert lost.share.high < expected.availability
    # Half a step of lost work more or less: failures are looked at between steps.
    each = lost.lost_tokens / lost.failures / 48
    assert each == pytest.approx(expected.lost_tokens, rel=0.1)


def test_without_failures_the_simulator_is_as_it_was():
    plain, rare = played(None), played(Failures(device_mtbf=1e15))
    assert plain.failures is None
    assert rare.throughput_per_instance == plain.throughput_per_instance
    assert rare.failures.failures == 0
    assert any("too few" in warning for warning in rare.warnings)


def test_every_request_is_accounted_for_under_failures():
    found = played(Failures(device_mtbf=240.0, restart=5.0))
    engine = Engine(found.scenario)
    engine.run(stop_completed=20_000)
    n = engine.state.integers
    assert n[ix.LOST] > 500
    # 48 were found in their slots.
    assert n[ix.ENTERED] + 48 == n[ix.COMPLETED] + n[ix.ACTIVE] + n[ix.LOST]


def test_failures_that_cannot_be_played_are_refused():
    for failures, changes, match in (
        (Failures(device_mtbf=1e5, repair=60.0), {}, "no spare devices"),
        (Failures(device_mtbf=1e5), {"execution": "barrier-free"}, "barrier-free"),
    ):
        with pytest.raises(UnsupportedError, match=match):
            played(failures, **changes)


def test_devices_that_nobody_named_are_counted_one_per_worker_and_said():
    asked = {
        "bundle": Bundle(attention_workers=3, batch_size=4, microbatches=1),
        "lengths": IndependentLengths(prompt="fixed:1", decode="fixed:40"),
        "requests_per_worker": 50,
        "failures": Failures(device_mtbf=1e6, restart=30.0),
    }
    times = {"attention": (0.0, 0.03), "ffn": (0.0, 0.02), "transfer": (0.0, 0.0)}
    plain = LatencyModel.linear(**times, time_unit="s")
    said = [one for one in simulate(Scenario(latency=plain, **asked)).warnings if "worker" in one]
    assert "4 devices, one per worker" in said[0]
    named = replace(plain, attention_devices=2, ffn_devices=8)
    scenario = Scenario(latency=named, **asked)
    assert scenario.devices == 14
    assert not any("one per worker" in one for one in simulate(scenario).warnings)
