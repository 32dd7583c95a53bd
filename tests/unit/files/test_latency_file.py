"""A latency file is read strictly, and every mistake costs one clear line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import AfdplanError, LatencyModelError
from afdplan.files.atomic import write_atomic
from afdplan.files.latency_file import built_in_latency_names, load_latency, save_latency
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity

GOOD = """schema_version = 1
time_unit = "s"
layers = 3
[attention]
kind = "linear"
slope = 1e-9
intercept = 1e-5
[ffn]
kind = "linear"
slope = 1e-8
intercept = 2e-5
[transfer]
kind = "linear"
slope = 0
intercept = 1e-6
"""


@pytest.fixture
def read(tmp_path):
    def _read(text, name="model.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_latency(path)

    return _read


def test_published_coefficients_of_arxiv_2601_21351_table_2():
    model = load_latency("deepseek-v3-ascend-910c")
    assert model.attention[0].time(1000, 5) == 0.00165 * 1000 + 50
    assert model.ffn(1000.0) == 0.083 * 1000 + 100
    assert model.send.time(100, 9) == model.receive.time(100, 9) == pytest.approx(22.2)
    assert model.time_unit == "abstract"
    assert model.layers == 1


def test_every_built_in_loads():
    for name in built_in_latency_names():
        assert load_latency(name).name


def test_good_file(read):
    model = read(GOOD)
    assert model.layers == 3
    assert model.name == "model"
    assert model.send == model.receive


def test_transfer_may_be_absent(read):
    assert read(GOOD.split("[transfer]", maxsplit=1)[0]).send.time(10, 10) == 0


def test_json_by_content(read):
    import tomllib

    assert read(json.dumps(tomllib.loads(GOOD)), "model.txt") == read(GOOD, "model.toml").__class__(
        **{
            f: getattr(read(GOOD, "model.toml"), f)
            for f in LatencyModel.__dataclass_fields__  # same model, same stem
        }
    )


def test_a_file_may_start_with_a_section(read):
    head, rest = GOOD.split("[attention]")
    with pytest.raises(LatencyModelError, match="schema_version must be 1, got none"):
        read("[attention]" + rest)
    assert head


BAD = [
    (
        GOOD.replace("slope = 1e-9", "slpoe = 1e-9"),
        "unknown key 'slpoe' in \\[attention\\]; did you mean 'slope'",
    ),
    (GOOD.replace("layers = 3", "layer = 3"), "unknown key 'layer'; did you mean 'layers'"),
    (GOOD + "floor = 1.0\n", "unknown key 'floor'"),
    (GOOD + "[coupling]\nfan_in = 'odd'\n", r"\[coupling\] fan_in must be one of even, whole, got"),
    (GOOD + "[scatter]\nlaw = 'odd'\n", r"\[scatter\] law must be one of gamma, lognormal, got"),
    (GOOD.replace("1e-9", "nan"), "\\[attention\\] slope must be a finite number >= 0, got nan"),
    (
        GOOD.replace("1e-9", "-1e-9"),
        "\\[attention\\] slope must be a finite number >= 0, got -1e-09",
    ),
    (GOOD.replace("1e-9", "inf"), "finite"),
    (GOOD.replace("1e-9", "true"), "slope in \\[attention\\] must be a number"),
    (GOOD.replace("intercept = 1e-5\n", ""), "key 'intercept' is missing"),
    (GOOD.replace("1e-9", "'fast'"), "slope in \\[attention\\] must be a number"),
    (GOOD.replace("1e-9", "1" + "0" * 400), "wrong type|too large|finite"),
    (GOOD.replace("slope = 1e-9\n", ""), "key 'slope' is missing"),
    (GOOD.replace("schema_version = 1", "schema_version = 2"), "schema_version must be 1, got 2"),
    (GOOD.replace("schema_version = 1", "schema_version = true"), "schema_version must be 1"),
    (GOOD.replace('"s"', '"ms"'), "time_unit must be one of s, abstract, got 'ms'"),
    (GOOD.replace('time_unit = "s"\n', ""), "'time_unit' is missing"),
    (GOOD.replace("layers = 3", "layers = 0"), "layers must be an integer >= 1"),
    (GOOD.replace("layers = 3", "layers = 2.5"), "wrong type"),
    (
        GOOD.replace('kind = "linear"', 'kind = "cubic"', 1),
        "kind in \\[attention\\] must be one of linear",
    ),
    (GOOD.replace("layers = 3", "layers = 3\nlayer_order = 'odd'"), "layer_order must be one of"),
    (GOOD.replace("layers = 3", "layers = 3\nlayer_order = [2]"), "layer_order must be an integer"),
    (GOOD.replace("layers = 3", "layers = 3\ndrain = 1"), "wrong type: expected `bool`"),
    (GOOD.replace("layers = 3", "layers = 3\ntokens_per_step = 0.5"), "tokens_per_step"),
    (
        GOOD.replace("layers = 3", "layers = 3\nattention = 5").split("[attention]")[0]
        + "[ffn]\nkind='linear'\n",
        "attention must be a table",
    ),
    (GOOD + 'load = "both"\n', "transfer load must be one of worker, aggregate"),
    (GOOD.replace("[transfer]", "[send]"), "\\[receive\\] is missing"),
    (GOOD + "[send]\nkind='linear'\nslope=0\nintercept=0\n", "give \\[transfer\\] for both"),
    (GOOD + "[validity]\nffn_tokens = [5, 1]\n", "low <= high"),
    (GOOD + "[validity]\nffn_tokens = [5]\n", "wrong type"),
    (
        GOOD + "[uncertainty]\ncoefficients=['ffn.slop']\ncovariance=[[1.0]]\n",
        "did you mean 'ffn.slope'",
    ),
    (
        GOOD + "[uncertainty]\ncoefficients=['ffn.slope']\ncovariance=[[-1.0]]\n",
        "variance of ffn.slope must be >= 0",
    ),
    (GOOD + "[uncertainty]\ncoefficients=['ffn.slope']\ncovariance=[[1.0, 2.0]]\n", "shape"),
    (
        GOOD.replace(
            'kind = "linear"\nslope = 1e-8\nintercept = 2e-5',
            'kind = "table"\nloads = [1, 2]\ntimes = [2.0, 1.0]',
        ),
        "\\[ffn\\] times of a table must not decrease",
    ),
    (
        GOOD.replace(
            'kind = "linear"\nslope = 1e-8\nintercept = 2e-5',
            'kind = "table"\nloads = []\ntimes = []',
        ),
        "\\[ffn\\] loads and times",
    ),
    ("", "is empty"),
    ("  \n", "is empty"),
    (b"\x00\x01\x02", "is binary"),
    (b"\xff\xfe\x80", "UTF-16"),
    (b'name = "\xe9"', "binary at byte 8"),
    ("{" * 100_000, "JSON|nested"),
    ("a = " + "[" * 50_000, "nested too deeply|invalid TOML"),
    ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
    ("[1, 2]", "one JSON object"),
    ("hello", "invalid TOML"),
    ('{"schema_version": NaN}', "invalid JSON"),
    ("x" * 16_000_001, "at most 16 MB"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_bad_file_costs_one_line(read, text, message):
    with pytest.raises(LatencyModelError, match=message) as caught:
        read(text)
    assert len(str(caught.value)) < 500


def test_missing_directory_and_unknown_names(tmp_path):
    with pytest.raises(LatencyModelError, match="there is no file"):
        load_latency(tmp_path / "none.toml")
    with pytest.raises(LatencyModelError, match="is a directory"):
        load_latency(tmp_path)
    with pytest.raises(LatencyModelError, match=r"did you mean deepseek-v3-ascend-910c.*built-in"):
        load_latency("deepseek-v3-ascend")
    with pytest.raises(LatencyModelError, match="built-in: "):
        load_latency("zzz")
    with pytest.raises(LatencyModelError):
        load_latency("a\0b")
    with pytest.raises(LatencyModelError):
        load_latency("x" * 5000)


def test_everything_round_trips(tmp_path):
    model = LatencyModel(
        name='a "name"\nwith lines',
        time_unit="s",
        attention=(
            AttentionLayers(
                curve=RooflineCurve(floor=1e-5, slope=1e-9, intercept=-1e-6), layers=30
            ),
            AttentionLayers(
                curve=LinearCurve(slope=2e-9, intercept=1e-7),
                layers=31,
                time_per_request=1e-8,
                context_window=512,
            ),
        ),
        ffn=TabulatedCurve(loads=[1, 10, 100], times=[1e-5, 1e-5, 4e-5]),
        send=Transfer(curve=LinearCurve(slope=1e-8, intercept=1e-5), load="aggregate"),
        receive=Transfer(curve=LinearCurve(slope=2e-8, intercept=1e-5)),
        step_overhead=1e-3,
        tokens_per_step=1.8,
        drain=True,
        validity=Validity(ffn_tokens=(1, 100)),
        source="somewhere",
        assumptions=("one", "two"),
        uncertainty=Uncertainty(
            coefficients=("ffn.times.2", "attention.2.slope"),
            covariance=np.array([[1e-12, 1e-17], [1e-17, 1e-21]]),
        ),
    )
    for name in ("m.toml", "m.json"):
        for order in ("blocks", "alternating", (1,) * 30 + (2,) * 30 + (2,), (2, *(1, 2) * 30)):
            model = replace(model, layer_order=order)
            save_latency(model, tmp_path / name)
            assert load_latency(tmp_path / name) == model
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "m.toml"]


def test_nothing_is_written_half(tmp_path):
    with pytest.raises(AfdplanError, match="cannot write"):
        write_atomic(tmp_path / "no" / "such" / "file", b"x")
    with pytest.raises(AfdplanError, match="is a directory"):
        write_atomic(tmp_path, b"x")
    target = tmp_path / "there"
    target.write_bytes(b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_bad_file_is_called_by_what_it_claims_to_be(tmp_path):
    for suffix, kind in (("json", "JSON"), ("toml", "TOML")):
        path = tmp_path / f"bad.{suffix}"
        path.write_text("hello world\n")
        with pytest.raises(LatencyModelError, match=f"invalid {kind}"):
            load_latency(path)


def test_the_config_of_a_model_says_where_it_belongs(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "qwen3_moe", "hidden_size": 2048}')
    with pytest.raises(LatencyModelError, match="give it as --model with --hardware"):
        load_latency(path)
