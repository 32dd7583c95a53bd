"""What is said of modes, policies and compared answers, from made-up findings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from afdplan.report import compare as comparing
from afdplan.report.compare import Comparison, Contrast, comparison_answer, comparison_told
from afdplan.report.placement import BARRIER, gain_fact, with_gain
from afdplan.report.plan import case_sentence
from afdplan.report.quantities import share
from afdplan.report.ratio import mode_words
from afdplan.report.telling import Fact
from afdplan.report.validation_tables import METHODS, _cell_table
from afdplan.report.validation_words import verdict, verdict_error
from afdplan.theory.validity import BARRIER_FREE_ERROR


def value(number, **more):
    return SimpleNamespace(value=number, low=number, high=number, relative_half_width=0.0, **more)


def mode(**changes):
    given = {
        "gain": 0.05, "step_time": 0.03, "step_time_p99": None, "step_time_p99_low": None,
        "step_time_p99_high": None, "synchronous_attention_workers": 1200,
        "attention_workers": 8, "step_time_error": 0.0, "synchronous_ffn_idle_fraction": 0.25,
        "barrier_saved": 0.125, "ffn_idle_fraction": 0.05, "floor_paid": 0.02,
        "calls_per_departure": 2.5, "least_calls": 1,
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


def said(found):
    return {fact.name: fact.value for fact in mode_words(found, "s")}


def test_whether_going_without_the_barrier_pays():
    assert said(None) == {}
    usual = said(mode())
    assert set(usual) == {"Without the barrier", "Why", "Boarding rule"}
    assert usual["Without the barrier"] == (
        "Going without pays: 5.00 % more than the best synchronous bundle (A = 1,200) with A = 8 "
        "and an output step of 30.0 ms."
    )
    assert usual["Why"] == (
        "With the barrier the FFN idles 25.0 % (unequal loads cost 12.5 % of the throughput), "
        "without it 5.00 %; it then needs 2.00 % more time per token, 2.50 calls at a time."
    )
    assert usual["Boarding rule"] == "Leave as soon as one call waits."
    worse = said(mode(gain=-0.05, floor_paid=-0.02, least_calls=1000))
    assert worse["Without the barrier"].startswith("Keep the barrier: 5.00 % less without than")
    assert "2.00 % less time per token" in worse["Why"]
    assert worse["Boarding rule"] == "Leave when 1,000 calls wait."
    assert "Keep the barrier" in said(mode(gain=0.0))["Without the barrier"]
    assert "2 " not in said(mode(floor_paid=0.0))["Boarding rule"]
    assert "0.0 % more time" in said(mode(floor_paid=0.0))["Why"]
    tail = said(mode(step_time_p99=0.04, step_time_p99_low=0.035, step_time_p99_high=0.045))
    assert tail["Without the barrier"].endswith(
        "30.0 ms (p99 over all workers 40.0 ms, between 35.0 ms and 45.0 ms)."
    )
    assert "Two rhythms" not in said(mode(step_time_error=BARRIER_FREE_ERROR))
    odd = said(mode(step_time_error=BARRIER_FREE_ERROR * 1.01))["Two rhythms"]
    assert f"{share(BARRIER_FREE_ERROR * 1.01)} off" in odd


def gain(**changes):
    given = {
        "barrier_cost": value(0.04), "placement": "longest-prompt", "placement_window": 4,
        "blind_attention_workers": 1000, "attention_workers": 2000,
        "given_back": value(0.5, method="theory"), "time_per_output_token": 0.02,
        "blind_time_per_output_token": 0.03, "gain": value(0.01), "recovered": None,
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


def test_what_a_policy_gives_back():
    fact = gain_fact(gain(), "s")
    assert fact.value.startswith(
        "the barrier costs 4.00 %; placement longest-prompt of 4 waiting requests would give back "
    )
    assert "best A 2,000 in place of 1,000, time per output token 20.0 ms in place of 30.0 ms" in (
        fact.value
    )
    assert fact.value.endswith("throughput per cost +1.00 %")
    assert fact.remark.startswith("by prompts alone")
    used = gain_fact(gain(placement_window=1, attention_workers=1000), "s", is_used=True)
    assert "placement longest-prompt gives back" in used.value
    assert "best A stays 1,000," in used.value
    none = gain_fact(gain(barrier_cost=value(0.00099)), "s")
    assert none.value == "the barrier costs 0.10 %: nothing to balance"
    assert "nothing" not in gain_fact(gain(barrier_cost=value(0.001)), "s").value
    assert gain_fact(gain(placement="fewest-tokens"), "s").remark == ""
    assert gain_fact(gain(given_back=value(0.5, method="played")), "s").remark == ""
    for window, known, more in ((1, 0.7, True), (1, 0.75, False), (2, 0.7, False)):
        found = SimpleNamespace(prompts_only=value(0.3), outputs_known=value(known))
        told = gain_fact(gain(placement_window=window, recovered=found), "s").remark
        assert told.startswith("of the barrier's cost that is ")
        assert ("--placement-window 4" in told) == more


def test_the_cost_of_the_barrier_says_what_comes_back():
    facts = [Fact(BARRIER, "x", "old"), Fact("Other", "y", "z")]
    told = with_gain(facts, gain(), is_used=True)
    assert told[0].remark == "longest-prompt gives back 50.0 of 4.00 %, best A 2,000"
    assert told[1] == facts[1]
    assert "would give back" in with_gain(facts, gain())[0].remark
    assert with_gain(facts, gain(barrier_cost=value(0.0009)))[0] == facts[0]


@pytest.mark.parametrize(
    ("given", "typed", "told"),
    [
        (None, "", "nothing"), ([], "", "nothing"), (True, "", "yes"), (False, "", "no"),
        (0.05, "duration", "50 ms"), (12.5, "rate", "12.5 requests/s"), (0.05, "share", "5.00 %"),
        (1234567.8, "", "1.23457e+06"), (1200, "", "1,200"), ([1, 2], "", "1, 2"), ("a", "", "a"),
        ("a" * 28, "", "a" * 28), ("b" * 29, "", "..." + "b" * 25),
    ],
)  # fmt: skip
def test_inputs_as_they_may_be_typed(given, typed, told):
    assert comparing._shown(given, typed) == told


def test_answers_that_differ_with_their_change():
    first = {"t": (0.1, "time"), "r": (10.0, "rate"), "s": (0.5, "share"), "k": ("a", "text"),
             "n": (4, "count"), "z": (0, "count"), "same": (1, "count"), "q": (3.0, "requests"),
             "c": (0.1, "change"), "p": (0.5, "chance")}  # fmt: skip
    second = {"t": (0.2, "time"), "r": (5.0, "rate"), "s": (0.25, "share"), "k": ("b", "text"),
              "n": (5, "count"), "z": (2, "count"), "same": (1, "count"), "q": (6.0, "requests"),
              "c": (-0.1, "change"), "p": (0.25, "chance")}  # fmt: skip
    found = {one.name: one for one in comparing._answers(first, second, "s")}
    assert {name: (one.told, one.change) for name, one in found.items()} == {
        "t": (("100 ms", "200 ms"), 1.0), "r": (("10.0 tokens/s", "5.00 tokens/s"), -0.5),
        "s": (("50.0 %", "25.0 %"), None), "k": (("a", "b"), None), "n": (("4", "5"), 0.25),
        "z": (("0", "2"), None), "q": (("3.00 requests/s", "6.00 requests/s"), 1.0),
        "c": (("+10.0 %", "-10.0 %"), None), "p": (("0.5", "0.25"), None),
    }  # fmt: skip
    (gone,) = comparing._answers({"t": (0.1, "time")}, {}, "s")
    assert (gone.told, gone.change) == (("100 ms", "-"), None)


def compared(gain=0.25, answers=1, inputs=1):
    def contrasts(count):
        return tuple(
            Contrast(name=f"n{k}", values=(1, 2), told=("1", "2"), change=1.0) for k in range(count)
        )

    return Comparison(
        kind="plan", time_unit="s", names=("a.json", "b.json"), inputs=contrasts(inputs),
        answers=contrasts(answers), costs=("it costs more",), gain=gain, measure="tokens/s",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.25, "b.json gives 25.0 % more tokens/s than a.json."),
        (-0.25, "b.json gives 25.0 % fewer tokens/s than a.json."),
        (4.9e-5, "b.json gives as many tokens/s as a.json."),
        (-4.9e-5, "b.json gives as many tokens/s as a.json."),
        (5e-5, "b.json gives 0.01 % more tokens/s than a.json."),
    ],
)
def test_which_file_gives_more(gain, words):
    told = comparison_told(compared(gain))
    assert told.answer == f"{words} It costs more."
    assert [table.title for table in told.tables] == ["Answers that differ", "Inputs that differ"]
    assert told.tables[0].rows == [("n0", "1", "2", "+100.0 %")]
    assert told.brief == (Fact("asked n0", "1 against 2"),)
    assert comparison_answer(compared(gain))["gain"] == gain


def test_files_that_answer_the_same():
    assert comparison_told(compared(0, 0, 0)).answer == "Both files ask and answer the same."
    told = comparison_told(compared(0, 0, 2))
    assert told.answer == "The same plan, although 2 inputs differ."


def test_the_best_design_at_another_batch():
    def told(kind="split", score=10.0, **changes):
        class Best(str):
            tokens_per_second_per_device = 2000.0
            design = "4:2"

            def token_time(self, statistic):
                return 0.03

        best = Best("x")
        best.design = changes.pop("design", "4:2")
        best.score = 8.0
        plan = SimpleNamespace(
            latency=SimpleNamespace(time_unit="s"), limits=SimpleNamespace(statistic="mean"),
            split=SimpleNamespace(design="4:2", score=score), kind=kind,
        )  # fmt: skip
        given = {"batch_size": 1024, "microbatches": 2, "best": best, "reason": "too slow"}
        return case_sentence(SimpleNamespace(**given | changes), plan)

    head = "B = 1,024, m = 2: "
    assert told(best=None) == f"{head}no design; too slow."
    text = f"{head}4:2 gives 2,000 tokens/s per device at 30.0 ms per output token (mean)"
    assert told() == f"{text}, the recommended design."
    assert told(kind="un-split") == f"{text}, the best split."
    assert told(design="6:2").endswith("(mean); gives up 20.0 %.")


def band(worst, limit=0.05, broken=0):
    return SimpleNamespace(
        band="the mean", limit=limit, worst=worst, worst_case="A = 8", cases=20,
        holds=not broken, broken=(None,) * broken,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (band(0.04), "the mean: at most 4.00 % of 5.00 % (A = 8)"),
        (band(0.5, 1.0), "the mean: at most 0.50 of what is stated (A = 8)"),
        (band(0.06, broken=1), "the mean must be at most 5.00 %, got 6.00 % at 'A = 8', 1 of 20"),
        (band(0.06, broken=3),
         "the mean must be at most 5.00 %, got 6.00 % at 'A = 8' and 2 more of 20"),
        (band(1.5, 1.0, 1),
         "the mean must be at most what is stated, got 1.50 of what is stated at 'A = 8', 1 of 20"),
    ],
)  # fmt: skip
def test_verdicts_on_bands(check, words):
    assert verdict(check) == words


def test_the_error_of_a_validation_counts_the_bands():
    for count, also in ((1, ""), (2, "; 1 other band broken too"), (3, "; 2 other bands broken")):
        said = str(verdict_error(SimpleNamespace(broken=[band(0.06, broken=1)] * count)))
        assert said.startswith("the mean must be at most 5.00 %")
        assert also in said
        assert ("other" in said) == (count > 1)


def test_cells_of_a_validation_stand_by_the_size_of_their_error():
    def cell(name, error):
        p99 = SimpleNamespace(relative_half_width=0.01)
        return SimpleNamespace(
            name=name, error=error, rounds=99.6, errors=dict.fromkeys(METHODS, error),
            half_width=0.002, allowed=0.05, p99_error=-0.01,
            simulated=SimpleNamespace(step_time_p99=p99),
        )  # fmt: skip

    table = _cell_table("T", [cell("a", 0.01), cell("b", -0.03), cell("c", 0.02)], 2)
    told = ("100", *["-3.00 %"] * len(METHODS), "± 0.20 %", "5.00 %", "-1.00 %", "± 1.00 %")
    assert [row[0] for row in table.rows] == ["b", "c"]
    assert table.rows[0][1:] == told
    assert "1 smaller ones are not shown" in table.note
    assert "smaller" not in _cell_table("T", [cell("a", 0.01)], None).note
