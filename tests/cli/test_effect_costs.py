"""Do ratio, plan and check tell what each effect costs, the same everywhere and rightly?"""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.files.latency_file import save_latency
from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.planning.effect_costs import effect_costs
from afdplan.report.effects import EFFECT
from afdplan.report.quantities import change, share
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from tests.cli.invoke import invoke
from tests.plans import written_plan

LAW = ("--prompt", "geometric:1000", "--decode", "geometric:60")
REQUESTS = IndependentLengths(prompt="geometric:1000", decode="geometric:60")
PLAIN = LatencyModel.linear(
    attention=(3e-9, 6e-5), ffn=(5e-7, 5e-5), transfer=(0.0, 2e-5), layers=4, time_unit="s"
)
EVERY = replace(
    PLAIN,
    experts=ExpertLoad(imbalance=1.4, imbalance_cv=0.3, share=0.6),
    scatter=Scatter(attention=0.05, ffn=0.1),
    coupling=Coupling(
        send_ffn=1.0, receive_attention=0.5, launch=2e-5, fan_in="whole", dense_share=0.3
    ),
)
GONE = {
    "experts": replace(EVERY, experts=None),
    "scatter": replace(EVERY, scatter=Scatter()),
    "occupancy": replace(
        EVERY, coupling=Coupling(launch=2e-5, fan_in="whole", dense_share=0.3)
    ),
    "launch": replace(EVERY, coupling=replace(EVERY.coupling, launch=0.0)),
    "fan-in": replace(EVERY, coupling=Coupling(send_ffn=1.0, receive_attention=0.5, launch=2e-5)),
}  # fmt: skip


@pytest.fixture(scope="module")
def latency(tmp_path_factory):
    path = tmp_path_factory.mktemp("effects") / "every.toml"
    save_latency(EVERY, path)
    return path


def problem(latency, ffn_workers=2):
    return RatioProblem(law=REQUESTS, latency=latency, batch_size=32, ffn_workers=ffn_workers)


def test_each_effect_is_the_ratio_with_it_beside_the_ratio_without():
    with_all = recommend(replace(problem(EVERY), max_attention_workers=64))
    here = with_all.optimal_attention_workers
    found = effect_costs(replace(problem(EVERY), max_attention_workers=64), here)
    assert [one.effect for one in found] == list(GONE)
    for one in found:
        without = recommend(replace(problem(GONE[one.effect]), max_attention_workers=64))
        there = next(p for p in without.curve if p.attention_workers == here)
        assert one.attention_workers_without == without.optimal_attention_workers
        assert 1 - one.cost == pytest.approx(with_all.best.objective / there.objective)
        assert 1 + one.gain == pytest.approx(without.best.objective / with_all.best.objective)
        assert one.gain >= one.cost / (1 - one.cost) - 1e-12
    longer = {one.effect: (one.attention_longer, one.ffn_longer) for one in found}
    tokens = 32 * here / 2
    even = 5e-7 * tokens
    rest = (5e-5 + even) + 0.3 * 5e-7 * (32 * np.ceil(here / 2) - tokens) + 2e-5
    assert longer["experts"] == (0, pytest.approx(0.6 * 0.4 * even / (rest + 2e-5)))
    busy = 3e-9 * 32 * REQUESTS.token_load().mean + 6e-5
    ffn = rest + 0.6 * 0.4 * even
    assert longer["occupancy"] == (pytest.approx(1e-5 / busy), pytest.approx(2e-5 / ffn))


def test_a_plain_bundle_has_no_effects():
    assert effect_costs(problem(PLAIN), 4) == ()
    document = invoke("ratio", *LAW, "--latency", "deepseek-v3-ascend-910c", "--batch-size", 64,
                      "--json").document  # fmt: skip
    assert document["effects"] == []


