"""Does `afdplan plan` keep its contract, and refuse in one line?"""

import re
import shlex

import pytest

from afdplan.errors import InfeasibleError
from tests.cli.invoke import invoke
from tests.plans import SMALL, edited, written_plan


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return written_plan(tmp_path_factory.mktemp("plan"))


def test_contract(tmp_path):
    outcome = invoke("plan", *SMALL, "--json")
    document = outcome.document
    assert outcome.err == ""
    assert {"schema_version", "afdplan_version", "time_unit", "inputs", "warnings"} <= set(document)
    best = document["split"]
    assert best["requests_per_attention_worker"] == best["batch_size"] * best["microbatches"]
    assert best["devices"] <= 8
    assert best["step_time"]["mean"] <= 0.05
    assert best["tokens_per_second_per_device"] * best["devices"] == pytest.approx(
        best["tokens_per_second"]
    )
    assert 0 <= best["memory_overflow_probability"] <= 1e-3
    for name in ("alternatives", "binding", "assumptions"):
        assert isinstance(document[name], list)
    assert document["colocated"]["tokens_per_second_per_device"] > 0


def test_text_says_what_matters():
    out = invoke("plan", *SMALL, "--full").out
    for word in (
        "Limits",
        "Best split",
        "Split?",
        "What binds",
        "The next designs in numbers",
        "The front in numbers",
        "Without a split",
        "assumed: ",
        "If an input were another",
    ):
        assert word in out


def test_plot(tmp_path):
    picture = tmp_path / "front.png"
    assert invoke("plan", *SMALL, "--plot", picture, "--json").code == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_verify_reports_agreement():
    answer = invoke("plan", *SMALL, "--batch-sizes", "8", "--verify", "--json").document
    assert answer["verification"][0]["name"] == "recommended"
    assert abs(answer["verification"][0]["mean_error"]) < 0.02


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--tpot", "0.01ms"), 3, "no plan meets"),
        (("--tpot", "fast"), 2, "--tpot must be a time"),
        (("--tpot", "50"), 2, "with its unit"),
        (("--rate", "20"), 2, "with its unit"),
        (("--rate", "1e12/s"), 1, "no deployment is as large"),
        (("--max-batch-size", 0), 1, "--max-batch-size must be"),
        (("--acceptance", 0.9), 2, "give --speculative-tokens too"),
        (("--tpot", "0ms"), 2, "--tpot must be a time"),
        (("--rate", "-3/s"), 2, "--rate must be a rate"),
        (("--devices", 0), 1, "devices must be an integer >= 1"),
        (("--target", "triton"), 1, "target must be one of"),
        (("--microbatches", "3"), 1, "vllm-afd-plugin runs 1 or 2 microbatches"),
        (("--batch-sizes", "8,,"), 2, "--batch-sizes must be integers"),
        (("--hardware", "h1000"), 1, "hardware must be a shipped name"),
        (("--latency", "deepseek-v3-ascend-910c"), 2, "give --latency, or --model"),
        (("--plot", "x.pdf"), 1, "picture's name must end"),
        (("--attention-cost", 3), 2, "--per currency or watt"),
        (("--overflow", 2), 1, "--overflow must be <= 1"),
    ],
)
def test_refusals_are_one_line(options, code, message):
    outcome = invoke("plan", *SMALL, *options)
    assert outcome.code == code, outcome
    assert message in outcome.error_line


def test_no_split_is_no_error_where_an_un_split_deployment_holds():
    outcome = invoke("plan", *SMALL, "--devices", 1, "--json")
    assert outcome.code == 0
    answer = outcome.document
    assert answer["recommended"]["kind"] == "un-split"
    assert answer["recommended"]["devices"] == 1
    assert "2 devices would be needed, 1 may be used" in answer["split"]["breaks"]
    assert answer["verdict"]["split"] == "no"
    assert answer["verdict"]["gain"] is None
    assert answer["holds_everywhere"] is True
    text = " ".join(invoke("plan", *SMALL, "--devices", 1).out.split())
    assert text.startswith("Do not split: no split meets all limits: 2 devices would be needed")
    assert "Deploy 1 rank" in text


def test_what_an_un_split_deployment_would_need_is_said_too():
    """One device is enough without a split, and 40 ms: only the split's needs were told once."""
    least = invoke("plan", *SMALL, "--tpot", "0.01ms").error_line
    time = re.search(r"Without a split ([\d.]+) ms would be needed$", least)[1]
    able = invoke("plan", *SMALL, "--tpot", f"{float(time) * 1.001}ms", "--json").document
    assert able["recommended"]["kind"] == "un-split"
    assert invoke("plan", *SMALL, "--tpot", f"{float(time) * 0.99}ms").code == 3


def test_abstract_time_refuses_seconds():
    outcome = invoke(
        *("plan", "--latency", "deepseek-v3-ascend-910c", "--prompt", 100, "--decode", 10),
        *("--devices", 8, "--tpot", "50ms"),
    )
    assert outcome.code == 1
    assert "limits in seconds" in outcome.error_line


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("split", "attention_workers"), 9999, "devices must be"),
        (("split", "batch_size"), 7, "must be"),
        (("split", "batch_size"), "8; rm -rf /", "batch_size must be an integer"),
        (("split",), [], "split must be an object"),
        (("schema_version",), 7, "schema_version must be 1"),
        (("latency_model", "ffn"), {"kind": "magic"}, "latency_model"),
        (("split", "step_time", "mean"), -1, "step_time.mean"),
        (("inputs", "model"), 5, "model must be text"),
    ],
)
def test_plans_edited_by_hand_are_refused(plan, tmp_path, keys, value, message):
    bad = edited(plan, *keys, value=value)
    target = tmp_path / "out"
    for outcome in (
        invoke("deploy", bad, "--target", "vllm-afd-plugin", "-o", target),
        invoke("check", bad, "--trace", bad),
    ):
        assert outcome.code == 1
        assert message in outcome.error_line
    assert not target.exists()


