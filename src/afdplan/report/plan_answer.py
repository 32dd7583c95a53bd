"""How is a plan told to machines?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from afdplan.files.latency_document import latency_document
from afdplan.lengths.law import LengthLaw
from afdplan.model.chosen import chosen
from afdplan.planning.alternatives import Alternative
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.held import HeldPart
from afdplan.planning.plan import Plan
from afdplan.planning.standing import standings

if TYPE_CHECKING:
    from afdplan.planning.verify import Verification

__all__ = ["colocated_answer", "design_answer", "plan_answer"]


def plan_answer(
    plan: Plan, law: LengthLaw, verified: tuple[Verification, ...] = ()
) -> dict[str, Any]:
    """Return the names that `plan --json` promises, and what `deploy` and `check` need."""
    load = law.token_load()
    best = plan.best_colocated
    return {
        "recommended": {
            "kind": plan.kind,
            **(
                colocated_answer(plan.recommended)
                if isinstance(plan.recommended, Colocated)
                else design_answer(plan.recommended)
            ),
        },
        "split": {**design_answer(plan.split), "breaks": plan.split_breaks or None},
        "alternatives": [_alternative(other) for other in plan.alternatives],
        "pareto_front": [design_answer(point) for point in plan.front],
        "colocated": None
        if best is None
        else colocated_answer(best)
        | {"by_width": [colocated_answer(plan) for plan in plan.colocated]},
        "verdict": {
            **chosen(plan.verdict, "split gain"),
            "gain_over_narrow_baseline": plan.verdict.narrow_gain,
            **chosen(plan.verdict, "interval reasons"),
        },
        "binding": [chosen(price, "limit binds relaxation gain design") for price in plan.binding],
        "next_batch_size": None
        if plan.next_batch is None
        else {
            **chosen(plan.next_batch, "batch_size forbidden_by gain"),
            "reason": str(plan.next_batch),
        },
        "memory": {
            "overflow_probability": plan.split.memory_overflow_probability,
            "mean_fraction": plan.split.memory_mean_fraction,
            "headroom_fraction": 1 - plan.split.memory_mean_fraction,
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
        else chosen(plan.spare, "arrival_rate capacity spare_fraction waiting_mean waiting_p99"),
        **chosen(plan, "supply sensitivity basis"),
        "holds_everywhere": plan.is_feasible,
        "breaches": [
            chosen(breach, "part limit value allowed excess") | {"text": str(breach)}
            for breach in plan.breaches
        ],
        "limits": list(standings(plan)),
        "drift": [_held(part) for part in plan.drift],
        "interval": [_held(end) for end in plan.interval],
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


def _held(part: HeldPart) -> dict[str, Any]:
    return {
        **chosen(
            part,
            "part mean_token_load time_per_output_token meets_limit memory_overflow_probability "
            "requests_per_second arrival_rate",
        ),
        "breaks": [breach.limit for breach in part.breaches],
    }


def _verification(case: Verification) -> dict[str, Any]:
    return {
        "name": case.name,
        "design": str(case.design),
        "predicted": {"mean": case.predicted_mean, "p99": case.predicted_p99},
        "simulated": {
            "mean": chosen(case.simulated_mean, "value low high"),
            "p99": case.simulated_p99.value,
        },
        **chosen(case, "mean_error p99_error agrees tokens_per_second_per_device"),
    }


def design_answer(planned: PlannedDesign) -> dict[str, Any]:
    """Return a design and what it gives, by the names of ``recommended``."""
    design = planned.design
    return {
        **chosen(design, "bundles attention_workers ffn_workers batch_size microbatches"),
        "requests_per_attention_worker": design.requests_per_attention_worker,
        "attention_devices_per_worker": design.attention_devices,
        "ffn_devices_per_worker": design.ffn_devices,
        "devices": design.devices,
        **chosen(planned, "tokens_per_second tokens_per_second_per_device requests_per_second"),
        "objective": planned.score,
        "step_time": asdict(planned.step_time),
        **chosen(
            planned,
            "tokens_per_step time_per_output_token memory_overflow_probability "
            "memory_mean_fraction attention_idle_fraction ffn_idle_fraction",
        ),
    }


def _alternative(other: Alternative) -> dict[str, Any]:
    return {
        "change": other.change,
        "regret": other.regret,
        "breaks": other.breaks or None,
        **design_answer(other.plan),
    }


def colocated_answer(plan: Colocated) -> dict[str, Any]:
    """Return an un-split deployment and what it gives, by the names of ``recommended``."""
    return {
        "replicas": plan.replicas,
        "expert_parallel_width": plan.ranks * plan.devices_per_rank,
        **chosen(
            plan,
            "ranks devices_per_rank requests_per_rank two_batch_overlap devices tokens_per_second "
            "tokens_per_second_per_device requests_per_second tokens_per_step "
            "time_per_output_token",
        ),
        "objective": plan.score,
        "step_time": asdict(plan.step_time),
        "memory_overflow_probability": plan.memory_overflow_probability,
    }
