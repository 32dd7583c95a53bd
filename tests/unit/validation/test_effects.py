"""Is the grid of every effect what it says, and do its bands see a theory that is off?"""

from __future__ import annotations

import dataclasses

import pytest

from afdplan.validation import run
from afdplan.validation.bands import effect_checks
from afdplan.validation.effect_cells import effect_cells
from afdplan.validation.laboratory import Laboratory
from tests.cli.invoke import invoke
from tests.validations import cell


def test_the_grid_has_every_dimension_and_names_its_cells():
    cells = effect_cells(full=True)
    assert len({one.name for one in cells}) == len(cells) == 120
    assert [one.name for one in effect_cells()] == [one.name for one in cells[:24]]
    assert all(one.is_declared and one.group == "effect" for one in cells)
    latencies = [one.latency for one in cells]
    assert {one.scatter.ffn for one in latencies} == {0.0, 0.05, 0.1, 0.2, 0.3}
    measured = {one.experts.imbalance for one in latencies} - {None}
    assert measured == {1.05, 1.1, 1.3, 1.6}
    bundles = [one.bundle for one in cells]
    ranks = {
        latency.experts.ranks(bundle.ffn_workers)
        for latency, bundle in zip(latencies, bundles, strict=True)
        if latency.experts.imbalance is None
    }
    assert min(ranks) == 1
    assert max(ranks) == 32
    shares = {latency.coupling.send_ffn for latency in latencies}
    assert shares == {0.0, 0.25, 0.5, 1.0}
    ratios = {one.attention_workers / one.ffn_workers for one in bundles}
    assert (min(ratios), max(ratios)) == (0.25, 64.0)
    assert any(ratio > 1 and ratio % 1 for ratio in ratios)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"error": 0.016}, [0]),
        ({"p99": 0.05}, [2]),
    ],
)
def test_a_theory_that_is_off_breaks_its_band(change, broken):
    results = [cell(f"{k}", "effect", **{"error": 0.002, **change} if k == 1 else {"error": 0.002})
               for k in range(5)]  # fmt: skip
    results[3] = dataclasses.replace(results[3], allowed=0.02, p99_distance=0.015)
    checks = effect_checks(results)
    assert [k for k, check in enumerate(checks) if not check.holds] == broken
    off = [cell(f"{k}", "effect", error=0.004) for k in range(5)]
    assert [k for k, check in enumerate(effect_checks(off)) if not check.holds] == [1]
    assert effect_checks([]) == []


def test_effects_are_played_where_they_are_asked_for(monkeypatch):
    few = [one for one in effect_cells() if one.bundle.attention_workers <= 2][:2]
    few = [dataclasses.replace(one, steps=600, precision=None) for one in few]
    for name in ("grid_cells", "short_cells", "ratio_cases"):
        monkeypatch.setattr(run, name, lambda **_: [])
    monkeypatch.setattr(run, "feature_cells", list)
    monkeypatch.setattr(run, "effect_cells", lambda **_: few)
    with Laboratory(jobs=1) as laboratory:
        result = run.validate(("simulation",), laboratory, effects=True)
        assert run.validate(("simulation",), laboratory).effects == ()
    assert [one.name for one in result.effects] == [one.name for one in few]
    limits = [0.01 if one.latency.scatter.ffn <= 0.1 else 0.02 for one in few]
    assert [one.allowed for one in result.effects] == limits
    assert all(abs(one.error) < 0.05 for one in result.effects)
    assert len(result.checks) == 3


def test_effects_belong_to_simulation():
    done = invoke("validate", "paper", "--effects")
    assert done.code == 2
    assert "--effects belongs to the part simulation, not to paper" in done.err
    done = invoke("validate", "simulation", "--effects", "--execution", "barrier-free")
    assert done.code == 2
    assert "--effects are of bundles with a barrier" in done.err
