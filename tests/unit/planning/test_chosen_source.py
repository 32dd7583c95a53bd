"""Which source a choice of latency names, and a plan that runs by other times."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError
from afdplan.files.latency_file import save_latency
from afdplan.model.latency import LatencyModel
from afdplan.planning.chosen_source import chosen_source
from afdplan.planning.derived_source import DerivedSource

MODEL = LatencyModel.linear(attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), time_unit="s")


@pytest.mark.parametrize(
    ("attention", "ffn", "devices"),
    [(None, None, (1, 1)), (2, None, (2, 1)), ((2,), 4, (2, 4)), (None, 4, (1, 4))],
)
def test_a_measured_model_was_taken_on_so_many_devices(attention, ffn, devices):
    choice = LatencyChoice(
        latency="x.yaml", attention_devices=attention, ffn_devices=ffn, kv_tokens=9.0,
        colocated_kv_tokens=4.0,
    )  # fmt: skip
    source = chosen_source(choice, MODEL)
    assert source.attention_devices == (devices[0],)
    assert source.ffn_devices == devices[1]
    assert source.cache(1).capacity == 9.0
    assert source.colocated.cache(1, 1).capacity == 4.0
    assert source.latency(1, 1, 8).ffn == MODEL.ffn


def test_a_model_is_read_where_it_was_not(tmp_path):
    path = tmp_path / "times.yaml"
    save_latency(MODEL, path)
    source = chosen_source(LatencyChoice(latency=str(path)))
    assert source.latency(1, 1, 8).ffn(8.0) == MODEL.ffn(8.0)
    with pytest.raises(InvalidInputError, match="at one number of attention_devices"):
        chosen_source(LatencyChoice(latency=str(path), attention_devices=(1, 2)))


@pytest.mark.parametrize(
    ("asked", "widths"), [(None, (1, 2, 4, 8)), (2, (2,)), ((4, 2), (4, 2)), ((1,), (1,))]
)
def test_a_derived_model_tries_the_widths_that_are_asked_for(asked, widths):
    choice = LatencyChoice(model="qwen3-30b-a3b", hardware="h100", attention_devices=asked)
    source = chosen_source(choice)
    assert isinstance(source, DerivedSource)
    assert source.attention_devices == widths


def test_ffn_devices_of_a_derived_model_are_the_plans():
    choice = LatencyChoice(model="qwen3-30b-a3b", hardware="h100", ffn_devices=4)
    with pytest.raises(InvalidInputError, match="ffn_devices is chosen by the plan"):
        chosen_source(choice)


def test_the_first_refusal_is_told(monkeypatch):
    tried = []

    def placement(attention_devices):
        tried.append(attention_devices)
        raise InvalidInputError(f"not {attention_devices}")

    loaded = SimpleNamespace(placement=placement)
    choice = SimpleNamespace(
        is_derived=True, attention_devices=None, ffn_devices=None, loaded=lambda: loaded
    )
    with pytest.raises(InvalidInputError, match="not 1"):
        chosen_source(choice)
    assert tried == [1, 2, 4, 8]
