"""Rules of checkpoints, rows of operators, points of sweeps: small cases worked by hand."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from afdplan.calibration import best_ratio as ratio_module
from afdplan.calibration import operator as operators
from afdplan.calibration import posterior
from afdplan.calibration.best_ratio import best_ratio
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.calibration.checkpoint_modules import Modules
from afdplan.calibration.checkpoint_rules import PLAIN, Resolver, Rule, Stored
from afdplan.calibration.gather import join_sweeps, step_sweep, suspect_units
from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.calibration.operator import Operator, device_distance, find_operator, operator_rows
from afdplan.calibration.sweep_round import SweepRound
from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.measurement import Measurements, StageSamples
from afdplan.model.sweep import RatioSweep
from tests.unit.calibration.invented import DEVICE

FP8, INT8 = Stored("fp8", 8.0), Stored("int8", 8.0)


def test_the_first_rule_that_names_a_module_decides():
    rules = (
        Rule("re:.*b$", FP8), Rule("model.layers.1.a", INT8), Rule("layers.*.a", PLAIN),
        Rule("a.b", PLAIN), Rule("c", INT8),
    )  # fmt: skip
    asked = Resolver(rules)
    found = {
        name: asked.of(name)
        for name in ("layers.1.a.b", "layers.1.a.c", "layers.2.a.x", "layers.2.c.d", "x.y", "c")
    }
    assert found == {
        "layers.1.a.b": FP8, "layers.1.a.c": INT8, "layers.2.a.x": PLAIN, "layers.2.c.d": INT8,
        "x.y": None, "c": INT8,
    }  # fmt: skip
    assert not asked.is_empty
    assert asked.layers == {"1"}
    assert Resolver(()).is_empty
    assert Resolver((Rule("re:x", FP8),)).is_empty is False
    assert Resolver((Rule("re:.*layers\\.(0|1)\\.a", FP8),)).layers is None
    assert Resolver((Rule("layers.3.a*", FP8),)).layers == {"3"}
    assert Resolver((Rule("layers.?.a", FP8),)).layers is None
    whole = Resolver((Rule("model", INT8), Rule("c", FP8)))
    assert whole.of("layers.7.c") == INT8
    later = Resolver((Rule("c", FP8), Rule("model", INT8)))
    assert (later.of("layers.7.c"), later.of("layers.7.d")) == (FP8, INT8)


@pytest.mark.parametrize(
    "text", ["a*b*c*d*e*", "(a|b)?(c|d)(e|f)", "a?b?c?d?e*f*g*h*", "x{1,2}y+", r"[*+?]{2}\*"]
)
def test_expressions_of_five_repetitions_are_read(text):
    assert Resolver((Rule(f"re:{text}", FP8),))


@pytest.mark.parametrize(
    "text",
    [
        r"(a)\1b*c*d*e*f*g*", r"(?<!x)(a*)*", r"(?<=x)(a|b)+", r"a?b?c?d?e*f*g*h*i*(?!a)",
        r"(?>a?)+", r"(((a)*)*)\1", "(x{999}){999}(y*)*",
    ],
)  # fmt: skip
def test_expressions_that_may_take_for_ever_are_refused(text):
    with pytest.raises(InvalidInputError, match="repetitions of repetitions or more than 5"):
        Resolver((Rule(f"re:{text}", FP8),))


def mixed(part, share):
    """Return what is said of a part of which a share of the parameters is in 8 bits."""
    naming = ((("a", share), ("b", 1 - share)),)
    rules = {"modules_to_not_convert": ["b"], "quant_method": "fp8"}
    others = [Modules(0, one, 10.0, ((("z", 1.0),),)) for one in ("experts", "dense", "attention")
              if one != part]  # fmt: skip
    return checkpoint_format({}, rules, modules=[*others, Modules(0, part, 10.0, naming)])


def test_the_commonest_format_must_have_enough_of_a_part():
    for part, least in (("dense", 0.5), ("attention", 0.5)):
        assert mixed(part, least).precision is not None
        assert mixed(part, least - 0.01).weights == "fp8"  # of 16 bits there is more
    assert mixed("experts", 0.75).weights == "fp8"
    few = mixed("experts", 0.74)
    assert few.weights is None
    assert "experts in bf16 and fp8 (10.1 bits per weight in the mean, a part of" in few.told
    assert mixed("experts", 0.75).precision.feed_forward_weights == "fp8:10"
    assert mixed("attention", 0.75).precision.attention_weights == "fp8:10"
    assert mixed("dense", 0.75).precision.dense_weights == "fp8:10"
    third = {"quant_method": "mlx", "bits": 4, "b": {"bits": 8}, "c": {"bits": 6}}
    naming = ((("a", 4.0), ("b", 3.0), ("c", 3.0)),)
    told = checkpoint_format({}, third, modules=[Modules(0, "dense", 10.0, naming)])
    assert told.weights is None
    assert "dense networks in int4 and int6 and int8 (6.3 bits" in told.told


def test_rows_of_operators_are_in_seconds():
    text = (resources.files("afdplan.data") / "operators.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["chosen"] == "yes"]
    found = operator_rows()
    assert len(found) == len(rows)
    for row in rows:
        one, borrowed = found[row["device"], row["family"], row["format"]]
        assert (one.memory_share, one.matrix_share, one.sharpness, one.error, borrowed) == tuple(
            float(row[name])
            for name in ("memory_share", "matrix_share", "sharpness", "error", "borrowed_error")
        )
        assert one.fixed_time * 1e6 == pytest.approx(float(row["fixed_us"]))
        assert one.depth_time * 1e9 == pytest.approx(float(row["depth_ns"]))
        assert one.origin.startswith(f"{row['device']}, {row['backend']} {row['version']} ")


FAST = replace(DEVICE, name="Fast", memory_bandwidth=4e12, matrix_rates={"bf16": 1e15})
SLOW = replace(DEVICE, name="Slow", memory_bandwidth=5e11, matrix_rates={"bf16": 5e13})


@pytest.fixture
def table(monkeypatch):
    """Two measured devices and three of their rows."""

    def row(memory, matrix, error):
        return Operator(
            memory_share=memory, matrix_share=matrix, fixed_time=1e-6, sharpness=2.0, error=error
        )

    rows = {
        ("Fast", "attention", "bf16"): (row(0.9, 0.25, 0.03), 0.04),
        ("Slow", "attention", "bf16"): (row(0.8, 0.5, 0.06), 0.08),
        ("Fast", "attention", "fp8"): (row(0.7, 1.5, 0.03), 0.04),
    }
    monkeypatch.setattr(operators, "operator_rows", lambda: rows)
    monkeypatch.setattr(operators, "_devices_with", lambda family, name: tuple(
        device for device, *kind in rows if kind == [family, name]
    ))  # fmt: skip
    monkeypatch.setattr(operators, "_measured", {"Fast": FAST, "Slow": SLOW}.__getitem__)
    return {key: one for key, (one, _) in rows.items()}


def test_an_operator_is_borrowed_from_the_nearest_device(table):
    assert device_distance(FAST, SLOW) == pytest.approx(math.hypot(math.log(8), math.log(20)))
    assert find_operator(FAST, "attention", "bf16") == table["Fast", "attention", "bf16"]
    # int8 was not measured and is taken as fp8, other formats as bf16, with what borrowing costs.
    stand_in = find_operator(FAST, "attention", "int8")
    assert (stand_in.memory_share, stand_in.error) == (0.7, pytest.approx(0.05))
    assert find_operator(FAST, "attention", "fp8").error == 0.03
    assert find_operator(FAST, "attention", "mxfp4").error == pytest.approx(0.05)
    own = find_operator(DEVICE, "attention", "bf16")  # 1 TB/s and 100 T/s: twice Slow's
    assert own.error == pytest.approx(0.1)
    # Its units are not slower: beside them Slow spends as long again as on them.
    assert own.matrix_share == pytest.approx(math.sqrt(0.5 / 2))
    assert own.memory_share == 0.8
    named = find_operator(replace(DEVICE, like="Fast"), "attention", "bf16")
    assert named.error == pytest.approx(0.05)
    # A tenth of its rate: three parts beside one on the units, a tenth of them here.
    assert named.matrix_share == pytest.approx(math.sqrt(0.25 / 1.3))
    above = find_operator(replace(DEVICE, like="Fast"), "attention", "fp8")
    assert above.matrix_share == pytest.approx(math.sqrt(1.5))


def test_half_of_the_particles_stay_effective():
    density = np.linspace(-100.0, 0.0, 1000)
    step = posterior._next_step(density, 1.0)
    weight = np.exp(step * density)
    assert weight.sum() ** 2 / (weight**2).sum() == pytest.approx(500, rel=1e-6)
    assert posterior._next_step(density, step / 2) == step / 2
    assert posterior._next_step(np.zeros(10), 0.7) == 0.7
    assert posterior._next_step(np.array([0.0, -1e300, -1e300, -1e300]), 1.0) == 1e-12


def measurements(unit="s", **stages):
    return Measurements(
        time_unit=unit, source="x",
        stages=tuple(
            StageSamples(
                stage=name, loads=np.arange(1.0, 4.0), times=np.full(3, float(time)),
                requests=np.ones(3),
            )
            for name, time in stages.items()
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "stages", "words"),
    [
        (1, {"ffn": 3.0}, ""), (1, {"ffn": 3.1}, "ffn is 3.1 s, suspiciously long"),
        (2, {"ffn": 0.1}, ""), (2, {"ffn": 0.11}, "suspiciously long"),
        (1, {"step": 30.0}, ""), (1, {"step": 30.1}, "suspiciously long"),
        (1, {"step": 1e-4}, ""), (1, {"step": 9.9e-5}, "9.9e+04 ns, suspiciously short"),
        (1, {"ffn": 3e-7}, ""), (1, {"ffn": 2.9e-7}, "290 ns, suspiciously short"),
        (1, {"ffn": 1e-3, "attention": 1.0}, ""),
        (1, {"ffn": 1e-3, "attention": 1.1}, "attention takes 1100 times as long as ffn"),
        (1, {"ffn": 1e-3, "step": 20.0}, ""),
    ],
)  # fmt: skip
def test_units_that_are_suspected(layers, stages, words):
    said = " ".join(suspect_units(measurements(**stages), layers))
    assert (words in said) if words else not said


def test_steps_of_a_bundle_become_points_of_a_sweep():
    """Ten steps with 8 requests in two bins by tokens, three with 4 in one; medians of each."""
    requests = np.array([8.0] * 10 + [4.0] * 3)
    loads = np.array([*range(100, 110), 40, 41, 42], dtype=float)
    times = np.array([*range(1, 11), 20, 21, 22], dtype=float)
    steps = StageSamples(stage="step", loads=loads, times=times, requests=requests)
    log = Measurements(time_unit="s", source="log", stages=(steps,))
    sweep = step_sweep(log, attention_workers=2.0, ffn_workers=3.0, microbatches=2)
    assert sweep.batch_size.tolist() == [2.0, 2.0, 1.0]
    assert sweep.mean_tokens.tolist() == [102 / 8, 107 / 8, 41 / 4]
    assert sweep.step_times.tolist() == [3.0, 8.0, 21.0]
    assert set(sweep.attention_workers) == {2.0}
    assert set(sweep.ffn_workers) == {3.0}
    assert set(sweep.microbatches) == {2.0}
    unknown = replace(steps, loads=np.zeros(13))
    blind = Measurements(time_unit="s", source="log", stages=(unknown,))
    told = step_sweep(blind, attention_workers=1.0, context=50.0)
    assert set(told.mean_tokens) == {50.0}
    with pytest.raises(InsufficientDataError, match="records no KV tokens"):
        step_sweep(blind, attention_workers=1.0)
    with pytest.raises(InvalidInputError, match="ffn_workers"):
        step_sweep(log, attention_workers=1.0, ffn_workers=0.0)
    many = np.repeat(np.arange(1.0, 71.0), 2)
    often = StageSamples(stage="step", loads=many * 9, times=many, requests=many)
    wide = step_sweep(
        Measurements(time_unit="s", source="log", stages=(often,)), attention_workers=1.0
    )
    assert wide.count == 60
    both = join_sweeps([sweep, replace(told, source="other", notes=("n",))])
    assert both.count == sweep.count + told.count
    assert (both.source, both.notes) == ("log, other", ("n",))
    assert both.mean_tokens.tolist() == [*sweep.mean_tokens, *told.mean_tokens]


class Fit:
    """A fit of attention 4 s and FFN 1 s + 0.02 s per token in one layer, two microbatches."""

    def __init__(self, sweep):
        self.sweep = sweep
        self.form = SweepRound(
            layers=1, step_overhead=0.0, maximum="hard", tokens=4000.0, requests=40.0, length=100.0
        )
        self.draws = np.array([[4.0, 0, 1, 0.02, 0, 0, 0, 0], [5.0, 0, 1, 0.02, 0, 0, 0, 0]])

    def predict(self, points):
        return [
            Estimate(value=v, low=v, high=v, confidence=0.95, method="x")
            for v in self.form.times(self.draws[:1], points)[0]
        ]


def sweep_of(workers, **more):
    asked = {
        "ffn_workers": 1.0, "batch_size": 40.0, "microbatches": 2.0, "mean_tokens": 100.0,
        "step_times": np.ones(len(workers)),
    }  # fmt: skip
    return RatioSweep(attention_workers=np.array(workers, dtype=float), **asked | more)


def test_the_best_ratio_by_hand():
    """A tokens a step on A + 6 devices: up to 3 workers the attention's 8 s bind, then the FFN."""
    found = best_ratio(Fit(sweep_of([2, 5])), 6.0)
    every = np.arange(1, 11)
    step = 2 * np.maximum(4.0, 1 + 0.8 * every)
    worth = every / (every + 6) / step
    best = worth.argmax()
    assert found.attention_workers.value == every[best] == 4
    near = every[worth >= 0.99 * worth[best]]
    assert (found.lowest_near, found.highest_near) == (near[0], near[-1])
    # Slower attention lets the FFN serve one worker more.
    assert (found.attention_workers.low, found.attention_workers.high) == (4.0, 5.0)
    assert found.step_time.value == step[best]
    assert found.measured == 5.0
    assert found.measured_loss == pytest.approx(1 - worth[4] / worth[3])
    assert (found.ffn_workers, found.ffn_weight, found.batch_size, found.mean_tokens) == (
        1.0, 6.0, 40.0, 100.0
    )  # fmt: skip
    assert not found.is_last
    far = best_ratio(Fit(sweep_of([1, 2])), 1000.0)
    assert far.attention_workers.value == 2 * ratio_module.REACH / 1
    assert far.is_last
    assert best_ratio(Fit(sweep_of([2, 4], ffn_workers=np.array([1.0, 2.0]))), 1.0) is None
    loads = sweep_of([2, 5, 5], batch_size=np.array([40.0, 20.0, 30.0]))
    only = best_ratio(Fit(loads), 6.0)
    assert (only.batch_size, only.measured) == (40.0, 2.0)


def test_devices_of_a_measured_model():
    model = LatencyModel.linear(attention=(1e-9, 1e-4), ffn=(1e-7, 1e-4), time_unit="s")
    none = LatencyChoice(latency="x")
    assert none.with_devices(model) is model
    one = LatencyChoice(latency="x", attention_devices=2).with_devices(model)
    assert (one.attention_devices, one.ffn_devices) == (2, 1)
    other = LatencyChoice(latency="x", ffn_devices=4).with_devices(model)
    assert (other.attention_devices, other.ffn_devices) == (1, 4)
    known = replace(model, attention_devices=2, ffn_devices=8)
    same = LatencyChoice(latency="x", attention_devices=2).with_devices(known)
    assert (same.attention_devices, same.ffn_devices) == (2, 8)
    with pytest.raises(InvalidInputError, match="ffn_devices must be 8 as in the latency model"):
        LatencyChoice(latency="x", ffn_devices=4).with_devices(known)
