"""Does `afdplan check` tell a plan that stands from one that does not?"""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.plotting.check_figure import check_figure
from tests.cli.invoke import invoke
from tests.plans import written_plan

SAMPLES = Path(__file__).parents[1] / "samples" / "metrics"


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return written_plan(tmp_path_factory.mktemp("plan"), "--tpot", "20ms")


def trace(path, mean_prompt, seed=1, requests=1500):
    rng = np.random.default_rng(seed)
    prompt, decode = rng.geometric(1 / mean_prompt, requests), rng.geometric(1 / 300, requests)
    rows = "".join(f"{p},{d}\n" for p, d in zip(prompt, decode, strict=True))
    path.write_text("prompt_tokens,output_tokens\n" + rows)
    return path


def metrics(path, scale=1.0, step=None):
    lines = []
    for name, mean in (("prompt", 1000 * scale), ("generation", 300)):
        edges = np.array([10, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000])
        cumulative = np.round(10_000 * (1 - np.exp(-edges / mean))).astype(int)
        full = f"vllm:request_{name}_tokens"
        lines += [
            f'{full}_bucket{{engine="0",le="{edge}.0"}} {count}'
            for edge, count in zip(edges, cumulative, strict=True)
        ]
        lines += [f'{full}_bucket{{engine="0",le="+Inf"}} 10000', f"{full}_sum {10_000 * mean}"]
    if step is not None:
        full = "vllm:inter_token_latency_seconds"
        lines += [f'{full}_bucket{{le="1.0"}} 100', f'{full}_bucket{{le="+Inf"}} 100']
        lines += [f"{full}_sum {100 * step}"]
    path.write_text("# HELP x\n" + "\n".join(lines) + "\n")
    return path


def test_same_requests_stand(plan, tmp_path):
    outcome = invoke("check", plan, "--trace", trace(tmp_path / "new.csv", 1000), "--json")
    assert outcome.code == 0
    assert outcome.document["standing"] == "stands"


def test_the_errors_of_a_fitted_model_leave_the_step_time_an_interval(plan, tmp_path):
    document = json.loads(plan.read_text())
    document["recommended"] = document["split"] | {"kind": "split"}
    split = tmp_path / "split.json"
    split.write_text(json.dumps(document))
    document["latency_model"]["uncertainty"] = {
        "coefficients": ["step_overhead"],
        "draws": [[0.0], [1e-3], [3e-3]],
    }
    known = tmp_path / "known.json"
    known.write_text(json.dumps(document))
    new = trace(tmp_path / "new.csv", 1000)
    plain = invoke("check", split, "--trace", new, "--json").document
    assert plain["step_time_interval"] is None
    found = invoke("check", known, "--trace", new, "--json").document
    step = found["step_time_interval"]
    assert step["value"] == pytest.approx(plain["step_time"])
    assert step["low"] < step["value"] - 1e-4 < step["high"] - 5e-4


def test_other_requests_do_not(plan, tmp_path):
    outcome = invoke("check", plan, "--trace", trace(tmp_path / "new.csv", 20_000), "--json")
    assert outcome.code == 4
    assert outcome.document["standing"] == "replan"
    assert outcome.document["reasons"]


def test_metrics_give_the_same_load(plan, tmp_path):
    outcome = invoke("check", plan, "--metrics", metrics(tmp_path / "m.txt"), "--json")
    assert outcome.code == 0, outcome
    # Geometric prompt and output: 1000 + 300 - 1, histograms round the tails.
    assert outcome.document["mean_token_load"] == pytest.approx(1299, rel=0.05)


def test_slow_steps_are_told(plan, tmp_path):
    outcome = invoke("check", plan, "--metrics", metrics(tmp_path / "m.txt", step=0.5))
    assert outcome.code == 4
    assert "slower than the model says" in " ".join(outcome.out.split())


def test_hysteresis_needs_two_in_a_row(plan, tmp_path):
    state = tmp_path / "state.json"
    good, bad = trace(tmp_path / "good.csv", 1000), trace(tmp_path / "bad.csv", 20_000)
    codes = [
        invoke("check", plan, "--trace", t, "--state", state).code
        for t in (good, bad, good, bad, bad, bad, good)
    ]
    assert codes == [0, 0, 0, 0, 4, 4, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("   \n\n", "is empty"),
        ("<!DOCTYPE html><html></html>", "is HTML"),
        ("\0\1", "binary"),
        ("hello world again and again\n", "not a Prometheus sample"),
        ("vllm:num_requests_running 3\n", "no histogram"),
        ('vllm:request_prompt_tokens_bucket{le="1"} 5\n', "no histogram"),
    ],
)
def test_bad_metrics_are_refused(plan, tmp_path, content, message):
    path = tmp_path / "metrics.txt"
    path.write_text(content)
    outcome = invoke("check", plan, "--metrics", path)
    assert outcome.code == 1
    assert message in outcome.error_line


