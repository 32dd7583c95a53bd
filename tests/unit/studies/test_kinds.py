from __future__ import annotations

import pytest

from afdplan.errors import InvalidInputError
from afdplan.studies.case_runner import CaseRunner
from afdplan.studies.definition import load_study
from afdplan.studies.kinds import compute_kind, compute_kinds
from afdplan.theory.recommend import recommend_ratio
from tests.unit.studies.declare import LATENCY, write, write_trace

LAWS = 'prompt = "geometric:50"\ndecode = "geometric:50"\n'


def rows(folder, text):
    study = load_study(write(folder, text))
    runner = CaseRunner(study)
    return study, [runner.row(index) for index in range(study.cases)]


@pytest.mark.parametrize("name", compute_kinds())
def test_columns_are_stable_and_distinct(name):
    kind = compute_kind(name)
    names = [p.name for p in kind.variables.values()] + [c.name for c in kind.answers]
    assert len(set(names)) == len(names)
    assert {kind.measure, *kind.shown} <= {column.name for column in kind.answers}


def test_ratio_rows_are_the_answers_of_the_library(tmp_path):
    write_trace(tmp_path)
    text = (
        f'compute = "ratio"\n[fixed]\nlatency = "{LATENCY}"\ntrace = "trace.csv"\n'
        "requests_per_worker = 128\nmicrobatches = 2\n[grid]\nffn_weight = [1, 2.5]\n"
    )
    study, found = rows(tmp_path, text)
    source = study.source(study.case(0).values)
    from afdplan.lengths.law import EmpiricalLengths
    from afdplan.workload.interval import token_load_estimate

    for row in found:
        answer = recommend_ratio(
            EmpiricalLengths(source.trace),
            study.latencies[f"latency {LATENCY}"],
            batch_size=64,
            ffn_weight=row["ffn_weight"],
            token_load=token_load_estimate(source.trace),
        )
        assert row["optimal_attention_workers"] == answer.optimal_attention_workers
        assert row["objective"] == answer.best.objective
        assert row["optimal_attention_workers_low"] == answer.uncertainty.low
        assert row["curve_objective"] == [point.objective for point in answer.curve]
        assert row["trace_requests"] == source.trace.requests
        assert (row["time_unit"], row["compute"]) == ("abstract", "ratio")


def test_simulations_share_requests_where_the_study_gives_a_seed(tmp_path):
    text = (
        f'compute = "simulate"\n[fixed]\nlatency = "{LATENCY}"\nbatch_size = 4\n{LAWS}'
        "simulated_requests = 40\nreplications = 2\n[grid]\nattention_workers = [1, 2]\n"
    )
    study, own = rows(tmp_path, text)
    assert [row["reason"] for row in own] == [None, None]
    cases = [study.case(0), study.case(1)]
    assert cases[0].seed != cases[1].seed  # each case has its own, from its contents
    assert all(r["throughput_per_instance_low"] <= r["throughput_per_instance"] for r in own)
    common, _ = rows(tmp_path, text + "seed = [7]\n")
    assert common.case(0).seed == common.case(1).seed == 7
    # The same study in another order gives the same rows, case by case.
    _, turned = rows(tmp_path, text.replace("[1, 2]", "[2, 1]"))
    assert turned[0]["throughput_per_instance"] == own[1]["throughput_per_instance"]
    assert turned[0]["case_hash"] == own[1]["case_hash"]


def test_a_simulation_is_that_of_the_library(tmp_path):
    from afdplan.lengths.law import IndependentLengths
    from afdplan.model.bundle import Bundle
    from afdplan.simulation import run
    from afdplan.simulation.scenario import Scenario

    text = (
        f'compute = "simulate"\n[fixed]\nlatency = "{LATENCY}"\nbatch_size = 4\n{LAWS}seed = 3\n'
        'simulated_requests = 50\nattention_workers = 2\nplacement = "least-tokens"\n'
    )
    study, (row,) = rows(tmp_path, text)
    result = run.simulate(
        Scenario(
            bundle=Bundle(attention_workers=2, batch_size=4),
            latency=study.latencies[f"latency {LATENCY}"],
            lengths=IndependentLengths(prompt="geometric:50", decode="geometric:50"),
            requests_per_worker=50,
            seed=3,
            placement="least-tokens",
        )
    )
    assert row["throughput_per_instance"] == result.throughput_per_instance.value
    assert row["step_time_p99"] == result.step_time.p99.value


def test_plans_are_best_and_infeasible_ones_say_why(tmp_path):
    from afdplan.lengths.law import IndependentLengths
    from afdplan.planning.limits import Limits
    from afdplan.planning.objective import DeviceCost
    from afdplan.planning.search import DesignSearch
    from afdplan.planning.source import MeasuredSource
    from afdplan.planning.space import SearchSpace, graph_batch_sizes

    (tmp_path / "times.toml").write_text(
        'schema_version = 1\ntime_unit = "s"\nlayers = 60\n'
        '[attention]\nkind = "linear"\nslope = 1e-9\nintercept = 2e-5\n'
        '[ffn]\nkind = "linear"\nslope = 2e-7\nintercept = 1e-4\n'
        '[transfer]\nkind = "linear"\nslope = 0.0\nintercept = 0.0\n'
    )
    text = (
        f'compute = "plan"\n[fixed]\nlatency = "times.toml"\n{LAWS}largest_batch_size = 64\n'
        "devices = 12\n[grid]\ntime_per_output_token = [0.03, 1e-6]\n"
    )
    study, (possible, impossible) = rows(tmp_path, text)
    search = DesignSearch(
        IndependentLengths(prompt="geometric:50", decode="geometric:50"),
        MeasuredSource(study.latencies["latency times.toml"]),
        SearchSpace(batch_sizes=graph_batch_sizes(64), fills_gaps=True),
        DeviceCost(),
    )
    best = search.best(Limits(devices=12, time_per_output_token=0.03))
    assert possible["score"] == best.score
    assert possible["planned_attention_workers"] == best.design.attention_workers
    assert impossible["status"] == "refused"
    assert impossible["reason"]
    assert impossible["score"] is None


@pytest.mark.parametrize(
    ("kind", "told"), [("simulate", "needs attention_workers"), ("plan", "a budget or a goal")]
)
def test_what_a_kind_needs(tmp_path, kind, told):
    text = f'compute = "{kind}"\n[fixed]\nlatency = "{LATENCY}"\nbatch_size = 4\n{LAWS}'
    with pytest.raises(InvalidInputError, match=told):
        load_study(write(tmp_path, text))


@pytest.mark.parametrize("compute", ["ratio", "simulate"])
def test_what_the_command_refuses_for_memory_a_study_refuses_too(tmp_path, compute):
    """A batch of 40,000 had a best ratio in a study, and exit code 3 on the command line."""
    more = "attention_workers = 2\n" if compute == "simulate" else ""
    text = (
        f'compute = "{compute}"\n[fixed]\nmodel = "deepseek-v3"\nhardware = "h200"\n'
        f"batch_size = 40000\n{LAWS}{more}"
    )
    (row,) = rows(tmp_path, text)[1]
    assert row["status"] == "refused"
    assert "batch_size = 40,000 with 2 microbatches does not fit" in row["reason"]
