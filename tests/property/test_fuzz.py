"""Calls that nobody means, and laws that hold whatever is asked: a few of `make fuzz`'s cases."""

from __future__ import annotations

import os
import random

import polars as pl
import pytest

from tests.cli.invoke import invoke
from tests.property import fuzzing

CASES = int(os.environ.get("AFDPLAN_FUZZ_CASES", "60"))


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return fuzzing.Room(tmp_path_factory.mktemp("fuzz"))


def test_every_call_is_answered_or_plainly_refused(room):
    wrong = [(fuzzing.case(seed, room), fuzzing.tried(seed, room)) for seed in range(1, 1 + CASES)]
    assert [one for one in wrong if one[1] is not None] == []


@pytest.mark.parametrize(
    ("code", "out", "err", "seconds", "left", "expected"),
    [
        (1, "", "Traceback (most recent call last)", 0, [], "lines of error"),
        (0, '{"a": NaN}', "", 0, [], "not strict JSON"),
        (0, "", "", 0, [], "without a word"),
        (1, "", "", 0, [], "without a word"),
        (0, "{}", "", 100, [], "took 100 s"),
        (0, "{}", "", 0, ["x.tmp"], "left"),
        (9, "{}", "", 0, [], "exit code 9"),
        (0, "{}", "", 0, [], None),
    ],
)
def test_the_oracle_complains_of_what_it_should(code, out, err, seconds, left, expected):
    said = fuzzing.complaint(fuzzing.Outcome(code, out, err), ["ratio", "--json"], seconds, left)
    assert (said is None) if expected is None else (expected in said)


@pytest.mark.parametrize("number", ["inf", "nan", "1e400"])
@pytest.mark.parametrize(
    ("command", "option"),
    [("calibrate", "--attention-workers"), ("calibrate", "--ffn-workers"),
     ("simulate", "--arrival-cv")],
)  # fmt: skip
def test_what_is_only_repeated_is_checked_too(room, command, option, number):
    base = [part.format(**room.files) for part in fuzzing.BASES[command]]
    outcome = invoke(command, *base, option, number, "--json")
    assert outcome.code in (1, 2)
    assert "finite" in outcome.error_line


LATENCY = """schema_version = 1
name = "linear"
time_unit = "s"
[attention]
kind = "linear"
slope = {a}
intercept = {b}
[ffn]
kind = "linear"
slope = {c}
intercept = {d}
"""


def ratio(folder, times, *options):
    a, b, c, d = (1e-9 * times, 2e-5 * times, 2e-7 * times, 1e-4 * times)
    path = folder / f"{times}.toml"
    path.write_text(LATENCY.format(a=a, b=b, c=c, d=d))
    asked = ("--latency", path, "--max-attention-workers", 8, "--json", *options)
    return invoke("ratio", *asked).document


@pytest.mark.parametrize("seed", range(4))
def test_twice_as_long_times_give_the_same_ratio_and_half_the_throughput(tmp_path, seed):
    chance = random.Random(seed)
    lengths = (
        "--prompt", f"geometric:{chance.randrange(5, 4000)}",
        "--decode", f"geometric:{chance.randrange(5, 900)}",
        "--batch-size", chance.choice([4, 32, 100]),
    )  # fmt: skip
    one, two = ratio(tmp_path, 1, *lengths), ratio(tmp_path, 2, *lengths)
    assert one["optimal_ratio"] == two["optimal_ratio"]
    assert len(one["curve"]) == 8
    for slow, fast in zip(two["curve"], one["curve"], strict=True):
        assert slow["throughput_per_instance"] == pytest.approx(
            fast["throughput_per_instance"] / 2, rel=1e-9
        )


@pytest.mark.parametrize("seed", range(4))
def test_order_form_and_repetition_of_a_trace_change_no_answer(tmp_path, seed):
    chance = random.Random(seed)
    count = chance.randrange(30, 200)
    frame = pl.DataFrame(
        {
            "prompt_tokens": [chance.randrange(1, 5000) for _ in range(count)],
            "decode_tokens": [chance.randrange(1, 900) for _ in range(count)],
        }
    )
    frame.write_csv(tmp_path / "plain.csv")
    frame.sample(fraction=1, shuffle=True, seed=seed).write_ndjson(tmp_path / "shuffled.jsonl")
    pl.concat([frame, frame]).write_parquet(tmp_path / "twice.parquet")
    answers = [
        invoke("ratio", "--trace", path, "--latency", "deepseek-v3-ascend-910c",
               "--batch-size", "16", "--max-attention-workers", "6", "--json").document
        for path in sorted(tmp_path.iterdir())
    ]  # fmt: skip
    curves = [[p["throughput_per_instance"] for p in one["curve"]] for one in answers]
    assert len(curves) == 3
    assert len(curves[0]) == 6
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], rel=1e-9)