def test_usage(plan):
    assert invoke("check", plan).code == 2
    assert invoke("check", "nowhere.json", "--trace", "x.csv").code == 1
    assert invoke("check", plan, "--trace", "x.csv", "--selector", 'job="a"').code == 2
    assert invoke("check", plan, "--trace", "x.csv", "--window", "2h").code == 2


def test_prefill_engines_count_no_request_and_a_selector_picks(plan, tmp_path):
    one = metrics(tmp_path / "one").read_text()
    file = tmp_path / "both"
    file.write_text("".join(
        line.replace('engine="0"', f'job="{job}"').replace("_sum ", f'_sum{{job="{job}"}} ') + "\n"
        for job in ("prefill", "decode", "decode-b") for line in one.splitlines()[1:]
    ))  # fmt: skip
    both = invoke("check", plan, "--metrics", file, "--json").document
    assert both["observed"]["requests"] == 10_000
    said = " ".join(both["warnings"])
    assert "are left out (prefill)" in said
    assert "counted once" in said
    picked = invoke("check", plan, "--metrics", file, "--selector", 'job="decode-b"', "--json")
    assert picked.document["observed"]["requests"] == 10_000
    assert "counted once" not in " ".join(picked.document["warnings"])
    nobody = invoke("check", plan, "--metrics", file, "--selector", 'job="x"')
    assert nobody.code == 1
    assert "no engine matches" in nobody.error_line


def test_a_better_plan_under_the_same_limits_is_found(tmp_path):
    # Loads fall by half and A stays best at this batch size; a larger batch brings much more.
    plan = written_plan(tmp_path, "--batch-sizes", "8,32,512", "--tpot", "100ms")
    lighter = trace(tmp_path / "new.csv", 100)
    loose = json.loads(plan.read_text())
    loose["inputs"]["batch_sizes"] = None
    tight = tmp_path / "tight.json"
    tight.write_text(json.dumps(loose))
    outcome = invoke("check", tight, "--trace", lighter, "--json")
    answer = outcome.document
    assert outcome.code == 4
    assert answer["regret"] < 0.03
    assert answer["replanned"]["gain"] > 0.03
    assert answer["replanned"]["least_regret_of_keeping"] > 0.03
    assert any("planned again under the same limits" in reason for reason in answer["reasons"])
    again = written_plan(
        tmp_path,
        *("--max-batch-size", 512, "--tpot", "100ms", "--trace", lighter),
        drop=("--batch-sizes", "--prompt", "--decode"),
    )
    # What is checked is what the plan recommends: here a deployment without a split.
    best = json.loads(again.read_text())["recommended"]
    assert best["kind"] == "un-split"
    for name in ("replicas", "ranks", "requests_per_rank", "two_batch_overlap"):
        assert answer["replanned"][name] == best[name]


def test_an_un_split_plan_falls_by_its_own_times(tmp_path):
    plan = written_plan(tmp_path, "--tpot", "20ms")
    document = json.loads(plan.read_text())
    assert document["recommended"]["kind"] == "un-split"
    same = invoke("check", plan, "--trace", trace(tmp_path / "same.csv", 1000), "--json")
    assert same.code == 0
    answer = same.document
    assert answer["step_time"] == pytest.approx(document["recommended"]["step_time"]["mean"], 0.01)
    assert answer["step_time"] != pytest.approx(document["split"]["step_time"]["mean"], 0.01)
    assert answer["best_attention_workers"] is None
    assert not any("best split" in warning for warning in answer["warnings"])
    # Another promise in the file is another deployment, and that is what is checked.
    document["colocated"]["requests_per_rank"] //= 4
    plan.write_text(json.dumps(document))
    smaller = invoke("check", plan, "--trace", tmp_path / "same.csv", "--json").document
    assert smaller["step_time"] < answer["step_time"]
    assert any("planned again under the same limits" in why for why in smaller["reasons"])
    text = invoke("check", plan, "--trace", tmp_path / "same.csv").out
    assert "best A" not in text


def test_what_the_file_lacks_is_said(plan, tmp_path):
    new = trace(tmp_path / "new.csv", 1000)
    document = json.loads(plan.read_text())
    for missing, words in (("link", "does not keep link"), ("devices", "was not made again")):
        del document["inputs"][missing]
        old = tmp_path / "old.json"
        old.write_text(json.dumps(document))
        outcome = invoke("check", old, "--trace", new, "--json")
        assert any(words in warning for warning in outcome.document["warnings"]), missing


