"""Do ratio, plan and check tell what placement brings, by formula or played?"""

from __future__ import annotations

import json

import pytest

from afdplan.model.estimate import Estimate
from afdplan.planning.placement_gain import Recovered
from tests.cli.invoke import invoke
from tests.plans import SMALL, edited
from tests.traces import SHORT

LAW = ("--prompt", "lognormal:mean=800,cv=1.0", "--decode", "geometric:40")
RATIO = ("ratio", *LAW, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 128)


def gain_of(*arguments):
    return invoke(*arguments, "--json").document["placement_gain"]


def test_ratio_tells_what_a_policy_would_give_back_and_with_it_what_it_gives():
    would = invoke(*RATIO)
    assert would.code == 0
    assert "longest-prompt would give back" in " ".join(would.out.split())
    told = gain_of(*RATIO)
    used = invoke(*RATIO, "--placement", "longest-prompt")
    assert "longest-prompt gives back" in " ".join(used.out.split())
    document = invoke(*RATIO, "--placement", "longest-prompt", "--json").document
    assert document["placement_gain"] == told
    assert document["inputs"]["placement"] == "longest-prompt"
    assert document["optimal_attention_workers"] == told["attention_workers"]
    assert told["method"] == "theory"
    assert 0 < told["given_back"]["low"] < told["given_back"]["value"] < told["given_back"]["high"]
    assert told["given_back"]["value"] <= told["barrier_cost"]["value"] + 0.001
    assert told["time_per_output_token"] < told["blind_time_per_output_token"]
    assert document["barrier_cost"] < told["barrier_cost"]["value"]


@pytest.mark.parametrize(
    "asked",
    [("--method", "simulated"), ("--placement", "longest-prompt-rank", "--kv-capacity", "150000")],
)
def test_what_the_theory_does_not_know_is_played(asked):
    done = invoke(*RATIO[:-1], 16, *asked, "--json")
    assert done.code == 0
    document = done.document
    assert document["inputs"]["method"] == "simulated"
    assert document["placement_gain"]["method"] == "replications"
    played = {one["attention_workers"]: one for one in document["objectives"]}
    best = played[document["optimal_attention_workers"]]
    assert best["low"] < best["value"] < best["high"]
    assert len(document["curve"]) == len(played)
    known = document["placement_gain"]["recovered"]
    if asked[0] == "--placement":
        assert known["prompts_only"]["low"] < known["outputs_known"]["high"]
    else:  # nothing is placed
        assert known is None
    assert document["uncertainty"] is None  # of the formulas' answer, not of this one
    memory = [one for one in document["warnings"] if "that the KV memory keeps empty" in one]
    assert bool(memory) == ("--kv-capacity" in asked)


def test_a_window_is_played_and_told():
    window = ("--placement", "longest-prompt", "--placement-window", 4)
    done = invoke(*RATIO[:-1], 16, *window, "--full")
    assert done.code == 0
    assert "longest-prompt of 4 waiting requests gives back" in " ".join(done.out.split())


@pytest.mark.parametrize(
    "asked",
    [("--method", "simulated", "--kv-capacity", 150000), ("--placement", "fewest-tokens")],
)
def test_a_policy_that_compares_no_prompt_is_not_said_to_know_them(asked):
    done = invoke(*RATIO[:-1], 16, *asked, "--full")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "gives back 0.0" in said
    assert "by prompts alone" not in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--method", "gaussian", "--kv-capacity", 9000), "use --method simulated"),
        (("--placement-window", 2), "needs placement longest-prompt"),
        (("--placement", "tallest"), "is not one of"),
        (("--placement", ""), "is not one of"),
        (("--placement", "longest-prompt", "--placement-window", 0), "an integer >= 1"),
        (("--placement", "longest-prompt", "--placement-window", 65), "<= 64, got 65"),
        (("--placement", "longest-prompt", "--placement-window", "1.5"), "not a valid integer"),
        (("--placement", "fewest-tokens", "--placement-window", 4), "chooses by prompt"),
        (("--placement", "longest-prompt", "--kv-capacity", 5), "must hold the requests, got 5"),
        (("--method", "simulated", "--kv-capacity", 100), "of them need more, up to"),
        (("--placement", "longest-prompt", "--kv-capacity", 0), "--kv-capacity"),
        (("--placement", "longest-prompt", "--memory", "preempt"), "give kv_capacity"),
        (("--placement", "longest-prompt", "--phase", "aligned"), "phase aligned"),
        (("--method", "simulated", "--seed", -1), "seed must be"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, said):
    done = invoke(*RATIO, *asked)
    assert done.code in (1, 2)
    assert said in done.err


