"""Do the benchmarks still import, and is what they compute right?"""

import importlib
import itertools
import pkgutil

import numpy as np
import pytest

import benchmarks
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from benchmarks import aiconfigurator_search, planner
from benchmarks.__main__ import BENCHMARKS
from benchmarks.aiconfigurator_times import PeerTimes, missing_peer, peer_task
from benchmarks.judgement import judge

MODULES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-4), ffn=(2e-6, 1e-4), transfer=(0.0, 1e-5), layers=2, time_unit="s"
)
CONSTANT = IndependentLengths(prompt="100", decode="fixed:1")


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_module_imports_and_is_listed_if_it_runs(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert hasattr(module, "main") == (name in BENCHMARKS)


def small_case(**limits):
    return planner.Case(
        law=CONSTANT,
        source=lambda: MeasuredSource(LATENCY, kv_tokens=900),
        limits=Limits(devices=6, overflow_probability=planner.OVERFLOW, **limits),
        batch_sizes=(1, 2, 4),
    )


def test_every_design_is_every_legal_one():
    case = small_case()
    space = SearchSpace(batch_sizes=case.batch_sizes)
    found = planner.every_design(case, case.source(), space)
    pairs = [(a, f) for a, f in itertools.product(range(1, 6), repeat=2) if a + f <= 6]
    sizes = [(b, m) for b, m in itertools.product((1, 2, 4), (1, 2, 3)) if 100 * b * m <= 900]
    assert len(sizes) == 8
    assert {(d.attention_workers, d.ffn_workers, d.batch_size, d.microbatches) for d in found} == {
        pair + size for pair in pairs for size in sizes
    }
    assert all(d.bundles == 6 // (d.attention_workers + d.ffn_workers) for d in found)


def test_brute_force_finds_the_planners_design():
    # Requests of one step: two steps per run, of which filling the pipeline takes up to 1 %.
    limit = 1.2e-3
    case = small_case(time_per_output_token=limit)
    source, space = case.source(), SearchSpace(batch_sizes=case.batch_sizes)
    planned = DesignSearch(case.law, source, space, DeviceCost()).best(case.limits)
    swept = {
        design: judge(case.law, source, design, seed=0, runs=2)
        for design in planner.every_design(case, source, space)
    }
    legal = [found for found in swept.values() if found.holds(limit * 1.01)]
    assert 0 < len(legal) < len(swept)
    mine = swept[planned.design]
    assert mine in legal
    assert mine.tokens_per_second == pytest.approx(planned.tokens_per_second, rel=0.01)
    assert mine.tokens_per_second >= 0.99 * max(found.tokens_per_second for found in legal)


def test_judgement_counts_bundles_devices_and_memory():
    design = Design(bundles=3, attention_workers=2, ffn_workers=1, batch_size=4, microbatches=1)
    found = judge(CONSTANT, MeasuredSource(LATENCY, kv_tokens=900), design, seed=0, runs=2)
    step = 2 * (1e-4 + 400e-6 + 1e-4 + 8 * 2e-6 + 2 * 1e-5)
    assert found.time_per_output_token == pytest.approx(step, rel=1e-9)
    assert found.tokens_per_second == pytest.approx(3 * 8 / step, rel=1e-9)
    assert found.per_device == pytest.approx(found.tokens_per_second / 9)
    assert found.cache == pytest.approx(400 / 900, rel=1e-3)
    assert not found.holds(step * 0.99)
    assert found.holds(step * 1.01)


def test_lengths_told_to_the_peer_have_the_true_mean_context():
    question = aiconfigurator_search.Question(
        IndependentLengths(prompt="100", decode="geometric:500"), (100, 500)
    )
    prompt, output = question.told_load
    assert prompt + output / 2 == pytest.approx(599, abs=1)
    assert output == 500


def test_whole_nodes_are_whole():
    rule = aiconfigurator_search.RULES["whole nodes"]
    assert rule.allows(np.array([4, 8, 12, 16]), np.ones(4), 1, 8).tolist() == [
        False, True, False, True,
    ]  # fmt: skip
    assert rule.allows(np.array([1, 2, 3]), np.ones(3), 4, 8).tolist() == [False, True, False]


def test_without_the_peer_one_line_says_what_to_install(monkeypatch, capsys):
    line = "left out: pip install aiconfigurator==0.12.0"
    monkeypatch.setattr(aiconfigurator_search, "missing_peer", lambda: line)
    monkeypatch.setattr("sys.argv", ["aiconfigurator_search"])
    aiconfigurator_search.main()
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize("installed", [None, "0.11.0"])
def test_missing_or_other_peer_is_named(monkeypatch, installed):
    import importlib.metadata as metadata

    def version(name):
        if installed is None:
            raise metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(metadata, "version", version)
    assert "pip install aiconfigurator==0.12.0" in missing_peer()


@pytest.mark.skipif(missing_peer() is not None, reason="aiconfigurator is not installed")
@pytest.mark.filterwarnings("ignore")
def test_times_repeat_those_of_its_session():
    task = peer_task(
        aiconfigurator_search.MODEL,
        aiconfigurator_search.SYSTEM,
        aiconfigurator_search.BACKEND,
        total_gpus=24,
        isl=1024,
        osl=2,
        tpot=1e9,
        ttft=1e9,
    )
    source = PeerTimes(task, 1, (512, 1024, 2048, 4096), 4096)
    summary = source.run(
        nodes=(2, 1), attention_devices=2, requests=128, lengths=(1024 - 1, 2), microbatches=2
    )
    row = summary.get_result_dict()
    latency = source.latency(2, 1, 64)
    workers = 8
    # Its results are rounded to a microsecond; FFN and transfers are read between grid points.
    assert row["t_a_layer"] * 1e-3 == pytest.approx(
        latency.attention[0].time(64 * 1024, 64), abs=6e-7
    )
    assert row["t_f_layer"] * 1e-3 == pytest.approx(latency.ffn(64 * workers), rel=0.03)
    assert row["t_a2f_layer"] * 1e-3 == pytest.approx(latency.send.time(64, 512), rel=0.05)
    step = row["t_a_layer"] + row["t_a2f_layer"], row["t_f_layer"] + row["t_f2a_layer"]
    assert row["t_step"] == pytest.approx(latency.layers * 2 * max(step), rel=0.02)