def test_a_rate_that_is_no_longer_reached_is_told(plan, tmp_path):
    document = json.loads(plan.read_text())
    document["inputs"]["rate"] = 1.5 * document["recommended"]["requests_per_second"]
    document["inputs"]["devices"] = None
    busy = tmp_path / "busy.json"
    busy.write_text(json.dumps(document))
    outcome = invoke("check", busy, "--trace", trace(tmp_path / "new.csv", 1000), "--json")
    assert outcome.code == 4
    assert any("requests/s at most" in reason for reason in outcome.document["reasons"])


def test_one_request_stands_only_with_a_warning(plan, tmp_path):
    one = tmp_path / "one.csv"
    one.write_text("prompt_tokens,output_tokens\n1000,300\n")
    outcome = invoke("check", plan, "--trace", one, "--json")
    assert any("no interval" in warning for warning in outcome.document["warnings"])
    assert "warning:" in invoke("check", plan, "--trace", one).out


def test_one_request_is_no_reason_to_plan_again(plan):
    outcome = invoke("check", plan, "--metrics", SAMPLES / "vllm-0.32.0-during.prom")
    assert outcome.code == 1
    assert "only 1 request finished so far: at least 30" in outcome.error_line


def test_a_state_keeps_the_counters(plan, tmp_path):
    state = tmp_path / "state.json"
    first = invoke("check", plan, "--metrics", metrics(tmp_path / "m1"), "--state", state, "--json")
    assert first.document["observed"]["requests"] == 10_000
    assert any("whole life" in warning for warning in first.document["warnings"])
    # Twice the requests, the later half three times as long.
    lines, late = [], metrics(tmp_path / "m3", scale=3.0).read_text().splitlines()
    for one, other in zip((tmp_path / "m1").read_text().splitlines(), late, strict=True):
        name, _, value = one.rpartition(" ")
        both = (
            f"{name} {float(value) + float(other.rpartition(' ')[2])}" if name != "# HELP" else one
        )
        lines.append(both)
    (tmp_path / "m2").write_text("\n".join(lines) + "\n")
    second = invoke(
        "check", plan, "--metrics", tmp_path / "m2", "--state", state, "--json"
    ).document
    assert second["observed"]["requests"] == 10_000
    assert second["observed"]["counted"] == "over a time"
    assert second["mean_token_load"] == pytest.approx(3299, rel=0.05)
    blind = invoke("check", plan, "--metrics", tmp_path / "m2", "--json").document
    assert blind["mean_token_load"] == pytest.approx(2299, rel=0.05)
    # Nothing new: refused, and the counters stay for the next time.
    kept = state.read_text()
    third = invoke("check", plan, "--metrics", tmp_path / "m2", "--state", state)
    assert third.code == 1
    assert "no request has finished since the last snapshot" in third.error_line
    assert state.read_text() == kept


def test_two_snapshots_and_standard_input(plan, tmp_path):
    early, late = (SAMPLES / f"vllm-0.32.0-{name}.prom" for name in ("before", "after-bench"))
    outcome = invoke("check", plan, "--metrics", early, "--metrics", late, "--json")
    assert outcome.document["observed"]["requests"] == 78
    assert outcome.document["inputs"]["metrics"] == [str(early), str(late)]
    assert outcome.document["observed"]["token_load"]["low"] < 217 < 246
    assert any("of model tiny" in warning for warning in outcome.document["warnings"])


def test_a_prometheus_server_is_asked(plan):
    from tests.unit.files.measurements.test_prometheus import EMPTY, Server, api

    content = (SAMPLES / "vllm_plain.prom").read_bytes()
    with Server(api(content), EMPTY) as server:
        outcome = invoke("check", plan, "--prometheus", server.url, "--window", "2h", "--json")
    assert outcome.document["observed"]["requests"] == 1000
    assert server.queries[1].endswith("offset 7200s")
    assert invoke("check", plan, "--prometheus", server.url, "--window", "soon").code == 2
    assert invoke("check", plan, "--prometheus", server.url, "--metrics", "x").code == 2


def test_a_damaged_state_is_refused(plan, tmp_path):
    state = tmp_path / "state.json"
    for content in ('{"standing": "maybe"}', '{"standing": "stands", "counters": 5}'):
        state.write_text(content)
        outcome = invoke("check", plan, "--metrics", SAMPLES / "vllm_plain.prom", "--state", state)
        assert outcome.code == 1
        assert "remove the file to start again" in outcome.error_line