def test_a_played_ratio_has_a_page_and_what_stands_around_it(tmp_path):
    page = tmp_path / "ratio.html"
    short = ("--prompt", "geometric:80", "--decode", "geometric:10")
    small = (*short, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 2)
    done = invoke(
        *("ratio", *small, "--placement", "longest-prompt", "--placement-window", 2),
        *("--microbatches", 1, "--max-attention-workers", 6, "--around", "--json"),
        *("--report", page),
    )
    assert done.code == 0
    document = done.document
    asked = next(
        one
        for one in document["around"]["other_batches"]
        if (one["batch_size"], one["microbatches"]) == (2, 1)
    )
    played = {one["attention_workers"]: one for one in document["objectives"]}
    curve = asked["curve"]
    ends = dict(zip(curve["attention_workers"], curve["objective_intervals"], strict=True))
    assert all(low < high for low, high in ends.values())
    best = document["optimal_attention_workers"]
    assert ends[best][0] <= played[best]["high"]
    assert ends[best][1] >= played[best]["low"]
    assert document["around"]["bands"][0]["cause"] == "interval of the play"
    assert document["around"]["sensitivities"]
    said = page.read_text(encoding="utf-8")
    assert "A few ratios were played on the same requests" in said
    assert "What would placing requests give back?" in said
    assert "For B = 2, m = 1, as asked: " in said
    assert "interval of the play" in said
    assert "exact barrier" in said  # the law that knows no window, beside it


def test_a_played_ratio_has_a_day(tmp_path):
    import numpy as np

    rng = np.random.default_rng(1)
    prompts = [rng.geometric(1 / mean) for mean in [200] * 400 + [4000] * 400]
    rows = [f"{9.0 * k},{p},{rng.geometric(1 / 40)}" for k, p in enumerate(prompts)]
    trace = tmp_path / "two.csv"
    trace.write_text("\n".join(["arrived_at,num_prefill_tokens,num_decode_tokens", *rows]))
    asked = ("--trace", trace, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 16)
    same = (
        "--placement",
        "longest-prompt",
        "--by",
        "1h",
        "--max-attention-workers",
        12,
        "--microbatches",
        1,
        "--json",
    )
    told = invoke("ratio", *asked, *same).document["day"]
    played = invoke("ratio", *asked, *same, "--method", "simulated").document["day"]
    assert len(played["windows"]) == len(told["windows"])
    for one, other in zip(played["windows"], told["windows"], strict=True):
        assert one["low"] <= one["optimal_attention_workers"] <= one["high"]
        assert one["objective"] == pytest.approx(other["objective"], rel=0.1)
    assert played["best_fixed"]["extra_cost"] <= played["fixed"]["extra_cost"]


def test_former_names_of_policies_still_work_and_the_present_ones_are_told():
    old = invoke(*RATIO, "--placement", "least-tokens", "--json")
    assert old.document["inputs"]["placement"] == "fewest-tokens"
    done = invoke(
        *("simulate", *LAW, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 4),
        *("--attention-workers", 2, "--requests", 200, "--policy", "least-requests", "--json"),
    )
    assert done.document["inputs"]["policy"] == "fewest-requests"
    assert done.document["waiting_steps_p999"] == 0