def test_text_begins_with_the_answer_and_the_limits():
    document = invoke("plan", *SMALL, "--json").document
    out = " ".join(
        invoke("plan", *SMALL, "--tpot-statistic", "p99", "--node-devices", 1, "--full").out.split()
    )
    reason = document["verdict"]["reasons"][0]
    split = document["verdict"]["split"]
    assert out.startswith("Deploy ")
    assert split == "yes" or f". {reason[0].upper()}{reason[1:12]}" in out
    assert "Limits 8 devices at most; p99 time per output token <= 50 ms; KV overflow" in out
    assert "pairs of vllm-afd-plugin" in out


def test_json_of_no_plan_is_one_document():
    outcome = invoke("plan", *SMALL, "--tpot", "0.01ms", "--json")
    assert outcome.code == 3
    document = outcome.document
    assert document["recommended"] is None
    assert document["infeasible"] in outcome.err
    assert document["inputs"]["devices"] == 8
    assert document["nearest"]["devices"] <= 8


def test_json_where_no_memory_is_left_is_one_document_too(monkeypatch):
    def refuse(options):
        raise InfeasibleError("no memory is left for the KV cache")

    monkeypatch.setattr("afdplan.cli.plan.resolve_source", refuse)
    outcome = invoke("plan", *SMALL, "--json")
    assert outcome.code == 3
    assert outcome.document["infeasible"] == "no memory is left for the KV cache"
    assert outcome.document["inputs"]["hardware"] == "h100"
    assert outcome.document["nearest"] is None


def test_a_plan_made_for_the_hardest_part_is_written_as_a_document(tmp_path):
    trace = tmp_path / "trace.csv"
    rows = [f"{100 + 1400 * (k >= 600) + k * 37 % 90},{30 + k % 40}" for k in range(1200)]
    trace.write_text("\n".join(["prompt_tokens,decode_tokens", *rows]) + "\n")
    model = tmp_path / "model.toml"
    model.write_text(
        "schema_version = 1\ntime_unit = 's'\n"
        "[attention]\nkind = 'linear'\nslope = 1e-8\nintercept = 2e-4\nlayers = 30\n"
        "[ffn]\nkind = 'linear'\nslope = 2e-6\nintercept = 5e-4\n"
        "[transfer]\nkind = 'linear'\nslope = 2e-7\nintercept = 1e-4\n"
    )
    outcome = invoke("plan", "--trace", trace, "--latency", model, "--devices", 8, "--tpot", "60ms",
                     "--batch-sizes", "16,56,150", "--microbatches", "1,2", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.document["basis"] != "all requests"
    assert outcome.document["check"]["replan_regret"] >= 0


@pytest.mark.parametrize(
    ("target", "model", "hardware", "told"),
    [
        ("fastafd", "deepseek-v3", "h200", "fastafd .* does not register deepseek_v3: these do: "),
        ("fastafd", "qwen3-235b-a22b", "ascend-910c", "runs on nvidia devices, the plan is for"),
    ],
)
def test_what_deploy_would_refuse_is_refused_before_it_is_planned(target, model, hardware, told):
    names = ("--model", model, "--hardware", hardware, "--target", target)
    line = invoke("plan", "--prompt", "geometric:9", "--decode", "geometric:9", *names,
                  "--devices", 16).error_line  # fmt: skip
    assert re.search(told, line)


def test_an_sglang_plan_spreads_over_nodes():
    names = ("--model", "qwen3-235b-a22b", "--hardware", "h200", "--target", "sglang")
    shape = ("--prompt", "geometric:2000", "--decode", "geometric:300", "--batch-sizes", 32)
    answer = invoke("plan", *shape, *names, "--devices", 15, "--tpot", "100ms", "--json").document
    split = answer["split"]
    assert split["attention_workers"] not in (9, 11, 13)
    assert split["attention_workers"] + split["ffn_workers"] <= 15


@pytest.mark.parametrize("target", ["any", "fastafd", "sglang", "vllm-afd-plugin"])
def test_the_next_line_runs(tmp_path, monkeypatch, target):
    """FastAFD writes no files without a split: another target is named then."""
    monkeypatch.chdir(tmp_path)
    arguments = ("--model", "qwen3-235b-a22b-fp8", "--hardware", "gb200", "--devices", "8")
    laws = ("--prompt", "geometric:2000", "--decode", "geometric:300")
    text = invoke(
        "plan", *arguments, *laws, "--batch-sizes", "64", "--target", target, "-o", "p.json"
    ).out
    following = text.split("next: ")[1].split("\nagain: ")[0].replace("\\\n", " ")
    program, *words = shlex.split(following)
    assert [program, words[0]] == ["afdplan", "deploy"]
    outcome = invoke(*words)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "deployment" / "README.md").exists()


def test_what_no_target_writes_is_not_offered():
    arguments = ("--model", "deepseek-v3", "--hardware", "h200", "--devices", "64")
    laws = ("--prompt", "geometric:2000", "--decode", "geometric:300", "--batch-sizes", "64")
    text = invoke("plan", *arguments, *laws, "--speculative-tokens", "1").out
    assert "next: no files decode ahead" in text
