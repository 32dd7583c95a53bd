"""Engines of a disaggregated or replicated service: each request counts once, and it is said."""

import re
from functools import partial
from pathlib import Path

import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.counters import read_snapshot
from afdplan.files.measurements.engines import chosen_engines, engines_serving
from afdplan.files.measurements.prometheus import read_metrics, server_metrics

PLAIN = (Path(__file__).parents[3] / "samples" / "metrics" / "vllm_plain.prom").read_text()
LINES = [line for line in PLAIN.splitlines() if line and line[0] != "#"]


def engine(labels, *, outputs_of_one=False, more=0, model="m"):
    """Return the sample of 1,000 requests (means 510 and 230) under other labels."""
    lines = []
    for line in LINES:
        name, inner, value = re.fullmatch(r"([^{]+)\{([^}]*)\} (\S+)", line).groups()
        if outputs_of_one and "generation_tokens" in name:
            value = "1000.0"
        if 'le="+Inf"' in inner or "_count" in name:
            value = str(float(value) + more)
        inner = inner.replace('engine="0"', labels).replace(
            'model_name="m"', f'model_name="{model}"'
        )
        lines.append(f"{name}{{{inner}}} {value}\n")
    return "".join(lines)


def read(folder, *engines):
    file = folder / "metrics"
    file.write_text("".join(engines))
    return read_metrics(file)


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [
        ('job="vllm-prefill"', 'job="vllm-decode"'),
        ('instance="prefill-0:8000"', 'instance="decode-0:8000"'),
        ('disaggregation_mode="prefill"', 'disaggregation_mode="decode"'),
        ('engine_type="prefill"', 'engine_type="decode"'),
        ('kv_role="kv_producer"', 'kv_role="kv_consumer"'),
        ('dynamo_component="prefill"', 'dynamo_component="backend"'),
        ('role="P",pod="a"', 'role="D",pod="b"'),
        ('server_role="CONTEXT"', 'server_role="GENERATION"'),
        ('pod="llm-prefiller-7c9",ns="pd"', 'pod="llm-decoder-5f2",ns="pd"'),
    ],
)
@pytest.mark.parametrize("outputs_of_one", [True, False])
def test_engines_that_only_prefill_count_no_request_again(
    prefill, decode, outputs_of_one, tmp_path
):
    found = read(tmp_path, engine(prefill, outputs_of_one=outputs_of_one), engine(decode, more=3))
    assert found.requests == 1003
    assert found.decode_tokens.mean == pytest.approx(230, rel=0.01)
    (note,) = found.notes
    assert "only prefill" in note
    assert "their 1,000 requests again" in note


def test_one_token_per_request_tells_a_prefill_engine_without_a_name(tmp_path):
    for one, other in (("a:1", "b:1"), ("prefill-decode-x-0", "prefill-decode-x-1")):
        single = engine(f'instance="{one}"', outputs_of_one=True)
        found = read(tmp_path, single, engine(f'instance="{other}"', more=3))
        assert found.requests == 1003
        assert f"are left out ({one})" in found.notes[0]


def test_only_prefill_engines_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="give the metrics of those that decode"):
        read(tmp_path, engine('job="prefill"', outputs_of_one=True))
    # What all engines share tells no roles: outputs are real.
    found = read(tmp_path, engine('ns="prefill-test",pod="a"'))
    assert found.requests == 1000
    assert "names itself a prefill engine" in found.notes[0]


@pytest.mark.parametrize(
    ("labels", "more"),
    [
        (('pod="a"', 'pod="a",prometheus_replica="b"'), 0),
        (('pod="a",prometheus_replica="a"', 'pod="a",prometheus_replica="b"'), 3),
        (('instance="a",prometheus="x"', 'instance="a",prometheus="y"'), 0),
    ],
)
def test_one_engine_scraped_twice_counts_once(labels, more, tmp_path):
    found = read(tmp_path, engine(labels[0]), engine(labels[1], more=more))
    assert found.requests == 1000 + more
    assert "counted once" in found.notes[0]


def test_two_instances_of_the_same_prompts_are_doubted(tmp_path):
    found = read(tmp_path, engine('instance="a:1"'), engine('instance="b:1"', more=3))
    assert found.requests == 2003
    assert "closer than chance" in found.notes[0]
    assert "--selector" in found.notes[0]


def test_replicas_are_added(tmp_path):
    """Their prompts differ as those of different requests do."""
    other = (Path(__file__).parents[3] / "samples/metrics/vllm-0.32.0-after-bench.prom").read_text()
    other = re.sub(r"\{", '{pod="b",', other)
    found = read(tmp_path, other, engine('engine="0",pod="a"', model="tiny"))
    assert found.requests == 1078
    assert not found.notes


def test_a_selector_picks_engines(tmp_path):
    file = tmp_path / "metrics"
    file.write_text(engine('job="a",pod="x-1"') + engine('job="b",pod="x-2"', more=3))
    snapshot = read_snapshot(file)
    for selector, requests in (
        ('job="a"', 1000), ('job!="a"', 1003), ('pod=~"x-[13]"', 1000),
        ('pod!~".*-1", job="b"', 1003), ('model_name="m",job="b"', 1003),
    ):  # fmt: skip
        assert server_metrics(chosen_engines(snapshot, selector)).requests == requests
    assert chosen_engines(snapshot, "") == snapshot or chosen_engines(snapshot, "").series
    for selector, said in (
        ('job="c"', "no engine matches"), ("job=a", "must be matchers"), ('job=~"("', "selector"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=said):
            chosen_engines(snapshot, selector)


def test_engines_of_another_model_are_left_out(tmp_path):
    file = tmp_path / "metrics"
    file.write_text(engine('pod="a"', model="big") + engine('pod="b"', more=3, model="small"))
    snapshot = read_snapshot(file)
    found = server_metrics(engines_serving(snapshot, partial(str.__eq__, "small")))
    assert found.requests == 1003
    assert "another model (big) are left out" in found.notes[0]
    assert engines_serving(snapshot, partial(str.__eq__, "third")) is snapshot
    # An adapter has a name of its own on the same engine.
    file.write_text(engine('pod="a"', model="base") + engine('pod="a"', more=3, model="adapter"))
    both = read_snapshot(file)
    assert engines_serving(both, partial(str.__eq__, "base")) is both


def test_a_count_that_is_not_that_of_the_buckets_is_refused(tmp_path):
    text = engine('engine="0"').replace("prompt_tokens_count", "prompt_tokens_other", 1)
    count = next(line for line in LINES if "request_prompt_tokens_count" in line)
    with pytest.raises(InvalidInputError, match="counts 2,000 requests, its buckets hold 1,000"):
        read(tmp_path, text + count.rpartition(" ")[0] + " 2000\n")


def test_prompts_and_outputs_of_other_requests_are_said(tmp_path):
    few = "".join(
        line + "\n" for line in engine('pod="b"').splitlines() if "generation_tokens" not in line
    )
    found = read(tmp_path, engine('pod="a"'), few)
    assert any("not of the same requests" in note for note in found.notes)