def test_a_plan_promises_no_placement_that_its_devices_cannot_run(tmp_path):
    asked = list(SMALL)
    asked[asked.index("--devices") + 1] = 4
    done = invoke("plan", *asked, "--json")
    document = done.document
    split, gain = document["split"], document["placement_gain"]
    others = split["ffn_workers"] * split["ffn_devices_per_worker"]
    assert gain["attention_workers"] + others <= 4
    plan = tmp_path / "plan.json"
    plan.write_text(done.out)
    checked = invoke("check", plan, "--trace", SHORT, "--json").document["placement_gain"]
    assert checked["attention_workers"] + others <= 4
    wrong = invoke("check", edited(plan, "inputs", "devices", value="eight"), "--trace", SHORT)
    assert wrong.code == 1
    assert "devices of the plan must be an integer, got 'eight'" in wrong.err
    said = invoke("plan", *asked, "--full").out
    assert ("Placement, if split" in said) == (document["recommended"]["kind"] != "split")


def test_a_plan_is_searched_with_balanced_loads_and_checked_by_them(tmp_path):
    without = invoke("plan", *SMALL, "--json").document
    with_it = invoke("plan", *SMALL, "--placement", "longest-prompt", "--json").document
    assert with_it["inputs"]["placement"] == "longest-prompt"
    split, blind = with_it["split"], without["split"]
    least = blind["tokens_per_second_per_device"] * (1 - 1e-6)  # the FFN sets the pace of both
    assert split["tokens_per_second_per_device"] >= least
    assert without["placement_gain"]["barrier_cost"]["value"] >= 0
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(with_it))
    checked = invoke("check", plan, "--trace", SHORT, "--json").document["placement_gain"]
    assert checked["blind_attention_workers"] == split["attention_workers"]
    assert set(checked["recovered"]) == {"prompts_only", "outputs_known"}
    said = invoke("check", plan, "--trace", SHORT, "--full").out
    assert "if outputs were known" in " ".join(said.split())
    folder = tmp_path / "out"
    assert invoke("deploy", plan, *SMALL[-2:], "-o", folder, "--deployment", "split").code == 0
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "vLLM balances the number of requests" in readme
    assert "The plan counts on placement longest-prompt" in readme


def test_a_plan_that_is_played_tells_what_known_outputs_would_add(tmp_path, monkeypatch):
    known = Recovered(prompts_only=Estimate.exact(0.5), outputs_known=Estimate.exact(0.6251))
    monkeypatch.setattr("afdplan.planning.simulated_ratio.recovered", lambda *_: known)
    page = tmp_path / "plan.html"
    told = invoke("plan", *SMALL, "--report", page, "--json").document["placement_gain"]
    assert told["recovered"]["outputs_known"]["value"] == 0.6251
    said = page.read_text(encoding="utf-8")
    assert "0.6251" in said
    assert "What would placing requests give back?" in said


def test_a_plan_with_a_placement_that_no_formula_knows_is_refused():
    done = invoke("plan", *SMALL, "--placement", "longest-prompt-rank")
    assert done.code == 1
    assert "afdplan ratio --method simulated" in done.err


def test_without_a_barrier_nothing_is_told_and_nothing_placed():
    free = (*RATIO[:-1], 16, "--execution", "barrier-free")
    assert gain_of(*free) is None
    played = (*free, "--method", "simulated", "--max-attention-workers", 3)
    assert gain_of(*played) is None
    refused = invoke(*free, "--placement", "longest-prompt")
    assert refused.code == 1
    assert "barrier-free workers take what waits" in refused.err


def test_a_plan_without_a_barrier_places_nothing():
    both = ("--placement", "longest-prompt", "--execution", "barrier-free")
    done = invoke("plan", "--trace", SHORT, *SMALL[4:], *both)
    assert done.code == 2
    assert "--placement longest-prompt chooses among workers that end a step together" in done.err


@pytest.mark.parametrize("line", ["5,3\n", "100,7\n", "0,9\n"])
def test_prompts_that_are_all_alike_leave_nothing_to_balance_by(tmp_path, line):
    trace = tmp_path / "alike.csv"
    trace.write_text("prompt_tokens,decode_tokens\n" + line)
    asked = ("--trace", trace, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 32)
    gain = invoke("ratio", *asked, "--json").document["placement_gain"]
    assert gain["given_back"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert gain["gain"]["value"] == pytest.approx(0.0, abs=1e-9)
