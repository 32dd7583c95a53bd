"""Do commands take barrier-free execution, and say which way to run pays?"""

import pytest

from tests.cli.invoke import invoke

ASKED = (
    *("--prompt", "lognormal:mean=400,cv=1.5", "--decode", "geometric:200"),
    *("--latency", "deepseek-v3-ascend-910c", "--batch-size", 16),
)


def test_ratio_says_which_way_pays_and_why():
    asked = ("ratio", *ASKED, "--microbatches", 1, "--execution", "barrier-free")
    found = invoke(*asked, "--max-attention-workers", 12, "--json").document
    modes = found["modes"]
    assert found["inputs"]["execution"] == "barrier-free"
    gain = modes["objective"] / modes["synchronous_objective"] - 1
    assert modes["gain"] == pytest.approx(gain)
    assert modes["execution"] == ("barrier-free" if gain > 0 else "synchronous")
    plain = invoke("ratio", *ASKED, "--microbatches", 1, "--max-attention-workers", 12, "--json")
    assert plain.document["modes"] is None
    assert modes["synchronous_attention_workers"] == plain.document["optimal_attention_workers"]
    told = invoke(*asked, "--max-attention-workers", 12).out
    assert "Without the barrier" in told
    assert "Boarding rule" in told


def test_simulate_names_the_departures():
    found = invoke(
        *("simulate", *ASKED, "--attention-workers", 3, "--requests", 40, "--replications", 2),
        *("--execution", "barrier-free", "--least-calls", 2, "--json"),
    ).document
    assert found["inputs"]["least_calls"] == 2
    assert found["pool"]["calls_per_departure"] >= 2
    assert "departure" in found["ffn_idle_causes"]


def test_a_boarding_rule_needs_the_mode():
    done = invoke("ratio", *ASKED, "--least-calls", 2)
    assert done.code == 1
    assert "is for barrier-free execution" in done.err
