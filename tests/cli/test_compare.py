"""Does `compare` say what differs and what it costs, by numbers that both files hold?"""

from __future__ import annotations

import json
import re

import pytest

from afdplan.report.compared_answers import objectives_of
from tests.cli.invoke import invoke
from tests.plans import SMALL

RATIO = ("ratio", "--latency", "deepseek-v3-ascend-910c", "--batch-size", 64)
PLAYED = (
    *("simulate", "--latency", "deepseek-v3-ascend-910c", "--batch-size", 4),
    *("--attention-workers", 2, "--requests", 300, "--decode", "geometric:20"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two plans, two ratios and two simulations, as files."""
    folder = tmp_path_factory.mktemp("compare")
    runs = {
        "plan-a": ("plan", *SMALL, "--batch-sizes", "8,16"),
        "plan-b": ("plan", *SMALL, "--batch-sizes", "8,32"),
        "ratio-a": (*RATIO, "--prompt", "geometric:1000", "--decode", "geometric:100"),
        "ratio-b": (*RATIO, "--prompt", "geometric:1500", "--decode", "geometric:100"),
        "play-a": (*PLAYED, "--prompt", "geometric:100"),
        "play-b": (*PLAYED, "--prompt", "geometric:900"),
    }
    for name, run in runs.items():
        (folder / f"{name}.json").write_text(invoke(*run, "--json").out)
    return folder


def read(files, name):
    return json.loads((files / f"{name}.json").read_text())


def compared(files, kind):
    outcome = invoke("compare", files / f"{kind}-a.json", files / f"{kind}-b.json", "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document


def test_ratios(files):
    a, b, found = read(files, "ratio-a"), read(files, "ratio-b"), compared(files, "ratio")
    asked = {one["name"]: one for one in found["inputs_that_differ"]}
    assert asked["prompt"]["first"] == "geometric:1000"
    assert asked["prompt"]["second"] == "geometric:1500"
    assert "batch_size" not in asked
    told = {one["name"]: one for one in found["answers_that_differ"]}
    best = told["optimal_attention_workers"]
    assert (best["first"], best["second"]) == tuple(x["optimal_attention_workers"] for x in (a, b))
    (kept,) = [p for p in b["curve"] if p["attention_workers"] == best["first"]]
    assert (
        f"keeping A = {best['first']} in ratio-b.json gives up {100 * kept['regret']:.2f} %"
        in (found["costs"])
    )
    most = [max(point["objective"] for point in one["curve"]) for one in (a, b)]
    assert found["gain"] == pytest.approx(most[1] / most[0] - 1)


def test_plans(files):
    a, b, found = read(files, "plan-a"), read(files, "plan-b"), compared(files, "plan")
    told = {one["name"]: one for one in found["answers_that_differ"]}
    for name in ("tokens_per_second", "time_per_output_token"):
        pair = (a["recommended"][name], b["recommended"][name])
        assert (told[name]["first"], told[name]["second"]) == pair
        assert told[name]["change"] == pytest.approx(pair[1] / pair[0] - 1)
    assert found["gain"] == pytest.approx(
        b["recommended"]["objective"] / a["recommended"]["objective"] - 1
    )
    assert any("devices in plan-b.json" in cost for cost in found["costs"])
    assert [one["name"] for one in found["inputs_that_differ"]] == [
        "largest_batch_size",
        "batch_sizes",
    ]


def test_simulations_say_whether_intervals_explain_it(files):
    found = compared(files, "play")
    values = [read(files, f"play-{x}")["throughput_per_instance"] for x in "ab"]
    apart = values[0]["low"] > values[1]["high"]
    assert apart
    (cost,) = found["costs"]
    assert cost.endswith("more than both intervals explain")
    same = invoke("compare", files / "play-a.json", files / "play-a.json", "--json").document
    assert same["costs"][0].endswith("which both intervals may explain")
    assert same["answers_that_differ"] == same["inputs_that_differ"] == []


def test_text_says_the_gain_first(files):
    text = invoke("compare", files / "ratio-a.json", files / "ratio-b.json").out
    gain = compared(files, "ratio")["gain"]
    assert gain < 0
    assert text.startswith(f"ratio-b.json gives {-100 * gain:.1f} % fewer tokens per worker")
    assert "asked prompt" in text


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    line = invoke("compare", files / "ratio-a.json", files / "play-a.json").error_line
    assert "the same kind of answer" in line
    assert "same unit" in invoke(
        "compare", files / "plan-a.json", _with(files, tmp_path, time_unit="abstract")
    ).error_line  # fmt: skip
    assert "with --json" in invoke("compare", files / "plan-a.json", _empty(tmp_path)).error_line
    broken = _with(files, tmp_path, recommended={"kind": "split"})
    assert "was not written by this afdplan" in invoke(
        "compare", files / "plan-a.json", broken
    ).error_line  # fmt: skip


@pytest.mark.parametrize("value", [None, [], -1, "x", [None], 1e308])
@pytest.mark.parametrize(
    "name", ["inputs", "split", "recommended", "schema_version", "latency_model"]
)
def test_an_answer_whose_parts_are_of_another_kind_is_refused(files, tmp_path, name, value):
    """`inputs: null` was a traceback, and a schema of the future was the same answer."""
    found = invoke("compare", files / "plan-a.json", _with(files, tmp_path, **{name: value}))
    if name in ("inputs", "schema_version", "recommended"):
        assert (
            "not written by this afdplan" in found.error_line or "with --json" in found.error_line
        )
        assert "must be integers" not in found.error_line
    elif found.code:
        assert found.error_line


def _with(files, folder, **changed):
    (folder / "changed.json").write_text(json.dumps(read(files, "plan-a") | changed))
    return folder / "changed.json"


def _empty(folder):
    (folder / "empty.json").write_text("{}")
    return folder / "empty.json"


def test_a_goal_and_a_budget_are_compared_by_what_a_device_gives(tmp_path):
    """With a rate only the tokens that were asked for count: no measure of a device."""
    names = ("budget.json", "goal.json")
    asked = [part for part in SMALL if part not in ("--devices", 8)]
    for name, goal in zip(names, (("--devices", 8), ("--rate", "1/s")), strict=True):
        written = invoke("plan", *asked, *goal, "--json")
        (tmp_path / name).write_text(written.out)
    found = invoke("compare", *(tmp_path / name for name in names), "--json").document
    a, b = (
        json.loads((tmp_path / name).read_text())["recommended"]["tokens_per_second_per_device"]
        for name in names
    )
    assert found["gain_of"] == "tokens/s per device"
    assert found["gain"] == pytest.approx(b / a - 1)


def test_the_text_says_what_differs_in_words_with_units(files, tmp_path):
    first = read(files, "plan-a")
    asked = {"tpot": 0.05, "requests": 20_000, "notes": ["a"], "service_devices": 64}
    other = {"tpot": 0.04, "requests": 8_819, "notes": [], "service_devices": 8, "margin": 0.1}
    for name, more in (("a", asked), ("b", other)):
        changed = first | {"inputs": first["inputs"] | more}
        if name == "b":
            best = first["recommended"]
            changed["recommended"] = best | {
                "requests_per_second": 2 * best["requests_per_second"],
                "memory_overflow_probability": best["memory_overflow_probability"] + 1e-15,
            }
        (tmp_path / f"{name}.json").write_text(json.dumps(changed))
    run = ("compare", tmp_path / "a.json", tmp_path / "b.json")
    said = " ".join(invoke(*run).out.split())
    text = invoke(*run, "--full").out
    assert "asked TPOT 50 ms against 40 ms" in said
    assert "asked requests 20,000 against 8,819" in said
    assert "asked margin 0.0 % against 10.0 %" in said
    assert "asked notes" not in said
    assert "asked service devices" not in said
    assert said.startswith("b.json gives as many tokens/s per device as a.json. ")
    answers = text.partition("Answers that differ")[2].partition("Inputs that differ")[0]
    assert re.search(
        r"requests, at most +[\d.,]+ requests/s +[\d.,]+ requests/s +\+100.0 %", answers
    )
    assert "overflow" not in answers  # both are told alike
    assert "_" not in answers


def test_a_file_keeps_its_name_at_the_start_of_a_sentence(files):
    text = invoke("compare", files / "play-a.json", files / "play-b.json").out
    assert "Play-b.json" not in text
    assert " ".join(text.split()).count("tokens per worker than") == 1


def test_answers_of_before_name_no_unit(files):
    first, second = read(files, "ratio-a"), read(files, "ratio-b")
    assert objectives_of("ratio", first, second)[2] == "tokens per worker"
    first["cost_unit"] = "device"
    assert objectives_of("ratio", first, second)[2] == "tokens per unit of cost"
    del first["cost_unit"], second["cost_unit"]
    assert objectives_of("ratio", first, second)[2] == "tokens per unit of cost"
