"""What is said of models, of fits and of two answers' costs, from made-up findings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.calibration.architecture import FeedForward, Mixer
from afdplan.calibration.attention import (
    CompressedAttention,
    GroupedAttention,
    SparseIndexer,
)
from afdplan.calibration.recurrent import DeltaAttention, StateSpace
from afdplan.errors import InvalidInputError
from afdplan.model.estimate import Estimate
from afdplan.report import calibrate as fits
from afdplan.report import compared_answers as costs
from afdplan.report import models as of_models
from tests.unit.calibration.invented import GROUPED, HIDDEN, LATENT, VOCABULARY, model


def estimate(value, half=0.1):
    return Estimate(value=value, low=value - half, high=value + half, confidence=0.95, method="m")


def test_attention_in_words():
    delta = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32)
    state = StateSpace(query_heads=6, head_size=16, state_size=32, groups=2)
    compressed = CompressedAttention(
        query_heads=4, head_size=16, query_rank=10, output_rank=5, output_groups=2
    )
    low = GroupedAttention(query_heads=8, kv_heads=1, head_size=32, query_rank=9)
    kinds = [
        (Mixer(heads=GROUPED), "GQA 8/2", "GQA 8/2"),
        (Mixer(heads=GROUPED, window=64), "GQA 8/2 window 64", "GQA 8/2"),
        (Mixer(heads=low), "MFA 8/1", "MFA 8/1"),
        (Mixer(heads=LATENT, selected_tokens=9), "MLA 8 top 9", "MLA 8 k9"),
        (Mixer(heads=compressed, compression=4), "CSA 4 1/4", "CSA 4"),
        (Mixer(heads=delta), "delta 8", "delta 8"),
        (Mixer(heads=state), "Mamba-2 6", "Mamba-2 6"),
    ]
    for mixer, whole, short in kinds:
        assert of_models._attention(model(mixer)) == whole
        assert of_models._attention(model(mixer), short=True).startswith(short)
    far, near = Mixer(heads=GROUPED), Mixer(heads=GROUPED, window=64)
    both = model(far, near)
    assert of_models._attention(both) == "GQA 8/2, GQA 8/2 window 64"
    assert of_models._attention(both, short=True) == "GQA 8/2 w64"
    mixed = model(Mixer(heads=delta), Mixer(heads=delta), far)
    assert of_models._attention(mixed, short=True) == "GQA 8/2 +1"
    assert of_models._windows(model(near, far, near, Mixer(heads=delta))) == [[1, None], [2, 64]]
    assert of_models._windows(model(Mixer(heads=GROUPED, window=9), near)) == [[1, 9], [1, 64]]


def test_sizes_of_a_model():
    delta = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32)
    mixer = Mixer(heads=LATENT, indexer=SparseIndexer(heads=4, head_size=32))
    told = of_models.model_answer("x", model(mixer, Mixer(heads=delta)))
    # Latents in 16 bits, an index key of a byte each and its scale; no state.
    assert told["cache_bytes_per_token"] == 2 * 72 + 32 + 4
    assert told["state_bytes_per_request"] == delta.state_bytes
    assert (told["shared_size"], told["expert_size"], told["experts"]) == (194, 96, 16)
    assert (told["layers"], told["hidden_size"]) == (2, HIDDEN)
    assert told["published_parameters"] is None
    dense = model(mixer, networks=(FeedForward(dense_size=7),))
    told = of_models.model_answer("x", dense)
    assert (told["shared_size"], told["experts"]) == (0, 0)
    assert told["parameters"] == told["active_parameters"]
    assert told["parameters"] == (
        2 * VOCABULARY * HIDDEN + mixer.parameters(HIDDEN) + 3 * HIDDEN * 7
    )
    assert [of_models._billions(n) for n in (9.94e10, 1e11, 1.5e9, 1.234e12)] == [
        "99.4", "100", "1.5", "1,234"
    ]  # fmt: skip
    table = of_models.models_told({"abc-1": dense, "abc-2": model(mixer), "x": dense})
    assert [(fact.name, fact.value) for fact in table.brief] == [
        ("abc", "abc-1, abc-2"),
        ("x", "x"),
    ]
    rows = dict(zip(table.tables[0].columns, zip(*table.tables[0].rows, strict=True), strict=True))
    assert rows["experts"] == ("dense", "2/16", "dense")
    assert rows["layers"] == ("1", "1", "1")
    assert rows["format"] == ("bf16", "bf16", "bf16")


def best(**changes):
    given = {
        "attention_workers": estimate(12.0, 2.0), "ffn_workers": 1.0, "lowest_near": 11,
        "highest_near": 13, "measured": 10.0, "measured_loss": 0.02,
        "step_time": estimate(0.03, 1e-3), "is_last": False,
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


WEIGHED, PLAIN = SimpleNamespace(ffn_weight=8.0), SimpleNamespace(ffn_weight=None)


def test_the_best_ratio_in_words():
    words = fits._best_words
    assert words(None, PLAIN) == ""
    assert words(best(), WEIGHED) == "Use 12 attention workers with 1 FFN worker. "
    assert words(best(ffn_workers=2.0), WEIGHED).endswith("with 2 FFN workers. ")
    assert words(best(), PLAIN).startswith("If an FFN worker takes as many devices")
    assert list(fits._best_facts(None)) == []
    first, second, third = fits._best_facts(best())
    assert first == ("Best A", "12", "10 to 14; 11 to 13 give up at most 1 %")
    assert second == ("Best measured A", "10", "gives 2.00 % less")
    assert third == ("Step at the best A", "30.0 ms", "29.0 ms to 31.0 ms")
    for measured in (None, 12.0):
        assert len(list(fits._best_facts(best(measured=measured)))) == 2
    assert list(fits._best_warnings(best(), WEIGHED)) == []
    assert list(fits._best_warnings(None, PLAIN)) == []
    assert "--ffn-devices" in next(iter(fits._best_warnings(best(), PLAIN)))
    (last,) = fits._best_warnings(best(is_last=True), WEIGHED)
    assert last.startswith("no A above 12 was looked at")


def swept(**changes):
    sweep = SimpleNamespace(
        ffn_tokens=np.array([10.0, 20.0]), microbatches=np.array([1.0, 2.0]), count=2,
        attention_workers=np.array([1.0, 2.0]), ffn_workers=np.ones(2),
        batch_size=np.array([4.0, 8.0]), mean_tokens=np.array([1000.0, 2000.0]),
        step_times=np.array([0.01, 0.02]),
    )  # fmt: skip
    given = {
        "sweep": sweep, "reference_tokens": 4000.0, "attention_time": estimate(2e-4, 1e-5),
        "ffn_time": estimate(1e-4, 1e-5), "ffn_slope": estimate(1e-6, 1e-7),
        "ffn_intercept": estimate(5e-5, 1e-6), "transfer_limit": 5e-5, "transfer_time": 0.0,
        "identified": dict.fromkeys(("attention", "ffn_time", "ffn_slope", "ffn_intercept"), True),
        "predict": lambda _: [estimate(0.01, 1e-4), estimate(0.02, 1e-4)],
        "residuals": np.array([0.01, -0.02]),
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


def test_what_a_sweep_tells_and_only_bounds():
    facts = {fact.name: (fact.value, fact.remark) for fact in fits._facts(swept())}
    assert facts == {
        "attention at 4,000 KV tokens": ("200 µs", "190 µs to 210 µs"),
        "FFN at 20.0 tokens": ("100 µs", "90.0 µs to 110 µs"),
        "FFN slope per token": ("1.00 µs", "900 ns to 1.10 µs"),
        "FFN intercept": ("50.0 µs", "49.0 µs to 51.0 µs"),
        "transfer there and back": ("at most 50.0 µs", "taken as hidden"),
    }
    known = swept().identified | {"ffn_time": False}
    facts = {fact.name: (fact.value, fact.remark) for fact in fits._facts(swept(identified=known))}
    assert facts["FFN at 20.0 tokens"] == ("at most 110 µs", "only bounded")
    moved = {fact.name: fact for fact in fits._facts(swept(transfer_time=1e-5))}
    assert moved["transfer there and back"][1:] == ("10.0 µs", "at most 50.0 µs, mostly hidden")
    alone = swept()
    alone.sweep.microbatches = np.ones(2)
    assert "transfer there and back" not in {fact.name for fact in fits._facts(alone)}


def test_points_of_a_sweep_beside_their_fit():
    table = fits.point_table(swept())
    assert table.rows == [
        ("1:1", "4", "1,000", "10.0 ms", "10.0 ms", "9.90 ms to 10.1 ms", "+1.00 %"),
        ("2:1", "8", "2,000", "20.0 ms", "20.0 ms", "19.9 ms to 20.1 ms", "-2.00 %"),
    ]
    assert table.note == ""
    few = fits.point_table(swept(), 1)
    assert (len(few.rows), few.note) == (1, "And 1 more.")
    assert fits.point_table(swept(), 2).note == ""


def test_influence_from_a_number_of_standard_errors_on():
    def fit(errors):
        found = SimpleNamespace(row=4, coefficient="slope", standard_errors=errors)
        return SimpleNamespace(stage="ffn", influence=None if errors is None else found)

    said = fits.influence_words([fit(0.9), fit(1.0), fit(None)], 1.0)
    assert said == ("FFN: without row 4 slope would move by 1.0 standard errors.",)


def design(bundles=1, a=4, f=2, objective=10.0, **more):
    return {
        "bundles": bundles, "attention_workers": a, "ffn_workers": f, "batch_size": 8,
        "microbatches": 2, "objective": objective, "tokens_per_second_per_device": objective,
    } | more  # fmt: skip


def planned(recommended, split=None, **more):
    return {
        "recommended": recommended, "split": split or recommended, "alternatives": [],
        "pareto_front": [], "colocated": None, "inputs": {},
    } | more  # fmt: skip


def test_deployments_in_short():
    assert costs._deployment(design()) == "4:2, B 8 x 2"
    assert costs._deployment(design(bundles=2)) == "2 x 4:2, B 8 x 2"
    ranks = {"ranks": 16, "replicas": 1, "requests_per_rank": 60}
    assert costs._deployment(ranks) == "16 ranks, 60 each"
    assert costs._deployment(ranks | {"replicas": 2}) == "2 x 16 ranks, 60 each"


def test_what_one_plan_costs_in_the_other():
    first = planned(design(), inputs={"trace": "a b.csv"})
    second = planned(design(a=6, objective=8.0), alternatives=[design(objective=6.0)])
    said = list(costs._plan_costs(first, second, ("x.json", "y.json"), "s"))
    assert said == [
        "a token takes 25.0 % more devices in y.json",
        "4:2, B 8 x 2 gives up 25.0 % in y.json",
        "6:2, B 8 x 2 was not tried for x.json: `afdplan check y.json --trace 'a b.csv'` says "
        "what it costs",
    ]
    fewer = planned(design(objective=12.5))
    assert list(costs._plan_costs(first, fewer, ("x", "y"), "s")) == [
        "a token takes 20.0 % fewer devices in y"
    ]
    assert list(costs._plan_costs(first, first, ("x", "y"), "s")) == []


def test_what_one_ratio_costs_in_the_other():
    def ratio(best_, *regrets):
        curve = [{"attention_workers": a, "regret": r} for a, r in regrets]
        return {"optimal_attention_workers": best_, "curve": curve}

    one, two = ratio(4, (4, 0.0), (6, 0.05)), ratio(6, (6, 0.0))
    assert list(costs._ratio_costs(one, two, ("x", "y"), "s")) == [
        "A = 4 is beyond the curve of y", "keeping A = 6 in x gives up 5.00 %"
    ]  # fmt: skip
    assert list(costs._ratio_costs(one, one, ("x", "y"), "s")) == []


@pytest.mark.parametrize(
    ("low", "high", "apart"), [(11.1, 13, True), (11, 13, False), (7, 8.9, True), (7, 9, False)]
)
def test_what_intervals_of_simulations_explain(low, high, apart):
    first = {"objective": {"value": 10.0, "low": 9.0, "high": 11.0}, "throughput_per_instance": {}}
    value = (low + high) / 2
    second = {
        "objective": {"value": value, "low": low, "high": high},
        "throughput_per_instance": {},
    }
    (said,) = costs._simulation_costs(first, second, ("x", "y"), "s")
    assert ("more than both" in said) == apart
    assert said.startswith("the difference of " + ("+" if value > 10 else "-"))


def test_what_documents_hold():
    assert costs.kind_of({"recommended": {}}, "x") == "plan"
    assert costs.kind_of({"optimal_ratio": 1}, "x") == "ratio"
    assert costs.kind_of({"curve": [{"throughput_per_instance": 1}]}, "x") == "simulation"
    for other in ({}, {"curve": []}, []):
        with pytest.raises(InvalidInputError, match="x must be what"):
            costs.kind_of(other, "x")
    with pytest.raises(InvalidInputError, match="x holds no plan: too few"):
        costs.kind_of({"infeasible": "too few"}, "x")
    curve = [{"throughput_per_instance": 1, "objective": {"value": v}} for v in (1, 3, 2)]
    assert costs._best({"curve": curve})["objective"]["value"] == 3
    assert costs._measure({"cost_unit": "device"}, {"cost_unit": "device"}) == "tokens per device"
    assert costs._measure({"cost_unit": "a"}, {"cost_unit": "b"}) == "tokens per unit of cost"
    assert costs._measure({}, {}) == "tokens per unit of cost"
