"""How is a plan told to machines?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.files.latency_document import latency_document
from afdplan.lengths.law import LengthLaw
from afdplan.planning.alternatives import Alternative
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.held import Breach, HeldPart
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
            "split": plan.verdict.split,
            "gain": plan.verdict.gain,
            "gain_over_narrow_baseline": plan.verdict.narrow_gain,
            "interval": plan.verdict.interval,
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
        else {
            "arrival_rate": plan.spare.arrival_rate,
            "capacity": plan.spare.capacity,
            "spare_fraction": plan.spare.spare_fraction,
            "waiting_mean": plan.spare.waiting_mean,
            "waiting_p99": plan.spare.waiting_p99,
        },
        "supply": list(plan.supply),
        "sensitivity": list(plan.sensitivity),
        "basis": plan.basis,
        "holds_everywhere": plan.is_feasible,
        "breaches": [_breach(breach) for breach in plan.breaches],
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


def _breach(breach: Breach) -> dict[str, Any]:
    return {
        "part": breach.part,
        "limit": breach.limit,
        "value": breach.value,
        "allowed": breach.allowed,
        "excess": breach.excess,
        "text": str(breach),
    }


def _held(part: HeldPart) -> dict[str, Any]:
    return {
        "part": part.part,
        "mean_token_load": part.mean_token_load,
        "time_per_output_token": part.time_per_output_token,
        "meets_limit": part.meets_limit,
        "memory_overflow_probability": part.memory_overflow_probability,
        "requests_per_second": part.requests_per_second,
        "arrival_rate": part.arrival_rate,
        "breaks": [breach.limit for breach in part.breaches],
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


def colocated_answer(plan: Colocated) -> dict[str, Any]:
    """Return an un-split deployment and what it gives, by the names of ``recommended``."""
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
        "requests_per_second": plan.requests_per_second,
        "tokens_per_step": plan.tokens_per_step,
        "time_per_output_token": plan.time_per_output_token,
        "objective": plan.score,
        "step_time": {"mean": step.mean, "p50": step.p50, "p95": step.p95, "p99": step.p99},
        "memory_overflow_probability": plan.memory_overflow_probability,
    }
