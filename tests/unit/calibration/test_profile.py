import csv
import json
from dataclasses import replace

import pytest

from afdplan.calibration.architecture import Mixer
from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.calibration.profile import ProfilePlan, profile, small_model
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.files.measurements.profile_table import environment_path, write_profile


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requests", ()),
        ("contexts", (0,)),
        ("tokens", (1.5,)),
        ("repeats", 1),
        ("device", "tpu"),
        ("dtype", "float8"),
        ("routing", "odd"),
        ("ffn_devices", 0),
        ("threads", -1),
    ],
)
def test_bad_plans_are_named(field, value):
    with pytest.raises(InvalidInputError, match=field):
        ProfilePlan(**{field: value})


PLAN = ProfilePlan(requests=(1, 2), contexts=(8, 16), tokens=(1, 8), repeats=3, device="cpu")


@pytest.fixture
def torch():
    """An extra of its own, which only `afdplan profile` needs."""
    return pytest.importorskip("torch")


def test_a_small_profile_runs_and_is_written(tmp_path, torch):
    seen = []
    result = profile(small_model(), PLAN, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert {point.stage for point in result.table} == {"attention", "ffn", "transfer"}
    assert {point.routing for point in result.other_routing} == {"skewed"}
    assert all(point.latency > 0 for point in result.table)
    path = tmp_path / "times.csv"
    write_profile(path, result.table, result.environment)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["stage", "load", "requests", "latency", "spread"]
    assert len(rows) == 8
    assert json.loads(environment_path(path).read_text())["device"] == "cpu"


def test_points_that_need_too_much_memory_are_left_out_and_said(torch):
    result = profile(small_model(), replace(PLAN, largest_bytes=1000))
    assert any("left out" in line for line in result.warnings)


def _kernels(architecture, devices=1):
    from afdplan.calibration.profile_kernels import build_kernels

    return build_kernels(architecture, "cpu", "float32", 0, devices)


def test_grouped_attention_equals_attention_head_by_head(torch):
    model = small_model()
    kernels = _kernels(model)
    requests, context, a = 3, 7, model.attention
    state = kernels._random(requests, model.hidden_size)
    query = kernels._random(model.hidden_size, a.query_heads * a.head_size)
    keys_values = kernels._random(model.hidden_size, 2 * a.kv_heads * a.head_size)
    out = kernels._random(a.query_heads * a.head_size, model.hidden_size)
    cache = kernels._random(2, requests, a.kv_heads, context, a.head_size)
    cache[:, :, :, -1] = (state @ keys_values).view(requests, 2, a.kv_heads, -1).transpose(0, 1)
    q = (state @ query).view(requests, a.query_heads, a.head_size)
    heads = []
    for head in range(a.query_heads):
        k, v = cache[:, :, head // (a.query_heads // a.kv_heads)]
        weights = torch.softmax((k @ q[:, head, :, None]).squeeze(-1) / a.head_size**0.5, dim=-1)
        heads.append((weights[:, None] @ v).squeeze(1))
    expected = torch.cat(heads, dim=-1) @ out
    assert torch.allclose(kernels.attention(requests, context)(), expected, atol=1e-6)


def test_absorbed_latent_attention_equals_the_expanded_form(torch):
    a = LatentAttention(
        query_heads=4,
        query_rank=24,
        kv_rank=16,
        plain_key_size=8,
        rotary_key_size=4,
        value_size=6,
    )
    block = replace(small_model().blocks[0], mixers=(Mixer(heads=a),))
    model = replace(small_model(), blocks=(block,), hidden_size=32)
    kernels = _kernels(model)
    requests, context = 2, 5
    state = kernels._random(requests, 32)
    q = (state @ kernels._random(32, 24) @ kernels._random(24, 4 * 12)).view(requests, 4, 12)
    cache = kernels._random(requests, 1, context, 20)
    cache[:, 0, -1] = state @ kernels._random(32, 20)
    up_key, up_value = kernels._random(4, 8, 16), kernels._random(4, 16, 6)
    latent, rotary = cache[:, 0, :, :16], cache[:, 0, :, 16:]
    heads = []
    for head in range(4):
        # Expand the latent to this head's keys and values, as the unabsorbed model would.
        keys = torch.cat([latent @ up_key[head].T, rotary], dim=-1)
        weights = torch.softmax((keys @ q[:, head, :, None]).squeeze(-1) * 12**-0.5, dim=-1)
        heads.append((weights[:, None] @ (latent @ up_value[head])).squeeze(1))
    expected = torch.cat(heads, dim=-1) @ kernels._random(4 * 6, 32)
    assert torch.allclose(kernels.attention(requests, context)(), expected, atol=1e-6)


@pytest.mark.parametrize("routing", ["balanced", "skewed"])
@pytest.mark.parametrize("devices", [1, 4])
def test_experts_equal_a_loop_over_tokens(routing, devices, torch):
    model = small_model()
    kernels = _kernels(model, devices)
    tokens = 9
    result = kernels.experts(tokens, routing)()
    router, gate_up, down = (kernels._kept[name] for name in ("router", "gate_up", "down"))
    chosen = kernels._routes(tokens, routing)
    state = kernels._random(tokens, model.hidden_size)
    share = torch.softmax(state @ router, dim=-1)
    expected = torch.zeros_like(state)
    for token in range(tokens):
        assert len(set(chosen[token].tolist())) == model.experts_per_token
        for expert in chosen[token].tolist():
            if expert < kernels.experts_held:
                gate, up = (state[token] @ gate_up[expert]).chunk(2)
                expected[token] += share[token, expert] * (
                    (torch.nn.functional.silu(gate) * up) @ down[expert]
                )
    assert torch.allclose(result, expected, atol=1e-6)


def test_routing_is_balanced_or_skewed(torch):
    kernels = _kernels(small_model())
    load = {
        routing: torch.bincount(kernels._routes(20_000, routing).reshape(-1), minlength=16)
        for routing in ("balanced", "skewed")
    }
    mean = 20_000 * 2 / 16
    assert load["balanced"].max() < 1.1 * mean
    assert load["skewed"].max() > 3 * mean


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_this_device_plays_the_busiest_one(tokens, torch):
    kernels = _kernels(small_model(), devices=4)
    chosen = kernels._routes(tokens, "skewed").reshape(-1)
    rows = torch.bincount(chosen // kernels.experts_held, minlength=4)
    assert rows[0] == rows.max()
    assert rows.sum() == 2 * tokens


def test_sparse_attention_and_absent_devices_are_refused(torch):
    from afdplan.calibration.catalogue import find_model

    with pytest.raises(UnsupportedError, match="dense attention"):
        profile(find_model("deepseek-v3.2"), PLAN)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedError, match="no CUDA device"):
            profile(small_model(), replace(PLAN, device="cuda"))
    assert isinstance(small_model().attention, GroupedAttention)
