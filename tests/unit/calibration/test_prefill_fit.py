"""Is a measured prefill worker found again, with and without a floor?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from afdplan.calibration.prefill_fit import fit_prefill
from afdplan.errors import AfdplanError
from afdplan.files.prefill_file import load_prefill
from afdplan.model.curve import LinearCurve, RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel
from tests.cli.invoke import invoke

TOKENS = np.array([64, 128, 256, 512, 1024, 2048, 4096, 8192, 12_000, 30_000] * 4)
CACHED = np.repeat([0, 1000, 5000, 20_000], 10)


@pytest.mark.parametrize(
    "compute",
    [
        LinearCurve(slope=2e-5, intercept=0.008),
        RooflineCurve(floor=0.03, slope=2e-5, intercept=0.03 - 2e-5 * 1024),
    ],
)
def test_a_worker_is_found_again_under_noise(compute):
    true = PrefillModel(name="x", compute=compute, pairs=(PairCost(time=4e-10),))
    noise = np.random.default_rng(1).lognormal(0, 0.02, TOKENS.size)
    fit = fit_prefill(TOKENS, true.times(TOKENS, CACHED) * noise, cached=CACHED)
    assert fit.model.compute.kind == compute.kind
    assert fit.model.pairs[0].time == pytest.approx(4e-10, rel=0.05)
    others = np.array([100, 700, 3000, 20_000])
    assert np.allclose(fit.model.times(others, 500), true.times(others, 500), rtol=0.05)
    assert fit.median_error < 0.03


def test_too_little_is_refused():
    for tokens, times in (
        ([1, 2, 3], [1, 1, 1]),
        ([1, 2, 3, 4], [1, 1, 1, 0.0]),
        ([0] * 5, [1] * 5),
    ):
        with pytest.raises(AfdplanError):
            fit_prefill(tokens, times)


def test_the_command_writes_what_plan_reads(tmp_path):
    table, out = tmp_path / "prefill.csv", tmp_path / "prefill.toml"
    rows = [
        f"{n},{(0.01 + 2e-5 * n + 1e-10 * n * (n + 1) / 2) * 1e3}" for n in (64, 512, 4096, 8000)
    ]
    table.write_text("tokens,latency\n" + "\n".join(rows) + "\n")
    told = invoke("calibrate", table, "--stage", "prefill", "--time-unit", "ms", "-o", out)
    assert told.code == 0, told
    assert "4 prompts" in told.out
    model = load_prefill(out)
    assert model.compute(1000.0) == pytest.approx(0.03, rel=1e-6)
    told = invoke("calibrate", table, "--stage", "prefill", "--time-unit", "ms", "--json")
    assert told.document["prefill_model"]["compute"]["kind"] == "linear"
    table.write_text("tokens,time\n1,2\n")
    assert "no column 'latency'" in invoke("calibrate", table, "--stage", "prefill").error_line
    table.write_text("tokens,latency\n1,x\n")
    assert "numbers only" in invoke("calibrate", table, "--stage", "prefill").error_line
    wrong = invoke("calibrate", table, "--stage", "prefill", "--layers", 3)
    assert "--layers is not of --stage prefill" in wrong.error_line
    gone = invoke("calibrate", tmp_path / "no.csv", "--stage", "prefill")
    assert "there is no file" in gone.error_line


def test_a_log_of_forward_passes_is_as_good_as_a_table(tmp_path):
    """Chunks of 4,096 behind what was computed; passes with company or decoding are left out."""
    lines, floor, slope, pair = [], 0.012, 2e-5, 4e-10
    for prompt in (300, 900, 2000, 4096, 9000, 20_000):
        for cached in range(0, prompt, 4096):
            tokens = min(4096, prompt - cached)
            time = floor + slope * tokens
            time += pair * (tokens * (tokens + 1) / 2 + tokens * cached)
            for others, decoding in ((0, 0), (1, 0), (0, 3)):
                asked = {
                    "num_prefill_requests": 1 + others,
                    "sum_prefill_tokens": tokens,
                    "sum_prefill_kv_tokens": cached,
                    "num_decode_requests": decoding,
                }
                record = {"wall_time": time * (1 + others + decoding), "scheduled_requests": asked}
                event = {"schema": "dynamo.fpm.trace.v1", "fpm": record}
                lines.append(json.dumps({"event": event}))
    path = tmp_path / "passes.jsonl"
    path.write_text("\n".join(lines))
    told = invoke("calibrate", path, "--stage", "prefill", "--json")
    assert told.code == 0, told
    answer = told.document
    assert answer["prompts"] == len(lines) / 3
    assert answer["largest_error"] < 1e-6
    model = answer["prefill_model"]
    assert model["compute"]["slope"] == pytest.approx(slope, rel=1e-6)
    assert model["pairs"][0]["time"] == pytest.approx(pair, rel=1e-6)
    path.write_text("\n".join(lines[1::3]))
    refused = invoke("calibrate", path, "--stage", "prefill")
    assert "no pass with one prefill" in refused.error_line
