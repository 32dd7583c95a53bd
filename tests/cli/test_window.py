"""Do --window, --margin and --by do what they say, and are they refused where they cannot?"""

import datetime

import numpy as np
import pytest

from tests.cli.invoke import invoke

MODEL = ("--latency", "deepseek-v3-ascend-910c")
PLAN = ("--model", "qwen3-30b-a3b", "--hardware", "h100", "--attention-devices", "1",
        "--devices", 8, "--batch-sizes", "8,32", "--microbatches", "1,2")  # fmt: skip


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    rng = np.random.default_rng(1)
    at = np.sort(rng.uniform(0, 86_400, 1500))
    busy = (at > 32_400) & (at < 64_800)
    prompt, decode = rng.geometric(1 / np.where(busy, 3000, 400)), rng.geometric(1 / 300, 1500)
    start = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    rows = [
        f"{(start + datetime.timedelta(seconds=float(t))).isoformat()},{p},{d}"
        for t, p, d in zip(at, prompt, decode, strict=True)
    ]
    path = tmp_path_factory.mktemp("day") / "day.csv"
    path.write_text("\n".join(["time,prompt_tokens,output_tokens", *rows]) + "\n")
    return path


def test_a_window_plans_for_its_requests_alone(day):
    outcome = invoke("plan", "--trace", day, *PLAN, "--window", "10:00-17:00", "--json")
    assert outcome.code == 0, outcome.err
    answer = outcome.document
    assert answer["inputs"]["window"] == "10:00-17:00"
    assert answer["workload"]["mean_prompt_tokens"] == pytest.approx(3000, rel=0.15)
    assert any("requests of 10:00-17:00 count" in line for line in answer["warnings"])


def test_parts_margin_and_size_are_in_the_document(day):
    outcome = invoke("plan", "--trace", day, *PLAN, "--tpot", "40ms", "--margin", "10%", "--json")
    assert outcome.code == 0, outcome.err
    answer = outcome.document
    assert answer["inputs"]["margin"] == 0.1
    assert answer["holds_everywhere"] is True
    assert len(answer["drift"]) >= 2
    assert all(part["time_per_output_token"] <= 0.036 * (1 + 1e-9) for part in answer["drift"])
    assert all(end["breaks"] == [] for end in answer["interval"])
    assert any(line.startswith("too large") for line in answer["supply"])


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (("--window", "noon"), 1, "HH:MM"),
        (("--margin", "150%"), 2, "a share below 100 %"),
    ],
)
def test_what_is_no_window_or_margin_is_refused(day, given, code, message):
    outcome = invoke("plan", "--trace", day, *PLAN, *given)
    assert outcome.code == code
    assert message in outcome.err


def test_a_window_needs_a_trace():
    laws = ("--prompt", "100", "--decode", "geometric:50")
    assert invoke("plan", *laws, *PLAN, "--window", "peak").code == 2
    assert invoke("ratio", *laws, *MODEL, "--batch-size", 16, "--by", "1h").code == 2


def test_the_day_in_one_command(day, tmp_path):
    picture = tmp_path / "day.svg"
    asked = ("ratio", "--trace", day, *MODEL, "--batch-size", 64, "--by", "6h")
    outcome = invoke(*asked, "--plot", picture, "--json")
    assert outcome.code == 0, outcome.err
    answer = outcome.document["day"]
    assert [window["start"] for window in answer["windows"]] == ["00:00", "06:00", "12:00", "18:00"]
    assert sum(window["requests"] for window in answer["windows"]) == 1500
    best = [window["optimal_attention_workers"] for window in answer["windows"]]
    assert min(best[1:3]) > max(best[0], best[3])
    assert 0 <= answer["best_fixed"]["extra_cost"] <= answer["fixed"]["extra_cost"]
    assert "The ratio over the clock" in picture.read_text()
    out = " ".join(invoke(*asked).out.split())
    assert "Over the clock the best A goes from" in out
    assert invoke(*asked[:-1], "fortnight").code == 2


def test_an_empty_window_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt_tokens,decode_tokens\n" + "5,5\n" * 40)
    asked = ("--trace", path, "--latency", "deepseek-v3-ascend-910c", "--devices", 4)
    refused = invoke("plan", *asked, "--window", "")
    assert refused.code == 1
    assert "window must be peak, all or HH:MM-HH:MM" in refused.error_line


def test_no_margin_may_be_said():
    laws = ("--prompt", 9, "--decode", 9, "--latency", "deepseek-v3-ascend-910c")
    asked = ("plan", *laws, "--devices", 2, "--kv-tokens", "1e4", "--batch-sizes", 4)
    assert invoke(*asked, "--margin", "0", "--json").document["inputs"]["margin"] == 0.0
    for wrong in ("100%", "-1%", "nan", "ten"):
        assert "--margin must be a share below 100 %" in invoke(*asked, "--margin", wrong).err
