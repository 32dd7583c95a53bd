"""Recommendations, bands, traces, tables: with simulations replaced by made-up observations."""

import re
from dataclasses import replace

import pytest

from afdplan.errors import InvalidInputError, TraceError, ValidationError
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.report.validate import markdown_page, validation_answer, validation_told
from afdplan.report.validation_words import verdict_error
from afdplan.validation import run
from afdplan.validation.bands import SYNCHRONOUS, cell_checks, regret_check
from afdplan.validation.cell import Cell, compare
from afdplan.validation.laboratory import Observation
from afdplan.validation.laws import shaped_law
from afdplan.validation.published import published_systems
from afdplan.validation.regret import BASELINES, RatioCase, judge, recommended
from afdplan.validation.run import Validation, validate
from afdplan.validation.traces import judge_traces, read_traces

PAPER = LatencyModel.linear(
    attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0), name="paper"
)
BASELINE = RatioCase(
    name="baseline", law=shaped_law("geometric", 100, 500), latency=PAPER, batch_size=256
)


def estimate(value, share=0.002):
    return Estimate(
        value=value, low=value * (1 - share), high=value * (1 + share), confidence=0.95, method=""
    )


class Agreeing:
    """A laboratory whose simulations give what the exact theory says, times a factor."""

    def __init__(self, factor=1.0):
        self.factor = factor
        self.played = []

    def observe(self, scenarios):
        self.played += scenarios
        return [self._observe(scenario) for scenario in scenarios]

    def _observe(self, scenario):
        bundle = scenario.bundle
        cell = Cell(
            name="",
            group="grid",
            law=scenario.law,
            latency=scenario.latency,
            bundle=bundle,
            overlap=scenario.overlap,
            phase="aligned" if scenario.law.is_constant and scenario.start == "fresh" else "random",
        )
        steps = cell.theory("exact", (0.99,))
        instances = bundle.attention_workers + bundle.ffn_workers
        tokens = bundle.attention_workers * bundle.batch_size * scenario.microbatches
        return Observation(
            cycle_time=estimate(float(steps.cycle[0]) * self.factor),
            throughput_per_instance=estimate(tokens / float(steps.mean[0]) / instances),
            attention_idle_fraction=estimate(float(steps.attention_idle_fraction[0])),
            ffn_idle_fraction=estimate(float(steps.ffn_idle_fraction[0])),
            step_time_p99=estimate(float(steps.quantiles[0, 0]) * self.factor),
            steps=1000,
            replications=1,
            mean_token_load=cell.law.token_load().mean,
        )


def test_lockstep_picks_4_on_the_baseline_and_promises_57_percent_too_much():
    (result,) = judge([BASELINE], Agreeing())
    lockstep = result.of("lockstep")
    assert lockstep.attention_workers == 4
    assert lockstep.promise_error == pytest.approx(0.58, abs=0.02)
    assert lockstep.regret == pytest.approx(0.075, abs=0.01)
    assert result.of("paper's rule").attention_workers == 9
    assert result.of("exact").regret == 0
    assert result.best_attention_workers == 7
    assert [pick.method for pick in result.recommendations] == list(BASELINES)


def test_the_neighbours_of_the_best_are_always_simulated():
    laboratory = Agreeing()
    (result,) = judge([BASELINE], laboratory)
    best = result.best_attention_workers
    assert {best - 1, best, best + 1} <= set(result.simulated)
    assert {workers for workers, _ in recommended(BASELINE).values()} <= set(result.simulated)
    assert len({s.bundle.attention_workers for s in laboratory.played}) == len(laboratory.played)
    assert {s.seed for s in laboratory.played} == {0}  # common random numbers


