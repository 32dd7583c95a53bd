"""From three ratios of a published sweep the others follow (FastAFD blog, Fig. 10 and 12).

Qwen3-235B-A22B FP8 on GB200, 94 layers, constant aligned lengths of 8192 tokens, 96 requests per
attention GPU in two microbatches, A nodes of 4 GPUs to one F node of 4 GPUs.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.sweep import fit_sweep
from afdplan.calibration.sweep_model import sweep_latency_model
from afdplan.model.sweep import RatioSweep
from benchmarks.ratio_sweeps import stored_times
from tests.shared import shared


def load():
    document = json.loads(shared("measurements/published.json").read_text())
    experiment = next(e for e in document["experiments"] if e["id"] == "fastafd-qwen3-235b-8k")
    points = experiment["points"]
    return experiment, {p["A"]: p["step_ms"] * 1e-3 for p in points}


def sweep(times):
    return RatioSweep(
        attention_workers=np.array(list(times)),
        ffn_workers=1,
        batch_size=48,
        microbatches=2,
        mean_tokens=8192,
        step_times=np.array(list(times.values())),
    )


@pytest.mark.parametrize("maximum", ["hard", "soft"])
def test_ratios_3_11_17_predict_7_and_15_within_3_percent(maximum):
    experiment, times = load()
    fit = fit_sweep(
        sweep({a: times[a] for a in (3, 11, 17)}), layers=experiment["layers"], maximum=maximum
    )
    for point, measured in zip(fit.predict(sweep(times)), times.values(), strict=True):
        assert point.value == pytest.approx(measured, rel=0.03)
        assert point.low <= measured * 1.01
        assert point.high >= measured * 0.99


def test_recommended_ratio_among_measured_within_1_percent_of_the_best():
    experiment, times = load()
    fit = fit_sweep(sweep({a: times[a] for a in (3, 11, 17)}), layers=experiment["layers"])
    ratios = np.array(list(times))
    predicted = np.array([point.value for point in fit.predict(sweep(times))])
    chosen = ratios[np.argmax(ratios / (ratios + 1) / predicted)]
    throughput = {a: a / (a + 1) / times[a] for a in times}
    assert throughput[chosen] >= 0.99 * max(throughput.values())


def test_the_written_model_predicts_the_same_by_the_round_formula():
    experiment, times = load()
    layers = experiment["layers"]
    fit = fit_sweep(sweep({a: times[a] for a in (3, 11, 17)}), layers=layers)
    model = sweep_latency_model(fit, name="fastafd")
    attention = model.attention[0].time(48 * 8192.0, 48)
    trip = 2 * model.send.time(48, 48)
    for a, measured in times.items():
        ffn = model.ffn(a * 48.0)
        step = layers * max(2 * attention, 2 * ffn, attention + ffn + trip)
        assert step == pytest.approx(measured, rel=0.015)
        if a in (3, 11, 17):
            assert step == pytest.approx(measured, rel=0.001)
    assert model.layers == layers
    assert "attention.slope" in model.uncertainty.coefficients


def test_from_3_7_and_11_the_posterior_tells_15_and_17():
    _, times = load()
    fit = fit_sweep(sweep({a: times[a] for a in (3, 7, 11)}), layers=94)
    model = sweep_latency_model(fit, name="fastafd")
    for a, point in zip(times, fit.predict(sweep(times)), strict=True):
        assert point.low <= times[a] <= point.high
        assert stored_times(model, sweep({a: times[a]}))[0] == pytest.approx(times[a], rel=0.04)


def test_minimax_16k_is_slower_than_8k_at_equal_kv_tokens_and_the_model_says_so():
    """MiniMax-M2.5 on GB200, 62 layers: published steps of 72 requests of 8K (FastAFD blog,
    Fig. 13: 3:1 and 7:1) and throughput of 17:1 with 72 requests of 8K (2,198 tokens/s per GPU)
    and 36 of 16K (1,006; README of FastAFD, as quoted in CODEX_PROJECT_REPRODUCE.md of
    github.com/linsj20/FastAFD).
    """
    step = [30.7e-3, 30.8e-3] + [17 / 18 * size / rate for size, rate in ((72, 2198), (36, 1006))]
    points = RatioSweep(
        attention_workers=[3, 7, 17, 17],
        ffn_workers=1,
        batch_size=[36, 36, 36, 18],
        microbatches=2,
        mean_tokens=[8192, 8192, 8192, 16384],
        step_times=step,
    )
    model = sweep_latency_model(fit_sweep(points, layers=62), name="minimax")
    assert stored_times(model, points) == pytest.approx(step, rel=0.005)
    without = replace(model.attention[0], time_per_context=0.0)
    missed = stored_times(replace(model, attention=(without,)), points) / step - 1
    assert missed[3] - missed[2] < -0.07
