"""A validation with made-up numbers, of any size: what it is told with must not depend on luck."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from afdplan.model.estimate import Estimate
from afdplan.validation.ablation import Ablation
from afdplan.validation.bands import (
    BARRIER_FREE,
    SYNCHRONOUS,
    cell_checks,
    mode_checks,
    published_checks,
    regret_check,
)
from afdplan.validation.baseline import CurvePoint
from afdplan.validation.cell import CellResult
from afdplan.validation.laboratory import Observation
from afdplan.validation.mode_regret import ModeDesign, ModeResult
from afdplan.validation.paper import PaperFact, PaperResult
from afdplan.validation.pool_published import pool_facts
from afdplan.validation.published import PublishedSystem, published_systems
from afdplan.validation.regret import BASELINES, RatioResult, Recommendation
from afdplan.validation.run import Validation
from afdplan.validation.traces import TraceResult


def estimate(value: float, share: float = 0.003) -> Estimate:
    return Estimate(
        value=value,
        low=value * (1 - share),
        high=value * (1 + share),
        confidence=0.95,
        method="made up",
    )


def cell(name, group="grid", error=0.001, *, rounds=300.0, width=0.003, p99=0.002, p99_width=0.01):
    """A cell whose exact error is `error`; the mean field says 10 % less."""
    is_declared = rounds >= 200
    return CellResult(
        name=name,
        group=group,
        rounds=rounds,
        is_declared=is_declared,
        attention_workers=8,
        ffn_workers=1,
        batch_size=64,
        microbatches=2,
        layers=1,
        simulated=Observation(
            cycle_time=estimate(100.0, width),
            throughput_per_instance=estimate(0.5),
            attention_idle_fraction=estimate(0.1),
            ffn_idle_fraction=estimate(0.2),
            step_time_p99=estimate(130.0, p99_width),
            steps=1000,
            replications=1,
            mean_token_load=500.0,
        ),
        errors={"mean-field": error - 0.1, "gaussian": error - 0.01, "exact": error},
        distance=max(abs(error) - width, 0.0),
        allowed=SYNCHRONOUS.cycle_time if is_declared else 0.3 / rounds,
        p99_error=p99,
        p99_distance=max(abs(p99) - p99_width, 0.0),
    )


OUTSIDE = replace(cell("law 3", "outside", 0.04), is_declared=False, allowed=0.12)


def cells(count: int = 12) -> tuple[CellResult, ...]:
    """Laws, three features, four short lives."""
    laws = [
        cell(f"law {k}", error=0.006 * (-1) ** k * (k % 7) / 7, p99=0.001 * (k % 5), p99_width=0.03)
        for k in range(count)
    ]
    features = [cell(f"feature {k}", "feature", error=0.002 * k) for k in range(3)]
    short = [
        cell(f"short {k}", "short", error=0.01 / rounds, rounds=rounds)
        for k, rounds in enumerate((1.0, 5.0, 5.0, 100.0))
    ]
    return (*laws, *features, *short)


def trace(name: str, error: float = 0.001, replay: float = 0.02, fills: float = 50.0):
    return TraceResult(
        file=name,
        requests=1000,
        mean_token_load=700.0,
        std_token_load=300.0,
        cells=(cell(f"{name}, balanced", "trace", error),),
        replay_error=replay,
        replay_cycle_time=estimate(98.0, 0.01),
        fills=fills,
        is_too_short=fills < 20,
    )


def ratio(name: str, lost: float = 0.1) -> RatioResult:
    """A case: exact is right, the n-th of the other methods gives up n/5 of `lost`."""
    picks = [
        Recommendation(
            method=method,
            attention_workers=8 - k,
            promised=0.5 * (1 + 0.1 * k),
            delivered=0.5 * (1 - lost * k / 5),
            regret=lost * k / 5,
            regret_half_width=0.001,
        )
        for k, method in enumerate(BASELINES)
    ]
    return RatioResult(
        name=name,
        best_attention_workers=8,
        simulated={8 - k: pick.delivered for k, pick in enumerate(picks)},
        recommendations=tuple(picks),
    )


def paper() -> PaperResult:
    curve = tuple(
        CurvePoint(
            attention_workers=r,
            mean_field=0.8 - 0.01 * abs(r - 9),
            gaussian=0.76 - 0.01 * abs(r - 9),
            exact=0.75 - 0.01 * abs(r - 9),
            pipelined=0.72 - 0.01 * abs(r - 8),
            pipelined_ffn_idle=max(0.6 - 0.03 * r, 0.0),
            fresh=estimate(0.74 - 0.01 * abs(r - 8)),
            stationary=estimate(0.721 - 0.01 * abs(r - 8)),
            fresh_idle=(0.02 * r, max(0.58 - 0.03 * r, 0.0)),
            stationary_idle=(0.018 * r, max(0.6 - 0.03 * r, 0.0)),
        )
        for r in (1, 4, 8, 16, 32)
    )
    facts = (
        PaperFact(what="r* at B=256", published="9.30", ours="9.301", verdict="reproduced"),
        PaperFact(
            what="attention idle at r = 1",
            published="10 %",
            ours="0.2 %",
            verdict="not reproducible",
            why="two microbatches keep the only worker busy",
        ),
    )
    ablation = Ablation(
        batch_size=256,
        mean_prompt=100,
        mean_decode=500,
        rule=9.55,
        pipelined=7,
        simulated=7,
        regret_of_rule=0.028,
        regret_of_pipelined=0.0,
    )
    return PaperResult(facts=facts, curve=curve, ablations=(ablation,))


def mode(name: str, said: str = "barrier-free", gain: float = 0.06) -> ModeResult:
    """A case whose simulation is 1 % off what is said, with the best rule but one."""
    return ModeResult(
        name=name,
        said=said,
        expected_gain=gain + 0.01,
        gain=gain,
        gain_half_width=0.004,
        synchronous=ModeDesign(execution="synchronous", attention_workers=8),
        barrier_free=ModeDesign(execution="barrier-free", attention_workers=6, least_calls=2),
        best_synchronous=ModeDesign(execution="synchronous", attention_workers=7),
        best_barrier_free=ModeDesign(execution="barrier-free", attention_workers=6, least_calls=3),
        regret=0.004,
        regret_half_width=0.003,
        simulated=14,
    )


def barrier_free(*, broken: bool = False) -> Validation:
    """Everything there is of bundles without the barrier; if `broken`, one verdict is wrong."""
    cells = (cell("law 1", error=0.02, p99=0.03), cell("law 2", error=-0.001), OUTSIDE)
    traces = (trace("long.csv"),)
    modes = [mode("case 1"), mode("case 2", "synchronous", -0.03)]
    modes += [mode("wrong", gain=-0.05)] if broken else []
    every = [*cells, *(c for t in traces for c in t.cells)]
    return Validation(
        parts=("simulation", "published"),
        full=False,
        execution="barrier-free",
        cells=cells,
        traces=traces,
        modes=tuple(modes),
        pool=tuple(pool_facts()),
        checks=(*cell_checks(every, BARRIER_FREE), *mode_checks(modes)),
    )


@cache
def _systems() -> tuple[PublishedSystem, ...]:
    return tuple(published_systems())


def validation(count: int = 12, *, broken: bool = False) -> Validation:
    """Everything there is, over `count` laws; if `broken`, one cell is 5 % off."""
    laws = cells(count)
    if broken:
        laws = (cell("the broken one", error=0.05), *laws)
    traces = (trace("long.csv"), trace("brief.csv", replay=-0.004, fills=3.0))
    ratios = (ratio("case 1"), ratio("case 2", 0.04), ratio("case 3", 0.2))
    systems = _systems()
    checks = (
        *cell_checks([*laws, *(c for t in traces for c in t.cells)]),
        *regret_check(ratios),
        *published_checks(systems),
    )
    return Validation(
        parts=("paper", "simulation", "published"),
        full=False,
        paper=paper(),
        cells=laws,
        traces=traces,
        ratios=ratios,
        published=systems,
        checks=checks,
    )
