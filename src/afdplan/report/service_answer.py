"""How is a whole service told to machines: prefill beside decoding, and what failures leave?"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.model.estimate import Estimate
from afdplan.planning.failure_plan import FailurePlan
from afdplan.planning.service import Service

if TYPE_CHECKING:
    from afdplan.planning.service_verify import ServiceVerification

__all__ = ["failure_answer", "service_answer", "verification_answer"]


def verification_answer(played: ServiceVerification | None) -> dict[str, Any] | None:
    """Return the service played end to end, for machines; None if it was not."""
    if played is None:
        return None

    def interval(found: Estimate) -> dict[str, float | None]:
        high = found.high if isfinite(found.high) else None
        return {"value": found.value, "low": found.low, "high": high}

    return {
        **chosen(played, "decode requests"),
        "first_token_p50": interval(played.first_token_p50),
        "first_token_p99": interval(played.first_token_p99),
        "predicted_first_token_p99": played.predicted_p99,
        "token_time_mean": played.token_time_mean,
        "token_time_p99": interval(played.token_time_p99),
        "latency_p50": interval(played.latency_p50),
        "latency_p99": interval(played.latency_p99),
        **chosen(played, "good_fraction goodput agrees"),
    }


def service_answer(
    service: Service | None, played: ServiceVerification | None = None
) -> dict[str, Any] | None:
    """Return a service for machines; None without one."""
    if service is None:
        return None
    first = service.first_token
    return {
        "prefill_workers": service.workers,
        "prefill_devices_per_worker": service.model.devices,
        "prefill_chunk_tokens": service.model.chunk_tokens,
        "prefill_devices": service.prefill_devices,
        "prefill_device_cost": service.plan.cost.of_prefill,
        "decode_devices": service.plan.recommended.devices,
        "devices": service.used_devices,
        "idle_devices": service.idle_devices,
        "requests_per_second": service.rate,
        "limited_by": service.limited_by or None,
        "time_to_first_token": {
            "limit": service.pool.limit.time_to_first_token,
            "statistic": service.pool.limit.first_token_statistic,
            **chosen(
                first,
                "mean p50 p95 p99 queue_mean queue_p99 alone_mean transfer_mean slot_mean slot_p99",
            ),
        },
        "prefill_utilization": first.utilization,
        "one_more": [
            {
                **chosen(step, "side change devices gain gain_per_device"),
                "requests_per_second": step.rate,
            }
            for step in service.steps
        ],
        "cases": [
            {**chosen(case, "name devices limited_by"), "requests_per_second": case.rate}
            for case in service.cases
        ],
        "baselines": [
            {**chosen(one, "kind deployment devices gain"), "requests_per_second": one.rate}
            for one in service.baselines
        ],
        "arrivals": service.pool.traffic.name,
        "prefill_model": service.model.name,
        "cached_fraction": service.pool.traffic.cached_fraction,
        "unique_kv_fraction": service.unique_fraction,
        "verification": verification_answer(played),
    }


def failure_answer(lost: FailurePlan | None) -> dict[str, Any] | None:
    """Return what failures do, for machines; None without any."""
    if lost is None:
        return None
    bundle = lost.bundle
    return {
        "bundle_failures_per_second": bundle.rate,
        **chosen(bundle, "outage availability share"),
        "lost_tokens_per_slot": bundle.lost_tokens,
        **chosen(
            lost,
            "tokens_per_second requests_per_second lost_tokens_per_second "
            "lost_requests_per_second no_spare_probability fewest_spares",
        ),
        "bundle_sizes": [
            {
                "most_devices": size.most_devices,
                "design": str(size.plan.design),
                "tokens_per_second": size.plan.tokens_per_second,
                "share": size.share,
                "objective": size.expected_score,
            }
            for size in lost.sizes
        ],
        "losses": lost.losses,
    }
