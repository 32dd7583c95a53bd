import json
import os
from dataclasses import replace

import pytest

from afdplan.errors import AfdplanError, InvalidInputError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.simulation.scenario import Scenario
from afdplan.validation import laboratory
from afdplan.validation.laboratory import Laboratory, fingerprint

SMALL = Scenario(
    bundle=Bundle(attention_workers=2, batch_size=4, microbatches=1),
    latency=LatencyModel.linear(attention=(0.1, 50), ffn=(0.0, 30), transfer=(0.0, 10)),
    lengths=IndependentLengths(prompt="100", decode="geometric:5"),
    requests_per_worker=500,
)


def test_each_scenario_is_played_once_and_the_order_is_kept():
    other = replace(SMALL, seed=1)
    laboratory = Laboratory()
    first, second, third = laboratory.observe([SMALL, other, SMALL])
    assert laboratory.played == 2
    assert first is third
    assert first.cycle_time.value != second.cycle_time.value


def test_memory_is_read_again_and_half_a_line_is_dropped(tmp_path):
    path = tmp_path / "memory.jsonl"
    seen = Laboratory(memory=str(path)).observe([SMALL])
    with path.open("a") as file:
        file.write('{"scenario": "half')
    again = Laboratory(memory=str(path))
    assert again.observe([SMALL]) == seen
    assert again.played == 0
    again.observe([replace(SMALL, seed=1)])
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


@pytest.mark.parametrize("text", ["nonsense\nmore\n", '{"a": 1}\n{"b": 2}\n', "[]\n[]\n"])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "memory.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"--resume .* give another name"):
        Laboratory(memory=str(path))
    assert path.read_text() == text


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    laboratory = Laboratory(memory=str(tmp_path / "no" / "memory.jsonl"))
    with pytest.raises(InvalidInputError, match="cannot be written"):
        laboratory.observe([SMALL])


def _dies(scenario):
    os._exit(9)  # as the system ends what takes too much memory


def test_a_process_that_is_killed_is_one_line(tmp_path, monkeypatch):
    """It was a traceback of the pool."""
    monkeypatch.setattr(laboratory, "observe", _dies)
    with (
        Laboratory(jobs=2, memory=str(tmp_path / "kept.jsonl")) as killed,
        pytest.raises(AfdplanError, match=r"one of 2 processes died .* fewer --jobs") as told,
    ):
        killed.observe([SMALL, replace(SMALL, seed=1)])
    assert "\n" not in str(told.value)


def test_processes_give_what_one_gives():
    scenarios = [SMALL, replace(SMALL, seed=1), replace(SMALL, seed=2)]
    with Laboratory(jobs=2) as laboratory:
        assert laboratory.observe(scenarios) == Laboratory().observe(scenarios)


def test_progress_counts_what_is_still_to_be_played():
    calls = []
    laboratory = Laboratory(progress=lambda done, wanted: calls.append((done, wanted)))
    laboratory.observe([SMALL])
    laboratory.observe([SMALL, replace(SMALL, seed=3)])
    assert calls == [(0, 1), (1, 1), (0, 1), (1, 1)]


def test_fingerprints_tell_scenarios_apart():
    trace = Trace(prompt_tokens=[1, 2], decode_tokens=[3, 4])
    variants = [
        SMALL,
        replace(SMALL, seed=1),
        replace(SMALL, requests_per_worker=501),
        replace(SMALL, latency=SMALL.latency.scaled(2.0)),
        replace(SMALL, bundle=Bundle(attention_workers=3, batch_size=4)),
        replace(SMALL, lengths=IndependentLengths(prompt="101", decode="geometric:5")),
        replace(SMALL, lengths=trace),
        replace(SMALL, lengths=EmpiricalLengths(trace)),
        replace(SMALL, lengths=Trace(prompt_tokens=[2, 1], decode_tokens=[4, 3])),
    ]
    assert len({fingerprint(scenario) for scenario in variants}) == len(variants)
    assert fingerprint(replace(SMALL)) == fingerprint(SMALL)