def test_forward_passes_are_checked(plan, tmp_path):
    from tests.unit.workload.test_passes import written

    path = tmp_path / "fpm.jsonl"
    written(path)
    outcome = invoke("check", plan, "--metrics", path, "--json").document
    assert outcome["mean_token_load"] == pytest.approx(2000, rel=0.01)
    assert outcome["observed"]["barrier"]["fullest_over_mean_tokens"] > 1.1
    assert outcome["measured_step_time"] is not None
    assert any("hold no lengths" in warning for warning in outcome["warnings"])
    told = invoke("workload", path, "--json").document
    assert told["mean_token_load"] == outcome["observed"]["mean_token_load"]
    assert told["barrier"] == outcome["observed"]["barrier"]
    assert "Slowest over mean rank" in invoke("workload", path).out


def test_a_plan_that_allows_no_overflow_falls_when_the_memory_overflows(tmp_path):
    plan = written_plan(tmp_path, "--overflow", 0)
    new = trace(tmp_path / "new.csv", 40_000, requests=1000)
    answer = invoke("check", plan, "--trace", new, "--json").document
    assert answer["memory_overflow_probability"] > 0.5
    assert any("KV memory overflows" in reason for reason in answer["reasons"])


def test_a_picture_holds_now_against_predicted(plan, tmp_path):
    drawn = tmp_path / "check.svg"
    seen = metrics(tmp_path / "m.txt", step=0.5)
    assert invoke("check", plan, "--metrics", seen, "--plot", drawn).code == 4
    text = drawn.read_text()
    assert all(word in text for word in ("mean token load", "measured step time", "predicted"))
    assert "time per token / limit" in text


def test_a_picture_shows_the_limit_that_breaks(tmp_path):
    plan = written_plan(tmp_path, "--overflow", 0.001)
    drawn = tmp_path / "check.svg"
    new = trace(tmp_path / "new.csv", 40_000, requests=1000)
    assert invoke("check", plan, "--trace", new, "--plot", drawn).code == 4
    assert "KV overflow / limit" in drawn.read_text()
    assert "KV memory overflows 1,000 times as often" in drawn.read_text()
    result = SimpleNamespace(
        mean_token_load=2.0, planned_token_load=2.0, measured_step_time=None, step_time=0.04,
        time_per_output_token=0.06, memory_overflow_probability=1e-9,
    )  # fmt: skip
    bars = check_figure(result, time_limit=0.05, overflow_limit=0.001).charts[""].layers[0]
    assert bars.columns["x2"] == pytest.approx([1.0, 1.2])
    assert check_figure(result).charts[""].layers[0].columns["x2"] == [1.0]


def test_a_picture_needs_requests_and_a_folder(plan, tmp_path):
    new = trace(tmp_path / "new.csv", 1000)
    lost = invoke("check", plan, "--trace", new, "--plot", tmp_path / "none" / "check.svg")
    assert lost.code == 1
    assert "there is no folder" in lost.err
    alone = invoke("check", plan, "--settings", new, "--plot", tmp_path / "check.svg")
    assert alone.code == 2
    assert "give --trace" in alone.err


def test_what_was_given_up_on_purpose_is_told_apart(plan, tmp_path):
    document = json.loads(plan.read_text())
    requests = trace(tmp_path / "new.csv", 1000)
    document["check"] = document.get("check", {}) | {"replan_regret": 0.25}
    given_up = tmp_path / "given_up.json"
    given_up.write_text(json.dumps(document))
    plain, told = (
        invoke("check", path, "--trace", requests, "--json") for path in (plan, given_up)
    )
    (reason,) = told.document["reasons"]
    assert "against planning again for all requests together, of which 25.0 % when it" in reason
    assert "of which" not in plain.document["reasons"][0]


def test_a_fallen_plan_names_the_command_that_plans_again(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    document = json.loads(plan.read_text())
    document["command"] = "afdplan plan --trace 'old day.csv' --tpot 20ms --devices 8 -o plan.json"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    heavy = trace(tmp_path / "new.csv", 20_000)
    fallen = invoke("check", path, "--trace", heavy)
    assert fallen.code == 4
    following = fallen.out.partition("next: ")[2].partition("again:")[0].replace("\\\n", " ")
    wanted = ["afdplan", "plan", "--trace", str(heavy), "--tpot", "20ms"]
    assert shlex.split(following) == [*wanted, "--devices", "8", "-o", "plan.json"]
    assert "next: " not in invoke("check", path, "--trace", trace(tmp_path / "x.csv", 1000)).out
    path.write_text(json.dumps(document | {"command": "afdplan plan --trace 'open"}))
    assert "next: " not in invoke("check", path, "--trace", heavy).out


def test_a_file_that_is_no_plan_is_called_so(tmp_path):
    """A trace in place of the plan was "invalid TOML"."""
    (tmp_path / "trace.csv").write_text("prompt_tokens,decode_tokens\n5,5\n")
    trace = tmp_path / "trace.csv"
    assert "invalid JSON for a plan" in invoke("check", trace, "--trace", trace).error_line
