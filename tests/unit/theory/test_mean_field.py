"""The closed-form optimum against a dense search, and the paper's rule as a special case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.theory.mean_field import MeanField, _crossing, _load_at

LOWEST, HIGHEST = 0.05, 200.0
GRID = np.geomspace(LOWEST, HIGHEST, 4000)


def random_curve(generator, scale):
    kind = generator.integers(3)
    slope = float(generator.uniform(0, 0.3) * (generator.random() > 0.15))
    if kind == 0:
        return LinearCurve(slope=slope, intercept=scale * generator.random())
    if kind == 1:
        return RooflineCurve(
            floor=scale * generator.random(),
            slope=slope,
            intercept=scale * generator.uniform(-0.5, 1),
        )
    loads = np.cumsum(generator.uniform(1, 2000, 4))
    return TabulatedCurve(loads=loads, times=scale * np.cumsum(generator.uniform(0, 1, 4)))


def random_field(seed):
    generator = np.random.default_rng(seed)
    kinds = tuple(
        AttentionLayers(
            curve=random_curve(generator, 200.0),
            layers=int(generator.integers(1, 4)),
            time_per_request=float(generator.uniform(0, 0.5)),
        )
        for _ in range(generator.integers(1, 3))
    )
    transfers = [
        Transfer(
            curve=random_curve(generator, 60.0),
            load=str(generator.choice(["worker", "aggregate"])),
        )
        for _ in range(2)
    ]
    latency = LatencyModel(
        name="random",
        time_unit="abstract",
        attention=kinds,
        ffn=random_curve(generator, 150.0),
        send=transfers[0],
        receive=transfers[1],
        step_overhead=float(generator.choice([0.0, 80.0])),
        drain=bool(generator.random() < 0.3) and sum(k.layers for k in kinds) > 1,
    )
    return MeanField(
        latency=latency,
        mean_token_loads=tuple(generator.uniform(10, 1000, len(kinds)).tolist()),
        batch_size=int(generator.integers(1, 300)),
        microbatches=int(generator.integers(1, 5)),
        overlap=str(generator.choice(["ideal", "pipelined"])),
    ), float(generator.uniform(0.2, 6))


@pytest.mark.parametrize("block", range(10))
def test_optimum_equals_a_dense_search_over_random_models(block):
    for seed in range(block * 40, block * 40 + 40):
        field, weight = random_field(seed)
        best = field.optimal_ratio(ffn_weight=weight, lowest=LOWEST, highest=HIGHEST)
        assert LOWEST <= best <= HIGHEST
        found = field.objective(best, weight)
        # A coarse pass over the whole range, then a fine one around its best.
        coarse = [field.objective(r, weight) for r in GRID[::20]]
        center = GRID[::20][int(np.argmax(coarse))]
        around = np.linspace(max(center / 1.05, LOWEST), min(center * 1.05, HIGHEST), 60)
        dense = max(*coarse, *(field.objective(float(r), weight) for r in around))
        assert found >= dense * (1 - 1e-12), seed
        assert found <= dense * (1 + 1e-3), seed


def paper_field(**changes):
    values = {
        "attention": (0.00165, 50.0),
        "ffn": (0.083, 100.0),
        "transfer": (0.022, 20.0),
        "batch": 256,
        "load": 599.0,
    } | changes
    latency = LatencyModel.linear(
        attention=values["attention"], ffn=values["ffn"], transfer=values["transfer"]
    )
    return MeanField(
        latency=latency,
        mean_token_loads=(values["load"],),
        batch_size=values["batch"],
        microbatches=1,
        overlap="ideal",
    )


@pytest.mark.parametrize("seed", range(300))
def test_paper_rule_is_the_special_case_of_lines_and_ideal_overlap(seed):
    generator = np.random.default_rng(seed)
    field = paper_field(
        attention=(generator.uniform(0, 0.01), generator.uniform(0, 200)),
        ffn=(generator.uniform(0.01, 0.3), generator.uniform(0, 300)),
        transfer=(generator.uniform(0, 1), generator.uniform(0, 300)),
        batch=int(generator.integers(1, 600)),
        load=generator.uniform(1, 5000),
    )
    weight = float(generator.uniform(0.3, 4))
    rule = max(
        field.attention_bound_ratio(),
        field.communication_bound_ratio(),
        field.interior_ratio(weight),
    )
    best = field.optimal_ratio(ffn_weight=weight, lowest=1e-3, highest=1e4)
    assert best == pytest.approx(min(max(rule, 1e-3), 1e4), rel=1e-9)


def test_paper_rule_loses_half_where_transfers_grow_with_the_ratio():
    latency = LatencyModel(
        name="aggregate",
        time_unit="abstract",
        attention=(AttentionLayers(curve=LinearCurve(slope=0.0, intercept=300.0)),),
        ffn=LinearCurve(slope=0.01, intercept=1.0),
        send=Transfer(curve=LinearCurve(slope=0.2, intercept=0.0), load="aggregate"),
        receive=Transfer(curve=LinearCurve(slope=0.2, intercept=0.0), load="aggregate"),
    )
    field = MeanField(
        latency=latency, mean_token_loads=(1.0,), batch_size=100, microbatches=1, overlap="ideal"
    )
    best = field.optimal_ratio(ffn_weight=1.0, lowest=0.1, highest=1000.0)
    rule = field.attention_bound_ratio()  # the FFN alone would allow 299
    assert best == pytest.approx(15.0)  # 0.2 * 100 r = 300
    assert field.objective(rule, 1.0) < 0.5 * field.objective(best, 1.0)


def test_ratios_that_do_not_exist_are_none():
    flat = paper_field(ffn=(0.0, 100.0))
    assert flat.attention_bound_ratio() is None
    assert flat.interior_ratio(1.0) is None
    table = MeanField(
        latency=LatencyModel(
            name="floor",
            time_unit="abstract",
            attention=(AttentionLayers(curve=LinearCurve(slope=0.0, intercept=20.0)),),
            ffn=RooflineCurve(floor=10.0, slope=0.1, intercept=0.0),
            send=Transfer(curve=LinearCurve(slope=0.0, intercept=5.0)),
            receive=Transfer(curve=LinearCurve(slope=0.0, intercept=15.0)),
        ),
        mean_token_loads=(1.0,),
        batch_size=10,
        microbatches=1,
        overlap="ideal",
    )
    assert table.attention_bound_ratio() == pytest.approx(20.0)  # 0.1 * 10 r = 20
    assert table.communication_bound_ratio() == pytest.approx(15.0)


def test_pipelined_round_trip_can_bind():
    field = MeanField(
        latency=LatencyModel.linear(
            attention=(0.0, 100.0), ffn=(0.0, 100.0), transfer=(0.0, 100.0), layers=3
        ),
        mean_token_loads=(1.0,),
        batch_size=1,
        microbatches=2,
        overlap="pipelined",
    )
    assert field.step_time(1.0) == pytest.approx(3 * 400)


@pytest.mark.parametrize("seed", range(40))
def test_the_last_load_at_which_two_curves_meet(seed):
    """Beyond it the upper one stays above; where it never does, the lower is no lower for ever."""
    generator = np.random.default_rng(1000 + seed)
    upper, lower = (random_curve(generator, 100.0) for _ in range(2))
    loads = np.geomspace(1e-3, 1e7, 3000)
    above = np.array([float(upper(x)) - float(lower(x)) for x in loads])
    found = _crossing(upper, lower)
    if found is None:
        assert above[-1] <= 1e-6 * float(lower(loads[-1]))
        return
    beyond = loads > max(found, 0.0) * (1 + 1e-6)
    assert (above[beyond] > 0).all()
    if found > 0:
        assert float(upper(found)) == pytest.approx(float(lower(found)))
    time = float(generator.uniform(1, 300))
    load = _load_at(upper, time)
    later = np.array([float(upper(x)) > time for x in loads])
    if load is None:
        assert not later.any()
    else:
        assert later[loads > max(load, 0.0) * (1 + 1e-6)].all()
        if load > 0:
            assert float(upper(load)) == pytest.approx(time)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("highest", [1.7, 6.0, 40.3])
def test_where_times_jump_behind_whole_ratios_the_best_is_found_beside_one(seed, highest):
    generator = np.random.default_rng(seed)
    latency = LatencyModel.linear(
        attention=(generator.uniform(1e-4, 2e-3), generator.uniform(10, 60)),
        ffn=(generator.uniform(0.01, 0.3), generator.uniform(10, 100)),
        transfer=(generator.uniform(0.0, 0.1), generator.uniform(1, 30)),
        layers=3,
    )
    coupling = Coupling(send_ffn=0.5, one_by_one=True, fan_in="whole", dense_share=0.4)
    field = MeanField(
        latency=replace(latency, coupling=coupling),
        mean_token_loads=(500.0,),
        batch_size=64,
        microbatches=2,
        overlap="pipelined",
    )
    found = field.optimal_ratio(ffn_weight=1.0, lowest=0.3, highest=highest)
    assert 0.3 <= found <= highest
    grid = np.append(np.linspace(0.3, highest, 2000), np.arange(1, int(highest) + 1))
    best = max(field.objective(float(ratio), 1.0) for ratio in grid)
    assert field.objective(found, 1.0) >= best * (1 - 2e-3)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("overlap", ["ideal", "pipelined"])
@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("drain", [False, True])
def test_a_step_by_its_stages(coupled, overlap, m, drain):
    """Attention 40, FFN 10 + 8 r, links 4 and 2 + 3 r, each of them the slowest in turn."""
    layers = 5
    latency = LatencyModel(
        name="x",
        time_unit="abstract",
        attention=(AttentionLayers(curve=LinearCurve(slope=2.0, intercept=20.0), layers=layers),),
        ffn=LinearCurve(slope=2.0, intercept=10.0),
        send=Transfer(curve=LinearCurve(slope=0.5, intercept=2.0)),
        receive=Transfer(curve=LinearCurve(slope=0.75, intercept=2.0), load="aggregate"),
        step_overhead=7.0,
        tokens_per_step=2.0,
        drain=drain,
        coupling=Coupling(launch=1.0) if coupled else Coupling(),
    )
    field = MeanField(
        latency=latency, mean_token_loads=(2.5,), batch_size=4,
        microbatches=1 if overlap == "ideal" else m, overlap=overlap,
    )  # fmt: skip
    assert field.attention_times == (40.0,)
    for r in (0.5, 3.0, 12.0):
        a, f, out, back = 40.0, 10 + 8 * r + coupled, 4.0, 2 + 3 * r
        if overlap == "ideal":
            step = layers * max(a, f, out, back)
        else:
            trip = a + f + out + back
            period = max(m * a, m * f, m * out, m * back, trip)
            step = layers * period
            if drain:
                last = max(trip + (m - 1) * x for x in (a, f, out, back))
                step += last - period
        assert field.step_time(r) == pytest.approx(step + 7, rel=1e-12)
        tokens = field.microbatches * 4 * 2.0
        assert field.objective(r, 0.5) == pytest.approx(tokens * r / (r + 0.5) / (step + 7))


def test_several_kinds_and_a_last_layer_of_its_own():
    """Two layers of 10 and three of 30, of which the last drains: FFN 12, links 1 and 2."""
    kinds = tuple(
        AttentionLayers(curve=LinearCurve(slope=0.0, intercept=a), layers=n)
        for a, n in ((10.0, 2), (30.0, 3))
    )
    plain = LatencyModel.linear(attention=(0.0, 1.0), ffn=(0.0, 12.0), layers=5)
    latency = replace(
        plain, attention=kinds, drain=True,
        send=Transfer(curve=LinearCurve(slope=0.0, intercept=1.0)),
        receive=Transfer(curve=LinearCurve(slope=0.0, intercept=2.0)),
    )  # fmt: skip
    field = MeanField(
        latency=latency, mean_token_loads=(1.0, 1.0), batch_size=1, microbatches=2,
        overlap="pipelined",
    )  # fmt: skip
    assert field.step_time(1.0) == pytest.approx(2 * 25 + 2 * 60 + 2 * 30 + 15)


@pytest.mark.parametrize("launch", [0.0, 3.0])
def test_where_a_launched_ffn_catches_up(launch):
    """5 + launch + 2 r against attention of 40, and links of 9 and 1 + r; of batches of 4."""
    latency = LatencyModel(
        name="x",
        time_unit="abstract",
        attention=(
            AttentionLayers(curve=LinearCurve(slope=0.0, intercept=34.0), layers=1),
            AttentionLayers(curve=LinearCurve(slope=0.0, intercept=42.0), layers=3),
        ),
        ffn=LinearCurve(slope=0.5, intercept=5.0),
        send=Transfer(curve=LinearCurve(slope=0.0, intercept=9.0)),
        receive=Transfer(curve=LinearCurve(slope=0.25, intercept=1.0), load="aggregate"),
        coupling=Coupling(launch=launch),
    )
    field = MeanField(
        latency=latency, mean_token_loads=(1.0, 1.0), batch_size=4, microbatches=1, overlap="ideal"
    )
    assert field.attention_bound_ratio() == pytest.approx((40 - 5 - launch) / 2, abs=2e-3)
    assert field.communication_bound_ratio() == pytest.approx((9 - 5 - launch) / 2, abs=2e-3)
    assert field.interior_ratio(1.0) == pytest.approx(np.sqrt((5 + launch) / 2))
    assert field.interior_ratio(9.0) == pytest.approx(3 * np.sqrt((5 + launch) / 2))
    if launch:
        flat = replace(latency, ffn=LinearCurve(slope=0.0, intercept=5.0))
        assert replace(field, latency=flat).attention_bound_ratio() is None
        assert replace(field, latency=flat).communication_bound_ratio() is None
        slow = replace(latency, ffn=LinearCurve(slope=0.5, intercept=80.0))
        assert replace(field, latency=slow).attention_bound_ratio() == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("load", ["aggregate", "worker"])
def test_a_link_that_bends_is_best_where_it_bends(load):
    """Flat up to 40 tokens and steep beyond, of all workers or of each: 8 of 5 tokens, or any."""
    bent = RooflineCurve(floor=100.0, slope=10.0, intercept=-300.0)
    latency = LatencyModel(
        name="x",
        time_unit="abstract",
        attention=(AttentionLayers(curve=LinearCurve(slope=0.0, intercept=20.0)),),
        ffn=LinearCurve(slope=0.01, intercept=1.0),
        send=Transfer(curve=bent, load=load),
        receive=Transfer(curve=LinearCurve(slope=0.0, intercept=2.0)),
    )
    field = MeanField(
        latency=latency, mean_token_loads=(1.0,), batch_size=5, microbatches=1, overlap="ideal"
    )
    best = field.optimal_ratio(ffn_weight=1.0, lowest=0.1, highest=500.0)
    assert best == pytest.approx(8.0 if load == "aggregate" else 500.0)
