"""How is a plan told to people and to machines?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.files.latency_file import latency_document
from afdplan.lengths.law import LengthLaw
from afdplan.planning.alternatives import Alternative
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.plan import Plan
from afdplan.report.quantities import rate, share, time

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from afdplan.planning.verify import Verification

__all__ = ["design_answer", "plan_answer", "render_plan", "what_binds"]


def plan_answer(
    plan: Plan, law: LengthLaw, verified: tuple[Verification, ...] = ()
) -> dict[str, Any]:
    """Return the names that `plan --json` promises, and what `deploy` and `check` need."""
    load = law.token_load()
    best = plan.best_colocated
    return {
        "recommended": design_answer(plan.recommended),
        "alternatives": [_alternative(other) for other in plan.alternatives],
        "pareto_front": [design_answer(point) for point in plan.front],
        "colocated": None
        if best is None
        else _colocated(best) | {"by_width": [_colocated(plan) for plan in plan.colocated]},
        "verdict": {
            "split": plan.verdict.split,
            "gain": plan.verdict.gain,
            "gain_over_narrow_baseline": plan.verdict.narrow_gain,
            "reasons": list(plan.verdict.reasons),
        },
        "binding": [
            {
                "limit": price.limit,
                "binds": price.binds,
                "relaxation": price.relaxation,
                "gain": price.gain,
                "design": price.design,
            }
            for price in plan.binding
        ],
        "next_batch_size": None
        if plan.next_batch is None
        else {
            "batch_size": plan.next_batch.batch_size,
            "forbidden_by": list(plan.next_batch.forbidden_by),
            "gain": plan.next_batch.gain,
            "reason": str(plan.next_batch),
        },
        "memory": {
            "overflow_probability": plan.recommended.memory_overflow_probability,
            "mean_fraction": plan.recommended.memory_mean_fraction,
            "headroom_fraction": 1 - plan.recommended.memory_mean_fraction,
            "space": None
            if plan.cache is None
            else {
                "capacity": plan.cache.capacity,
                "kinds": [
                    {"per_token": kind.bytes_per_token, "window": kind.window}
                    for kind in plan.cache.kinds
                ],
            },
        },
        "spare_capacity": None
        if plan.spare is None
        else {
            "arrival_rate": plan.spare.arrival_rate,
            "capacity": plan.spare.capacity,
            "spare_fraction": plan.spare.spare_fraction,
            "waiting_mean": plan.spare.waiting_mean,
            "waiting_p99": plan.spare.waiting_p99,
        },
        "sensitivity": list(plan.sensitivity),
        "drift": list(plan.drift),
        "assumptions": list(plan.assumptions),
        "workload": {
            "mean_prompt_tokens": law.mean_prompt_tokens,
            "mean_decode_tokens": law.mean_decode_tokens,
            "token_load": {"mean": load.mean, "std": load.std},
        },
        "latency_model": latency_document(plan.latency),
        "verification": [_verification(case) for case in verified] or None,
        "evaluated_designs": plan.evaluated_designs,
    }


def _verification(case: Verification) -> dict[str, Any]:
    simulated = case.simulated_mean
    return {
        "name": case.name,
        "design": str(case.design),
        "predicted": {"mean": case.predicted_mean, "p99": case.predicted_p99},
        "simulated": {
            "mean": {"value": simulated.value, "low": simulated.low, "high": simulated.high},
            "p99": case.simulated_p99.value,
        },
        "mean_error": case.mean_error,
        "p99_error": case.p99_error,
        "agrees": case.agrees,
        "tokens_per_second_per_device": case.tokens_per_second_per_device,
    }


def design_answer(planned: PlannedDesign) -> dict[str, Any]:
    """Return a design and what it gives, by the names of ``recommended``."""
    design, step = planned.design, planned.step_time
    return {
        "bundles": design.bundles,
        "attention_workers": design.attention_workers,
        "ffn_workers": design.ffn_workers,
        "batch_size": design.batch_size,
        "microbatches": design.microbatches,
        "requests_per_attention_worker": design.requests_per_attention_worker,
        "attention_devices_per_worker": design.attention_devices,
        "ffn_devices_per_worker": design.ffn_devices,
        "devices": design.devices,
        "tokens_per_second": planned.tokens_per_second,
        "tokens_per_second_per_device": planned.tokens_per_second_per_device,
        "requests_per_second": planned.requests_per_second,
        "objective": planned.score,
        "step_time": {"mean": step.mean, "p50": step.p50, "p95": step.p95, "p99": step.p99},
        "tokens_per_step": planned.tokens_per_step,
        "time_per_output_token": planned.time_per_output_token,
        "memory_overflow_probability": planned.memory_overflow_probability,
        "memory_mean_fraction": planned.memory_mean_fraction,
        "attention_idle_fraction": planned.attention_idle_fraction,
        "ffn_idle_fraction": planned.ffn_idle_fraction,
    }


def _alternative(other: Alternative) -> dict[str, Any]:
    return {
        "change": other.change,
        "regret": other.regret,
        "breaks": other.breaks or None,
        **design_answer(other.plan),
    }


def _colocated(plan: Colocated) -> dict[str, Any]:
    step = plan.step_time
    return {
        "replicas": plan.replicas,
        "expert_parallel_width": plan.ranks * plan.devices_per_rank,
        "ranks": plan.ranks,
        "devices_per_rank": plan.devices_per_rank,
        "requests_per_rank": plan.requests_per_rank,
        "two_batch_overlap": plan.two_batch_overlap,
        "devices": plan.devices,
        "tokens_per_second": plan.tokens_per_second,
        "tokens_per_second_per_device": plan.tokens_per_second_per_device,
        "objective": plan.score,
        "step_time": {"mean": step.mean, "p50": step.p50, "p95": step.p95, "p99": step.p99},
        "memory_overflow_probability": plan.memory_overflow_probability,
    }


def _objective(plan: Plan, score: float) -> str:
    unit = {"device": "device", "currency": plan.cost.unit, "watt": "W"}[plan.cost.per]
    if plan.limits.devices is not None and plan.limits.requests_per_second is None:
        unit = {"device": "device of the budget"}.get(plan.cost.per, unit)
    return f"{rate(score, plan.latency.time_unit)} per {unit}"


def what_binds(plan: Plan) -> tuple[str, ...]:
    """Return which limits bind and what relaxing them brings; else why no more is to be had."""
    prices = tuple(f"{price.limit} ({price})" for price in plan.binding if price.binds)
    following = plan.next_batch
    if prices:
        return prices
    if following is None:
        return ("no limit that was relaxed gains; no larger batch was considered",)
    return (f"no limit alone, relaxed as far as was tried; {following}",)


def render_plan(plan: Plan, verified: tuple[Verification, ...] = ()) -> Group:
    """Return the plan as the terminal shows it."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [
        Text.assemble(("Deploy  ", "bold"), (str(plan.recommended.design), "bold green")),
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
        ("devices", f"{best.design.devices} in {best.design.bundles} bundle(s)"),
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
        held = point.step_time.statistic(plan.limits.statistic) / point.tokens_per_step
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
