"""How is a plan told to people?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.planning.plan import Plan
from afdplan.report.plan_words import headline, limits_in_words, what_binds
from afdplan.report.quantities import counted, rate, share, time

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from afdplan.planning.verify import Verification

__all__ = ["render_plan"]


def _objective(plan: Plan, score: float) -> str:
    unit = plan.cost.unit
    if plan.limits.devices is not None and plan.limits.requests_per_second is None:
        unit = "device of the budget" if plan.cost.per == "device" else unit
    return f"{rate(score, plan.latency.time_unit)} per {unit}"


def render_plan(plan: Plan, verified: tuple[Verification, ...] = ()) -> Group:
    """Return the plan as the terminal shows it."""
    from rich.console import Group
    from rich.text import Text

    style = {"yes": "green", "no": "red", "even": "yellow"}[plan.verdict.split]
    parts: list[Any] = [
        Text(headline(plan), style=f"bold {style}"),
        Text(),
        Text.assemble(("Limits  ", "bold"), "; ".join(limits_in_words(plan))),
        Text.assemble(("Design  ", "bold"), str(plan.recommended.design)),
        _summary(plan),
        Text(),
        _verdict(plan),
        Text(),
    ]
    parts += [Text.assemble(("What binds  ", "bold"), "; ".join(what_binds(plan)))]
    parts += [Text(), _alternatives_table(plan), Text(), _front_table(plan)]
    if plan.colocated:
        parts += [Text(), _colocated_table(plan)]
    if verified:
        parts += [Text(), _verification_table(plan, verified)]
    parts += [Text(), _sensitivity_table(plan)]
    if plan.drift:
        parts += [Text(), _drift_table(plan)]
    for title, lines in (("Warnings", plan.warnings), ("Assumed", plan.assumptions)):
        if lines:
            style = "yellow" if title == "Warnings" else "dim"
            parts += [Text(), Text(title, style="bold")]
            parts += [Text(f"  {line}", style=style) for line in lines]
    return Group(*parts)


def _summary(plan: Plan) -> Table:
    best, unit = plan.recommended, plan.latency.time_unit
    step = best.step_time
    rows = [
        ("devices", f"{best.design.devices:,} in {counted(best.design.bundles, 'bundle')}"),
        ("slots", f"{best.design.requests_per_attention_worker} requests per attention worker"),
        (
            "throughput",
            f"{rate(best.tokens_per_second, unit)} in all, "
            f"{rate(best.tokens_per_second_per_device, unit)} per device in use",
        ),
        ("objective", _objective(plan, best.score)),
        (
            "step time",
            f"mean {time(step.mean, unit)}, p95 {time(step.p95, unit)}, p99 {time(step.p99, unit)}",
        ),
        (
            "idle",
            f"attention {share(best.attention_idle_fraction)}, FFN {share(best.ffn_idle_fraction)}",
        ),
    ]
    if best.memory_mean_fraction > 0:
        rows.append(
            (
                "KV memory",
                f"{share(best.memory_mean_fraction)} used on average; overflow probability "
                f"{best.memory_overflow_probability:.2g} per worker and step",
            )
        )
    spare = plan.spare
    if spare is not None:
        text = (
            f"{spare.arrival_rate:.4g} requests/s arrive, {spare.capacity:,.0f} can be finished: "
            f"{share(spare.spare_fraction)} spare"
        )
        if spare.waiting_p99 is not None:
            text += f"; waiting for a slot p99 {spare.waiting_p99:.3g} s"
        rows.append(("capacity", text))
    table = _grid(2)
    for name, value in rows:
        table.add_row(f"  {name}", value)
    return table


def _verdict(plan: Plan) -> Any:
    from rich.text import Text

    style = {"yes": "green", "no": "red", "even": "yellow"}[plan.verdict.split]
    first, *others = plan.verdict.reasons
    text = Text.assemble(("Split?  ", "bold"), (first, style))
    for reason in others:
        text.append(f"\n        {reason}")
    return text


def _grid(columns: int) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column()
    return table


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _alternatives_table(plan: Plan) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "Alternatives", ("change", False), ("design", False), ("regret", True), ("step", True)
    )
    for other in plan.alternatives:
        regret = share(other.regret) + (f", breaks {other.breaks}" if other.breaks else "")
        table.add_row(
            other.change, str(other.plan.design), regret, time(other.plan.step_time.mean, unit)
        )
    return table


def _front_table(plan: Plan) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "Throughput against time per output token (each the exact best)",
        (f"TPOT ({plan.limits.statistic})", True),
        ("tokens/s per device in use", True),
        ("design", False),
    )
    for point in plan.front:
        held = point.token_time(plan.limits.statistic)
        chosen = point.design == plan.recommended.design
        table.add_row(
            time(held, unit),
            _count(point.tokens_per_second_per_device),
            str(point.design) + ("  <- recommended" if chosen else ""),
        )
    return table


def _colocated_table(plan: Plan) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "Without a split (best of each expert-parallel width)",
        ("width", True),
        ("deployment", False),
        ("step", True),
        ("tokens/s per device in use", True),
    )
    for other in plan.colocated:
        mark = "  <- baseline" if other is plan.best_colocated else ""
        table.add_row(
            str(other.ranks * other.devices_per_rank),
            str(other) + mark,
            time(other.step_time.mean, unit),
            _count(other.tokens_per_second_per_device),
        )
    return table


def _verification_table(plan: Plan, verified: tuple[Verification, ...]) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "Simulated (independent of the theory)",
        ("design", False),
        ("predicted mean", True),
        ("simulated mean", True),
        ("error", True),
        ("p99 error", True),
        ("", False),
    )
    for case in verified:
        half = share(case.simulated_mean.relative_half_width)
        table.add_row(
            case.name,
            time(case.predicted_mean, unit),
            f"{time(case.simulated_mean.value, unit)} +- {half}",
            f"{case.mean_error:+.2%}".replace("%", " %"),
            f"{case.p99_error:+.2%}".replace("%", " %"),
            "agrees" if case.agrees else "DISAGREES",
        )
    return table


def _sensitivity_table(plan: Plan) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "If an input were another",
        ("input", False),
        ("change", True),
        ("throughput", True),
        (f"TPOT ({plan.limits.statistic})", True),
        ("A would be", True),
        ("regret", True),
    )
    for row in plan.sensitivity:
        held = time(row.time_per_output_token, unit)
        table.add_row(
            row.input,
            f"{row.change:+.1%}".replace("%", " %"),
            f"{row.throughput_change:+.1%}".replace("%", " %"),
            held if row.meets_limit else f"{held}, too slow",
            str(row.best_attention_workers),
            share(max(row.regret, 0.0)),
        )
    return table


def _drift_table(plan: Plan) -> Table:
    unit = plan.latency.time_unit
    table = _table(
        "The plan under each part of the trace",
        ("part", False),
        ("mean token load", True),
        (f"TPOT ({plan.limits.statistic})", True),
        ("overflow probability", True),
    )
    for window in plan.drift:
        held = time(window.time_per_output_token, unit)
        table.add_row(
            window.part,
            f"{window.mean_token_load:,.0f}",
            held if window.meets_limit else f"{held}, too slow",
            f"{window.memory_overflow_probability:.2g}",
        )
    return table