def test_regret_counts_beyond_its_interval_only():
    (result,) = judge([BASELINE], Agreeing())
    pick = replace(result.of("exact"), regret=0.006, regret_half_width=0.002)
    (check,) = regret_check([replace(result, recommendations=(pick,))])
    assert check.holds
    assert check.worst == pytest.approx(0.004)
    pick = replace(pick, regret=0.008)
    (check,) = regret_check([replace(result, recommendations=(pick,))])
    assert check.broken == ("baseline",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces")
    rows = "".join(f"{0.1 * k},{100 + 7 * k % 900},{1 + k % 50}\n" for k in range(2000))
    (path / "a.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    (path / "manifest.json").write_text('[{"file": "a.csv"}]')
    (path / "notes.txt").write_text("not a trace")
    return path


def test_traces_of_a_folder_are_read_and_other_files_left_alone(folder):
    assert list(read_traces(str(folder))) == ["a.csv"]


def test_a_folder_without_traces_and_a_broken_trace_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="must be a folder"):
        read_traces(str(tmp_path / "none"))
    with pytest.raises(InvalidInputError, match="holds no request trace"):
        read_traces(str(tmp_path))
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TraceError):
        read_traces(str(tmp_path))


def test_trace_is_resampled_for_the_verdict_and_replayed_beside_it(folder):
    laboratory = Agreeing()
    traces = read_traces(str(folder))
    (result,) = judge_traces(traces, laboratory, declared_error=SYNCHRONOUS.cycle_time)
    resampled, replayed = laboratory.played
    assert replayed.lengths is traces["a.csv"]
    assert type(resampled.lengths).__name__ == "EmpiricalLengths"
    assert result.cells[0].is_declared  # layers were chosen so
    assert result.fills == 2000 / (8 * 16 * 2)
    assert result.is_too_short
    assert abs(result.replay_error) < 1e-9


def test_everything_holds_where_theory_and_simulation_agree(folder, monkeypatch):
    for cells in ("grid_cells", "short_cells"):  # a few of each: the others are no different here
        chosen = getattr(run, cells)()[:3]
        monkeypatch.setattr(run, cells, lambda *, full, chosen=chosen: chosen)
    monkeypatch.setattr(run, "ratio_cases", lambda *, full: [BASELINE])
    result = validate(
        ("paper", "simulation", "published"), Agreeing(), traces=read_traces(str(folder))
    )
    assert not result.broken
    assert result.covered_fraction == 1
    assert len(result.checks) == 7
    page = markdown_page(result)
    assert "All 7 declared bands hold" in page
    for cell in result.all_cells:
        assert cell.name in page
    assert set(validation_answer(result)) >= {"holds", "bands", "paper", "cells", "published"}
    rows = {fact.what: fact.verdict for fact in result.paper.facts}
    assert rows["r* at B=512, mean prompt 100, mean output 500"] == "not reproducible"
    assert sum(what.startswith("r* at") and v == "reproduced" for what, v in rows.items()) == 4
    assert rows["attention idle at r = 1"] == "not reproducible"


def test_a_broken_band_is_an_error_of_one_line_with_the_worst_cell():
    law = shaped_law("geometric", 1000, 300)
    cell = Cell(
        name="the only cell",
        group="grid",
        law=law,
        latency=PAPER,
        bundle=BASELINE.scenario(4).bundle,
        steps=100,
    )
    (seen,) = Agreeing(factor=1.03).observe([cell.scenario()])
    results = [compare(cell, seen, SYNCHRONOUS.cycle_time)]
    result = Validation(
        parts=("simulation",),
        full=False,
        cells=tuple(results),
        checks=tuple(cell_checks(results)),
    )
    assert result.covered_fraction == 0
    error = verdict_error(result)
    assert isinstance(error, ValidationError)
    assert "'the only cell'" in str(error)
    assert re.search(r"must be at most 1\.00 %, got 2\.\d\d %", str(error))
    assert "\n" not in str(error)
    assert "not hold" in validation_told(result).answer


def test_published_systems_are_predicted_within_3_percent():
    systems = published_systems()
    assert max(abs(s.largest_error) for s in systems if s.points) < 0.03
    assert systems[0].regret <= 0.01
    assert "not reproducible" in systems[-1].note