def test_what_serves_no_longer_and_what_may_not_be_bounds_the_best_without():
    free = effect_costs(problem(EVERY), 4)[2]
    assert free.attention_workers_without == 8
    thirds = effect_costs(problem(EVERY), 4, allowed=lambda counts: counts % 3 == 0)[2]
    assert thirds.attention_workers_without in (6, 9)
    assert (
        effect_costs(replace(problem(EVERY), max_attention_workers=5), 4)[
            2
        ].attention_workers_without
        == 5
    )
    step = recommend(replace(problem(EVERY), max_attention_workers=64)).curve[3].step_time
    bound = effect_costs(problem(EVERY), 4, longest_step=step)[2]
    gone = recommend(replace(problem(GONE["occupancy"]), max_attention_workers=64)).curve
    most = max(p.attention_workers for p in gone if p.step_time <= step)
    assert bound.attention_workers_without == most < free.attention_workers_without


def test_effects_inside_derived_curves_are_found():
    chosen = LatencyChoice(
        model="qwen3-30b-a3b", hardware="h100", serving_system="vllm-afd-plugin", ffn_devices=1
    )
    placement = chosen.placement(batch_size=64, ffn_workers=4)
    latency = chosen.resolve(batch_size=64, ffn_workers=4)
    asked = replace(problem(latency, 4), batch_size=64)
    found = {one.effect: one for one in effect_costs(asked, 12, derived=placement)}
    assert set(found) == {"experts", "occupancy"}
    assert found["experts"].ranks == 4
    beside = LatencyChoice(
        model="qwen3-30b-a3b", hardware="h100", serving_system="vllm-afd-plugin", ffn_devices=1,
        transfers="overlapped",
    ).resolve(batch_size=64, ffn_workers=4)  # fmt: skip
    assert 1 + found["occupancy"].ffn_longer == pytest.approx(
        float(latency.ffn(192.0) / beside.ffn(192.0))
    )
    assert found["occupancy"].attention_workers_without > 12


def test_text_page_and_json_say_the_same(latency, tmp_path):
    page = tmp_path / "page.html"
    ratio = ("ratio", *LAW, "--latency", latency, "--batch-size", 32, "--ffn-workers", 2)
    document = invoke(*ratio, "--json").document
    short, full = (
        " ".join(invoke(*ratio, *more).out.split()) for more in ((), ("--full", "--report", page))
    )
    html = " ".join(unescape(page.read_text(encoding="utf-8")).replace("\u00a0", " ").split())
    assert "What does each effect cost?" in html
    experts = document["effects"][0]
    here, other = experts["attention_workers"], experts["attention_workers_without"]
    assert here == document["optimal_attention_workers"]
    assert other > here
    longer = share(experts["ffn_longer"])
    assert f"the slowest rank works {longer} longer: {other} -> {here} attention workers" in full
    for one in document["effects"]:
        cost = f"costs {share(one['cost'])}; without it throughput per cost {change(one['gain'])}"
        assert cost in full
        assert cost in html
    dear = sorted(document["effects"], key=lambda one: -one["cost"])
    said = ", ".join(f"{EFFECT[one['effect']].lower()} {share(one['cost'])}" for one in dear[:3])
    assert f"Effects cost {said}" in short


def test_plan_and_check_tell_the_same_effects(tmp_path):
    path = written_plan(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    effects = {one["effect"]: one for one in document["effects"]}
    assert "experts" in effects
    split = document["split"]["attention_workers"]
    assert {one["attention_workers"] for one in effects.values()} == {split}
    law = tmp_path / "same.csv"
    rng = np.random.default_rng(1)
    rows = zip(rng.geometric(1 / 1000, 4000), rng.geometric(1 / 300, 4000), strict=True)
    law.write_text("prompt_tokens,decode_tokens\n" + "".join(f"{p},{d}\n" for p, d in rows))
    checked = invoke("check", path, "--trace", law, "--json").document["effects"]
    assert [one["effect"] for one in checked] == list(effects)
    for one in checked:
        assert one["ffn_longer"] == pytest.approx(effects[one["effect"]]["ffn_longer"], rel=1e-9)
        assert one["cost"] == pytest.approx(effects[one["effect"]]["cost"], abs=0.01)
    text = " ".join(invoke("check", path, "--trace", law, "--full").out.split())
    assert "Uneven experts" in text
