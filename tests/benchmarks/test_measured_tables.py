import importlib.util
import json

import numpy as np
import pytest

from afdplan.calibration.derived import derived_latency
from afdplan.errors import AfdplanError, InvalidInputError, UnsupportedError
from benchmarks import operator_tables
from benchmarks.measured_tables import measured_latency
from benchmarks.operator_tables import latest_table

HAS_TABLES = importlib.util.find_spec("aiconfigurator_core") is not None
needs_tables = pytest.mark.skipif(not HAS_TABLES, reason="aiconfigurator-core is not installed")


@pytest.mark.skipif(HAS_TABLES, reason="aiconfigurator-core is installed")
def test_the_missing_package_names_the_mend():
    with pytest.raises(UnsupportedError, match="pip install aiconfigurator-core==0"):
        measured_latency("deepseek-v3", "h200")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Tables with planted times, in the layout of the package."""
    import polars as pl

    def write(operator, file, rows):
        folder = tmp_path / "h200_sxm" / operator / "vllm" / "1.0.0"
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_parquet(folder / f"{file}.parquet")

    monkeypatch.setattr(operator_tables, "_systems", lambda: tmp_path)
    shape = {"num_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "window_size": 0}
    attention = [
        {
            **shape,
            "kv_cache_dtype": "bfloat16",
            "batch_size": batch,
            "step": context - 1,
            "latency": 0.01 + 5e-7 * batch * context + 1e-4 * batch,
        }
        for batch in (8, 16, 64, 256)
        for context in (512, 2048, 8192)
    ]
    write("attention", "generation_attention_perf", attention)
    products = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": 1e-9 * n * k / 4}
        for m in (1, 512)
        for n in (2048, 4096, 8192, 16384)
        for k in (4096, 8192)
    ]
    write("gemm", "gemm_perf", products)
    expert = {
        "hidden_size": 4096,
        "inter_size": 1536,
        "topk": 8,
        "num_experts": 128,
        "moe_ep_size": 8,
        "moe_tp_size": 1,
        "moe_dtype": "bfloat16",
        "distribution": "balanced",
    }

    def experts(times):
        rows = [
            {**expert, "num_tokens": n, "latency": t}
            for n, t in zip((1, 64, 512, 4096), times, strict=True)
        ]
        write("moe", "moe_perf", rows)

    experts((0.05, 0.2, 0.25, 0.6))
    return experts


def test_planted_coefficients_are_recovered(planted):
    result = measured_latency("qwen3-235b-a22b", "h200", ffn_devices=8)
    kind = result.latency.attention[0]
    # 9216 x 4096 lies between two products: the plane is linear in n, so it is exact.
    products = 1e-9 / 4 * (9216 * 4096 + 4096 * 8192)
    assert kind.curve.slope == pytest.approx(5e-10)
    assert kind.time_per_request == pytest.approx(1e-7)
    assert kind.curve.intercept == pytest.approx((0.01 + products) * 1e-3)
    assert result.attention_error < 1e-9
    assert result.latency.ffn(512) == pytest.approx(0.25e-3)
    assert result.latency.validity.ffn_tokens == (1.0, 4096.0)
    assert any("gemm" in line for line in result.provenance)
    assert "derived, not measured" in " ".join(result.latency.assumptions)


def test_falling_expert_times_are_said_and_broken_ones_refused(planted):
    planted((0.05, 0.4, 0.25, 0.6))
    result = measured_latency("qwen3-235b-a22b", "h200", ffn_devices=8)
    assert result.ffn_error == pytest.approx(0.6)
    assert any("fall" in line for line in result.warnings)
    assert (np.diff(result.latency.ffn.times) >= 0).all()
    planted((5.0, 20.0, 25.0, 60.0))
    with pytest.raises(UnsupportedError, match="times slower than a roofline"):
        measured_latency("qwen3-235b-a22b", "h200", ffn_devices=8)


@pytest.mark.parametrize(
    ("model", "hardware", "options", "message"),
    [
        ("qwen3-235b-a22b", "h200", {"ffn_devices": 4}, "no row"),
        ("qwen3-235b-a22b", "h200", {"ffn_devices": 16}, "at most 8"),
        ("qwen3-235b-a22b", "mi300x", {}, "measured tables exist for"),
        ("qwen3-235b-a22b", "h200", {"backend": "vllm", "batch_range": (9, 9)}, "at least 6"),
        ("qwen3-235b-a22b", "h200", {"backend": "sglang"}, "has no attention table"),
        ("qwen3-235b-a22b", "h200", {"backend": "odd"}, "backend"),
        ("step-3", "h200", {}, "low-rank query"),
        ("deepseek-v3.2", "h200", {}, "dense attention"),
        ("gpt-oss-120b", "h200", {}, "dense attention"),
    ],
)
def test_refusals(planted, model, hardware, options, message):
    with pytest.raises(AfdplanError, match=message):
        measured_latency(model, hardware, **options)


def test_another_version_is_refused(monkeypatch):
    class Found:
        origin = "/nowhere/__init__.py"

    monkeypatch.setattr(operator_tables.importlib.util, "find_spec", lambda name: Found)
    monkeypatch.setattr(operator_tables.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(UnsupportedError, match=r"0\.12\.0.*got 9\.9"):
        operator_tables.table_systems()


@needs_tables
def test_real_tables_agree_with_the_roofline_in_attention_slopes():
    for model, device in (("qwen3-235b-a22b", "h200"), ("deepseek-v3", "h200")):
        result = measured_latency(model, device, ffn_devices=8)
        derived = derived_latency(model, device, ffn_devices=8).attention[0].curve.slope
        assert result.latency.attention[0].curve.slope == pytest.approx(derived, rel=0.15)
        assert result.attention_error < 0.15
    with pytest.raises(UnsupportedError, match="fault"):
        measured_latency("qwen3-235b-a22b-fp8", "gb200", ffn_devices=4)
    with pytest.raises(InvalidInputError, match="system"):
        latest_table("odd", "moe", "vllm", "moe_perf")
    assert json.dumps(result.provenance)
