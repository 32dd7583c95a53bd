"""Do all commands mean the same by the same choice of latency, and does Python?"""

from __future__ import annotations

import json

import pytest

from afdplan import IndependentLengths, derived_model, load_latency, recommend_ratio, save_latency
from afdplan.studies.case_runner import CaseRunner
from afdplan.studies.definition import load_study
from tests.cli.invoke import invoke
from tests.plans import SMALL

LAWS = ("--prompt", "geometric:1000", "--decode", "geometric:300")
DERIVED = ("--model", "deepseek-v3", "--hardware", "h200")
REFINED = ("--kv-precision", "fp8", "--link", "scale-up", "--speculative-tokens", 1)


def ratio(*options):
    done = invoke("ratio", *LAWS, "--batch-size", 64, *options, "--json")
    assert done.code == 0, done
    return done.document


def test_command_python_and_study_give_one_answer(tmp_path):
    told = ratio(*DERIVED, *REFINED, "--acceptance", 0.7)
    model = derived_model(
        "deepseek-v3",
        "h200",
        batch_size=64,
        cache_precision="fp8",
        link="scale-up",
        speculative_tokens=1,
        acceptance=0.7,
    )
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
    answer = recommend_ratio(law, model.latency, batch_size=64)
    assert answer.ffn_weight == model.ffn_weight() == told["inputs"]["ffn_weight"] > 1
    (tmp_path / "study.toml").write_text(
        'compute = "ratio"\n[fixed]\nprompt = "geometric:1000"\ndecode = "geometric:300"\n'
        'batch_size = 64\nmodel = "deepseek-v3"\nhardware = "h200"\n'
        'kv_precision = "fp8"\nlink = "scale-up"\n'
        "speculative_tokens = 1\n[grid]\nacceptance = [0.7, 0.6]\n"
    )
    study = load_study(tmp_path / "study.toml")
    row, other = (CaseRunner(study).row(index) for index in range(2))
    assert row["objective"] == answer.best.objective
    assert row["optimal_attention_workers"] == answer.optimal_attention_workers
    assert answer.optimal_attention_workers == told["optimal_attention_workers"]
    assert other["objective"] < row["objective"]
    assert other["case_hash"] != row["case_hash"]


def test_a_latency_file_keeps_the_devices_that_count(tmp_path):
    save_latency(derived_model("deepseek-v3", "h200", batch_size=64).latency, tmp_path / "d.toml")
    again = load_latency(tmp_path / "d.toml")
    assert (again.attention_devices, again.ffn_devices, again.ffn_weight) == (1, 8, 8.0)
    from_file = ratio("--latency", tmp_path / "d.toml")
    assert from_file["inputs"]["ffn_weight"] == 8
    assert from_file["optimal_attention_workers"] == ratio(*DERIVED)["optimal_attention_workers"]
    done = invoke(
        *("ratio", *LAWS, "--batch-size", 64, "--latency", tmp_path / "d.toml"),
        *("--ffn-devices", 4),
    )
    assert "ffn_devices must be 8 as in the latency model, got 4" in done.error_line


def test_devices_of_a_measured_model_can_be_told():
    told = ratio("--latency", "deepseek-v3-ascend-910c", "--ffn-devices", 4)
    assert told["inputs"]["ffn_weight"] == 4
    assert ratio("--latency", "deepseek-v3-ascend-910c")["inputs"]["ffn_weight"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--latency", "x.toml", "--kv-precision", "fp8"), "--kv-precision belongs to the latter"),
        (("--latency", ""), "--latency is empty"),
        (("--hardware", "h200"), "say how long the stages take: --latency, or --model"),
        ((*DERIVED, "--acceptance", 0.5), "give --speculative-tokens too"),
    ],
)
@pytest.mark.parametrize("name", ["ratio", "simulate", "plan"])
def test_what_does_not_go_together_is_usage_everywhere(name, options, told):
    more = {"ratio": ("--batch-size", 8), "plan": ("--devices", 8)}
    more["simulate"] = (*more["ratio"], "--attention-workers", 1)
    done = invoke(name, *LAWS, *more[name], *options)
    assert done.code == 2
    assert told in done.error_line


def test_check_by_other_times(tmp_path):
    plan = invoke("plan", *SMALL, "--json")
    (tmp_path / "plan.json").write_text(plan.out)
    (tmp_path / "t.csv").write_text(
        "arrived_at,num_prefill_tokens,num_decode_tokens\n"
        + "".join(f"{i},{900 + i % 200},{100 + i % 50}\n" for i in range(400))
    )
    base = ("check", tmp_path / "plan.json", "--trace", tmp_path / "t.csv", "--json")
    plain, same = invoke(*base).document, None
    made = plan.document["inputs"]
    same = invoke(*base, "--model", made["model"], "--hardware", made["hardware"]).document
    assert same["step_time"] == pytest.approx(plain["step_time"], rel=1e-9)
    other = invoke(*base, "--hardware", "h20").document
    assert other["step_time"] != pytest.approx(plain["step_time"], rel=0.01)
    assert other["inputs"]["hardware"] == "h20"
    slow = json.loads(json.dumps(plan.document["latency_model"]))
    slow["ffn"] = {"kind": "linear", "slope": 1e-4, "intercept": 1.0}
    (tmp_path / "slow.json").write_text(json.dumps(slow))
    measured = invoke(*base, "--latency", tmp_path / "slow.json").document
    assert measured["step_time"] > 10 * plain["step_time"]
    refused = invoke(*base, "--latency", "deepseek-v3-ascend-910c")
    assert "--latency must be in the plan's unit of time" in refused.error_line
