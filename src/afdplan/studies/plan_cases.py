"""How is the best deployment of one case of a study found, and laid out in columns?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from afdplan.deploy.registry import find_target, target_names
from afdplan.errors import InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.planning.chosen_source import chosen_source
from afdplan.planning.colocated import best_colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import source_for
from afdplan.planning.space import SearchSpace, graph_batch_sizes
from afdplan.planning.verdict import judge
from afdplan.studies.columns import Column, numbers
from afdplan.studies.kinds import CaseInputs, ComputeKind

__all__ = ["KIND", "plan_columns"]

COSTS = (of_plan.ATTENTION_DEVICE_COST, of_plan.FFN_DEVICE_COST)
PARAMETERS = (
    *of_plan.LIMITS,
    of_plan.TARGET.changed(choices=target_names()),
    ask.BATCH_SIZE,
    of_plan.LARGEST_BATCH_SIZE,
    ask.MICROBATCHES.changed(default=None),
    ask.FFN_WORKERS.changed(default=None),
    ask.MAX_ATTENTION_WORKERS,
    ask.PLACEMENT,
    of_plan.KV_TOKENS,
    of_plan.COLOCATED_KV_TOKENS,
    *COSTS,
)
_DESIGN = (
    *("bundles", "attention_workers", "ffn_workers", "batch_size", "microbatches"),
    *("attention_devices", "ffn_devices", "devices"),
)
_RATES = ("score", "tokens_per_second", "tokens_per_second_per_device")
_SHARES = ("memory_overflow_probability", "attention_idle_fraction", "ffn_idle_fraction")
ANSWERS = (
    *numbers(" ".join(f"planned_{name}" for name in _DESIGN), "count"),
    Column(name="requests_per_attention_worker", data="count"),
    *numbers(" ".join((*_RATES, "served_requests_per_second"))),
    *numbers("step_time_mean step_time_p50 step_time_p95 step_time_p99"),
    *numbers(" ".join(_SHARES)),
    Column(name="colocated_devices", data="count"),
    *numbers("colocated_score gain_over_colocated"),
    Column(name="split", data="text"),
)


def plan_columns(case: CaseInputs) -> dict[str, Any]:
    """Return the best deployment and its gain over the colocated one, by column.

    What `afdplan plan` computes besides (alternatives, sensitivities) is left out: it takes
    several times as long.
    """
    values = case.values
    source = chosen_source(case.choice, case.measured)
    limits = Limits(**{one.field: values[one.name] for one in of_plan.LIMITS})
    cost = DeviceCost(**{one.field: values[one.name] for one in COSTS})
    space = _space(values)
    source = source_for(space.target, source)
    search = DesignSearch(case.law, source, space, cost)
    best = search.best(limits)
    if best is None:
        raise explain_infeasible(search, limits)
    design = best.design
    latency = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    colocated = tuple(ColocatedSearch.of(search).widths(limits))
    baseline = best_colocated(colocated)
    verdict = judge(case.law, source, best, colocated, limits, latency)
    return {
        **{f"planned_{name}": getattr(design, name) for name in _DESIGN},
        "requests_per_attention_worker": design.requests_per_attention_worker,
        **{name: getattr(best, name) for name in (*_RATES, *_SHARES)},
        "served_requests_per_second": best.requests_per_second,
        **{f"step_time_{name}": value for name, value in asdict(best.step_time).items()},
        "colocated_devices": None if baseline is None else baseline.devices,
        "colocated_score": None if baseline is None else baseline.score,
        "gain_over_colocated": verdict.gain,
        "split": verdict.split,
    }


def _space(values: Mapping[str, Any]) -> SearchSpace:
    size, microbatches = values["batch_size"], values["microbatches"]
    workers, target = values["ffn_workers"], find_target(values["target"])
    return SearchSpace(
        batch_sizes=graph_batch_sizes(values["largest_batch_size"]) if size is None else (size,),
        fills_gaps=size is None,
        microbatches=target.microbatches if microbatches is None else (microbatches,),
        target=target,
        max_attention_workers=values["max_attention_workers"],
        ffn_workers=None if workers is None else (workers,),
        placement=values["placement"],
    )


def _check(names: frozenset[str]) -> None:
    if not {"devices", "requests_per_second"} & names:
        raise InvalidInputError(
            "a study of plans needs a budget or a goal: devices, requests_per_second, or both"
        )


KIND = ComputeKind(
    name="plan",
    parameters=PARAMETERS,
    answers=ANSWERS,
    measure="score",
    shown=(
        "planned_bundles",
        "planned_attention_workers",
        "planned_ffn_workers",
        "planned_batch_size",
        "gain_over_colocated",
        "split",
    ),
    compute=plan_columns,
    check=_check,
)
