"""Does one entry of the registry make an objective, exact in search and told on every command?"""

import json
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.latency_file import save_latency
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.limits import Limits
from afdplan.planning.objective import OBJECTIVES, DeviceCost, Objective
from afdplan.planning.score import Score
from afdplan.planning.search import DesignSearch
from tests.property.test_design_search import brute_force, every_pair, random_problem

FEE = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WithFee(DeviceCost):
    """Rent, and a fee per hour that the first device costs as much as the hundredth."""

    def of(self, attention_devices, ffn_devices):
        return FEE + DeviceCost.of(self, attention_devices, ffn_devices)


@pytest.fixture
def fee(monkeypatch):
    entry = Objective(
        name="fee",
        score="tokens per unit of money, fee included",
        unit="EUR/h",
        hardware_field="price_per_hour",
        cost=WithFee,
    )
    monkeypatch.setitem(OBJECTIVES, "fee", entry)
    return entry


@pytest.mark.parametrize("seed", [1, 5])
def test_an_objective_of_the_registry_is_searched_exactly(fee, seed):
    law, latency, source, space, _ = random_problem(seed)
    cost = fee.cost(per="fee", attention=1.0, ffn=1.7)
    assert cost.unit == "EUR/h"
    search = DesignSearch(law, source, space, cost)
    limits = Limits(devices=9)
    rows = every_pair(law, latency, source, space, limits.devices)
    loose = search.best(limits)
    for tight in (
        limits,
        replace(limits, time_per_output_token=loose.step_time.mean * 0.7),
        replace(limits, requests_per_second=loose.requests_per_second * 0.3),
    ):
        found = search.best(tight)
        score, _ = brute_force(rows, law, source, space, cost, tight)
        assert found.score == pytest.approx(score, rel=1e-6)
        assert found.cost > FEE
        for plan in ColocatedSearch(search).widths(tight):
            counted = plan.tokens_per_second
            if tight.requests_per_second is not None:
                counted = tight.requests_per_second * law.mean_decode_tokens
            idle = tight.devices - plan.devices if tight.requests_per_second is None else 0
            assert plan.score == pytest.approx(counted / (FEE + plan.devices + idle), rel=1e-9)


def test_the_fee_changes_what_is_best(fee):
    """A fee is worth paying for many tokens: with a rate it falls on all designs alike."""
    law, _, source, space, _ = random_problem(1)
    plain = DesignSearch(law, source, space, DeviceCost()).best(Limits(devices=9))
    paid = DesignSearch(law, source, space, fee.cost(per="fee")).best(Limits(devices=9))
    assert paid.score == pytest.approx(paid.tokens_per_second / (FEE + 9), rel=1e-9)
    assert plain.score == pytest.approx(plain.tokens_per_second / 9, rel=1e-9)


def test_commands_offer_and_tell_it(tmp_path):
    """Nothing but the entry: option, plan file and `check` follow."""
    code = f"""
from dataclasses import dataclass
from afdplan.planning.objective import OBJECTIVES, DeviceCost, Objective

@dataclass(frozen=True, slots=True, kw_only=True)
class Powered(DeviceCost):
    def of(self, attention_devices, ffn_devices):
        return {FEE} + DeviceCost.of(self, attention_devices, ffn_devices)

OBJECTIVES["powered"] = Objective(
    name="powered", score="tokens per joule with the building", unit="W", hardware_field="watts",
    cost=Powered,
)
from afdplan.cli import main
main()
"""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )

    save_latency(random_problem(1)[1], tmp_path / "model.toml")
    asked = (
        *("plan", "--latency", str(tmp_path / "model.toml"), "--kv-tokens", "90000", "--json"),
        *("--prompt", "geometric:3000", "--decode", "geometric:300", "--batch-sizes", "4,64"),
        *("--devices", "8", "--microbatches", "2"),
        *("--per", "powered", "--attention-cost", "7", "--ffn-cost", "7"),
    )
    outcome = run(*asked)
    assert outcome.returncode == 0, outcome.stderr
    answer = json.loads(outcome.stdout)
    best = answer.get("split") or answer["recommended"]
    assert best["objective"] == pytest.approx(best["tokens_per_second"] / (FEE + 8 * 7))
    plan = tmp_path / "plan.json"
    plan.write_text(outcome.stdout)
    trace = tmp_path / "light.csv"
    trace.write_text("prompt_tokens,output_tokens\n" + "10,300\n20,280\n" * 300)
    checked = run("check", str(plan), "--trace", str(trace))
    assert checked.returncode == 4, checked.stderr
    assert "tokens per joule with the building" in " ".join(checked.stdout.split())


def test_unknown_objectives_are_refused():
    with pytest.raises(InvalidInputError, match="per must be"):
        DeviceCost(per="joule")


def test_score_by_hand():
    """3 bundles of 4 + 2 devices at 7 and 11: 12 * 7 + 6 * 11 = 150; 2 idle ones at 7."""
    score = Score(cost=DeviceCost(per="watt", attention=7.0, ffn=11.0), tokens_per_request=50.0)
    budget, goal = Limits(devices=20), Limits(requests_per_second=8.0)
    assert score.cost_of(12, 6, budget) == 164
    assert score.value(3280.0, 12, 6, budget) == 20
    # With a rate of 8 requests of 50 tokens, 400 tokens/s count and nothing idle is paid for.
    assert score.value(3280.0, 12, 6, goal) == pytest.approx(400 / 150)
    # 130 tokens/s a bundle: 4 reach 400, in multiples of 3 it takes 6.
    assert score.bundles(130.0, 4, 2, 1, 0, goal) == 4
    assert score.bundles(130.0, 4, 2, 3, 0, goal) == 6
    assert score.bundles(130.0, 4, 2, 3, 9, budget) == 9
    assert score.bound(1640.0, 12, 6) == pytest.approx(1640 / 150)
