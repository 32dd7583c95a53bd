"""What is said of a workload, of effects and of a day, from made-up findings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from afdplan.model.estimate import Estimate
from afdplan.report import effects, ratio_day, workload
from afdplan.report.placement import BARRIER
from afdplan.report.telling import Fact, Telling


def estimate(value, half=0.0, confidence=0.95):
    return Estimate(
        value=value, low=value - half, high=value + half, confidence=confidence, method="m"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.5, "0.5 s"), (59.0, "59 s"), (60.0, "1 min"), (61.0, "61 s"), (119.0, "119 s"),
        (120.0, "2 min"), (3600.0, "1 h"), (3660.0, "61 min"), (7200.0, "2 h"),
        (86_400.0, "24 h"), (172_800.0, "2 d"),
    ],
)  # fmt: skip
def test_spans(seconds, said):
    assert workload._duration(seconds) == said


def test_where_the_load_comes_from():
    def said(dependence):
        split = SimpleNamespace(prompt=100.0, growth=50.0, dependence=dependence, total=150.0)
        return split, workload.split_words(SimpleNamespace(split=split))

    assert said(10.0)[1] == (
        "Prompts give 100 tokens, outputs so far 50.0, and that the slots with long outputs hold "
        "longer prompts adds 10.0."
    )
    assert said(-10.0)[1].endswith("hold shorter prompts takes away 10.0.")
    assert "longer prompts adds 0" in said(0.0)[1]
    split = SimpleNamespace(prompt=100.0, growth=60.0, dependence=-10.0, total=150.0)
    table = workload.split_table(SimpleNamespace(split=split))
    assert [row[1:] for row in table.rows] == [
        ("100", "66.7 %"), ("60.0", "40.0 %"), ("-10.0", "-6.67 %")
    ]  # fmt: skip
    assert table.bars == [pytest.approx(2 / 3), 0.4, pytest.approx(1 / 15)]
    none = SimpleNamespace(prompt=0.0, growth=0.0, dependence=0.0, total=0.0)
    assert workload.split_table(SimpleNamespace(split=none)).bars == [0.0] * 3


def drift(*loads, probability=0.5, by_time=False, exceeds=False):
    windows = tuple(
        SimpleNamespace(
            token_load=estimate(load), requests=10 + k, start=60.0 * k, end=60.0 * k + 60
        )
        for k, load in enumerate(loads)
    )
    return SimpleNamespace(
        windows=windows, std=3.0, probability=probability, by_time=by_time,
        exceeds_interval=exceeds,
    )  # fmt: skip


def test_drift_in_words():
    assert "too few requests" in workload.drift_words(drift())
    assert workload.drift_words(drift(1.0, 2.0)).endswith("without drift is 0.5.")
    assert workload.drift_words(drift(1.0, probability=0.001)).endswith("is 0.001.")
    assert workload.drift_words(drift(1.0, probability=0.00099)).endswith("is below 0.001.")
    assert workload._windows(drift(10.0, 30.0, 20.0)) == (
        "▁█▅ 10.0 to 30.0 over 3 windows of about 11 requests"
    )
    assert workload._windows(drift(10.0, 30.0, by_time=True)).endswith("2 windows of about 1 min")


def report(**changes):
    given = {
        "token_load": estimate(100.0, 10.0), "token_load_std": 50.0, "requests": 2000,
        "prompt": SimpleNamespace(mean=80.0, quantiles={99: 1500}),
        "decode": SimpleNamespace(mean=40.0, quantiles={99: 200}), "drift": drift(),
        "precision": SimpleNamespace(effective_requests=1234.4), "arrivals": None,
        "source": "t.csv", "format": "csv", "dropped_requests": 0, "time_unit_in_file": "",
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


def test_the_mean_load_in_a_sentence():
    said = workload._sentence
    text = "One occupied slot holds 100 KV tokens on average"
    assert said(report()) == f"{text}, 90.0 to 110 with 95 % confidence."
    assert said(report(token_load=estimate(100.0))) == f"{text}."
    assert said(report(drift=drift(1.0))).endswith(", with no drift beyond that.")
    assert said(report(drift=drift(1.0, exceeds=True))).endswith(", and it drifts.")


def test_facts_of_a_workload():
    def facts(**changes):
        return {fact.name: (fact.value, fact.remark) for fact in workload._facts(report(**changes))}

    usual = facts()
    assert usual["Mean token load"] == ("100 tokens", "± 10.0 %, 95 % confidence")
    assert usual["Spread of a slot"] == ("50.0 tokens", "standard deviation")
    assert usual["Prompt"] == ("80.0 tokens", "mean; p99 1,500")
    assert usual["Worth"] == ("1,234 requests", "independent ones, of 2,000")
    assert "Arrivals" not in usual
    assert facts(token_load=estimate(1.0, confidence=1.0))["Mean token load"][1] == "exact"
    assert facts(token_load=estimate(1.0))["Mean token load"][1] == "all requests alike"
    arrivals = SimpleNamespace(duration=10.0, rate=2.0, interarrival_variation=1.5,
                               is_evenly_spaced=False)  # fmt: skip
    assert facts(arrivals=arrivals)["Arrivals"] == (
        "2.00 requests/s", "gaps vary by 1.50 of their mean (Poisson 1)"
    )  # fmt: skip
    arrivals.duration = 0.0
    assert "Arrivals" not in facts(arrivals=arrivals)
    arrivals.duration = 120.0
    subject = workload._subject(report(arrivals=arrivals, dropped_requests=3,
                                       time_unit_in_file="seconds"))  # fmt: skip
    assert subject == (
        "t.csv: 2,000 requests, format csv, 3 dropped (failed or without output), over 2 min, "
        "arrivals read as seconds"
    )
    assert workload._subject(report()) == "t.csv: 2,000 requests, format csv"


def test_bursts_of_arrivals():
    counts = [SimpleNamespace(index=1.5, window_seconds=60.0)]
    of = workload._bursts
    assert of(SimpleNamespace(duration=0, dispersion=counts)) == "all arrive at once"
    assert of(SimpleNamespace(duration=1, dispersion=counts)).endswith(": 1.50 in 1 min")
    assert of(SimpleNamespace(duration=1, dispersion=[])).endswith(": too few to say")


def effect(name, **changes):
    given = {
        "effect": name, "cost": 0.02, "gain": 0.03, "attention_workers": 8,
        "attention_workers_without": 8, "ffn_longer": 0.1, "ranks": None, "attention_scatter": 0.05,
        "ffn_scatter": 0.06, "attention_longer": 0.07, "ffn_longer_": 0.0,
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (effect("experts"), "the slowest rank works 10.0 % longer"),
        (effect("experts", ranks=8), "the slowest of 8 ranks works 10.0 % longer"),
        (effect("scatter"), "stages scatter afresh, attention by 5.00 %, the FFN by 6.00 %"),
        (effect("occupancy"),
         "transfers keep workers busy longer, attention 7.00 %, the FFN 10.0 %"),
        (effect("occupancy", ffn_longer=1e-10),
         "transfers keep workers busy longer, attention 7.00 %"),
        (effect("launch"), "each launch makes the FFN 10.0 % longer"),
    ],
)  # fmt: skip
def test_what_an_effect_does(one, words):
    assert effects._doing(one) == words


def test_how_an_effect_moves_the_best_ratio():
    same, moved = effect("launch"), effect("launch", attention_workers_without=1200)
    assert effects._moved(same) == "8 attention workers with it as without it"
    assert effects._moved(moved) == "1,200 -> 8 attention workers"
    assert effects._best_without(same).startswith("best A 8 without ")
    assert effects._best_without(same).endswith(", too")
    assert effects._best_without(moved).startswith("best A 1,200 without ")
    (fact,) = effects.effect_facts([moved])
    assert fact.remark == "costs 2.00 %; without it throughput per cost +3.00 %"


def test_dear_effects_stand_behind_the_cost_of_the_barrier():
    told = Telling(brief=(Fact("x", "1"), Fact(BARRIER, "2"), Fact("y", "3")))
    small = effect("launch", cost=0.00099)
    found = [effect("launch", cost=0.01), effect("experts", cost=0.02)]
    brief = effects.with_effects(told, found, "if split").brief
    assert [fact.name for fact in brief] == ["x", BARRIER, "Effects cost, if split", "y"]
    assert brief[2].value.startswith(effects.EFFECT["experts"].lower() + " 2.00 %, ")
    assert effects.with_effects(told, [small]).brief == told.brief
    edge = effects.with_effects(told, [effect("launch", cost=0.001)]).brief
    assert len(edge) == 4
    bare = Telling(brief=(Fact("x", "1"),))
    assert effects.with_effects(bare, found).brief[1].name == "Effects cost"
    assert len(effects.with_effects(bare, found).words) == 2


def day(*best, fixed=8, best_fixed=9, left_out=0):
    windows = tuple(
        SimpleNamespace(
            optimal_attention_workers=a, low=a - 1, high=a + 1, start=f"{k:02d}:00", requests=1000,
            arrival_rate=None if k else 2.0, token_load=estimate(100.0, 10.0),
            regret_of_fixed=0.01 * k, regret_of_best_fixed=-1e-9,
        )
        for k, a in enumerate(best)
    )  # fmt: skip
    return SimpleNamespace(
        windows=windows, fixed_attention_workers=fixed, best_fixed_attention_workers=best_fixed,
        cost_of_fixed=0.02, cost_of_best_fixed=0.01, left_out=left_out,
    )  # fmt: skip


def test_what_a_fixed_ratio_costs_over_a_day():
    fact = ratio_day.day_fact
    assert fact(day(8)).value == "A = 8 is the best in the only window"
    assert fact(day(8, 8)).value == "A = 8 is the best in all of 2 windows"
    assert fact(day(9, 9)).value.startswith("the best A goes from 9 to 9 over 2 windows; staying")
    assert fact(day(7, 8, left_out=1)).value == (
        "the best A goes from 7 to 8 over 2 windows; staying at 8 costs 2.00 % more than "
        "following, the best fixed A, 9, 1.00 %; 1 window with too few requests left out"
    )
    table = ratio_day.day_table(day(7, 9))
    assert table.columns[-2:] == ("given up at A = 8", "at A = 9")
    assert table.rows == [
        ("00:00", "1,000", "2.00", "100 (90.0 to 110)", "7", "6 to 8", "0.0 %", "0.0 %"),
        ("01:00", "1,000", "-", "100 (90.0 to 110)", "9", "8 to 10", "1.00 %", "0.0 %"),
    ]
    alike = ratio_day.day_table(day(7, 9, best_fixed=8))
    assert alike.columns[-1] == "given up at A = 8"
    assert len(alike.rows[0]) == 7
