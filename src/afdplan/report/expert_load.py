"""How is the measured load of experts told to a person and to a machine?"""

from __future__ import annotations

from typing import Any

from afdplan.calibration.expert_load import ExpertFit
from afdplan.report.quantities import counted, number, share
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

__all__ = ["expert_answer", "expert_told"]

MOST_ROWS = 9


def expert_answer(fit: ExpertFit) -> dict[str, Any]:
    """Return what ``afdplan calibrate --json`` says of the load of experts."""
    record = fit.record
    return {
        "format": record.format,
        "layers": None if record.counts is None else record.counts.shape[0],
        "experts": None if record.counts is None else record.counts.shape[1],
        "passes": None if record.busiest is None else record.busiest.size,
        "imbalance": fit.load.imbalance,
        "imbalance_cv": None if fit.load.imbalance is None else fit.load.imbalance_cv,
        "balances": fit.balances,
    }


def expert_told(fit: ExpertFit) -> Telling:
    """Return what the busiest rank has to do over the mean, and what placing anew would bring."""
    record = fit.record
    if record.counts is None:
        (balance,) = fit.balances
        assert record.busiest is not None
        of = "rank" if balance.ranks is None else f"of {counted(balance.ranks, 'rank')}"
        answer = f"The busiest {of} has {share(balance.as_it_is - 1)} more to do than the mean one"
        if balance.placed_anew is not None:
            answer += f"; rebalanced, the system expects {share(balance.placed_anew - 1)}"
        facts = (
            Fact("Passes", f"{record.busiest.size:,}, {record.format}"),
            Fact("Scatter", f"{number(float(record.busiest.std()))} of the mean rank's load"),
        )
        return Telling(
            subject=record.source, answer=f"{answer}.", facts=facts, assumptions=record.notes
        )
    layers, experts = record.counts.shape
    told = min(fit.balances, key=lambda one: abs((one.ranks or 0) - 16), default=None)
    answer = f"{counted(experts, 'expert')} in {counted(layers, 'layer')} were counted."
    if told is not None and told.placed_anew is not None:
        answer = (
            f"Of {counted(told.ranks or 0, 'rank')}, the busiest has {share(told.as_it_is - 1)} "
            f"more to do than the mean one; placed anew {share(told.placed_anew - 1)}."
        )
    rows = [
        (f"{one.ranks}", f"{one.as_it_is:.3f}", f"{one.placed_anew:.3f}")
        for one in fit.balances[:MOST_ROWS]
    ]
    shares = record.counts / record.counts.sum(axis=1, keepdims=True)
    busiest = float((shares.max(axis=1) * experts).mean())
    return Telling(
        subject=record.source,
        answer=answer,
        facts=(
            Fact("Counted", f"{counted(experts, 'expert')}, {counted(layers, 'layer')}"),
            Fact("Most popular", f"{number(busiest)} times the mean expert, mean over layers"),
        ),
        tables=(
            TextTable(
                title="Busiest rank over the mean rank, mean over layers, without chance",
                columns=("ranks", "as it is", "placed anew"),
                rows=rows,
                left=0,
                note="Placed anew: each layer's experts dealt out once more, no copies.",
            ),
        ),
        assumptions=record.notes,
    )
