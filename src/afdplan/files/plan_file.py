"""What does a plan file promise, and was it edited by hand into something impossible?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from afdplan.errors import InvalidInputError, LatencyModelError, placed
from afdplan.files.document import LARGEST_DOCUMENT, Readable, open_source, read_document
from afdplan.files.latency_document import latency_from_document
from afdplan.files.plan_barrier_free import BarrierFreePlan, barrier_free_from_document
from afdplan.files.plan_unsplit import UnsplitPlan, recommends_unsplit, unsplit_from_document
from afdplan.model import plan_parameters as ask
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_count, check_number
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import Parameter
from afdplan.model.words import counted

__all__ = ["PLAN_SCHEMA_VERSION", "PlanFile", "plan_from_document", "read_plan"]

PLAN_SCHEMA_VERSION = 1
CLOSE = 1e-6
"""Relative difference that rounding in JSON may leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """The part of `plan --json` that `deploy` and `check` rely on.

    Attributes
    ----------
    bundles, bundle, attention_devices, ffn_devices
        The recommended design; devices are those of one worker.
    latency
        Stage times of the design.
    step_time_mean, step_time_p99
        Promised [s]; the p99 is None where only the mean is known.
    tokens_per_second
        Promised, of all bundles.
    mean_prompt_tokens, mean_decode_tokens, mean_token_load
        Of the workload that was planned for [tokens].
    time_per_output_token, statistic
        The limit [s], None without, and the statistic held against it.
    overflow_probability
        The limit on the chance of a KV overflow.
    cache_capacity, cache_kinds
        Room for KV cache on one attention device and what one token takes of it, as pairs of
        (amount, window); None without a limit.
    planned_regret
        Regret of the recommended A under the planned workload itself: what a budget or a limit
        costs, not a change of the requests.
    planned_replan_regret
        The same of the whole design against one planned again: what holding in the hardest part of
        the trace costs.
    model, target
        What is served and on which system; empty if the plan does not say.
    target_version
        Version of the system; None if the plan does not say.
    unsplit, recommends_unsplit
        The best deployment without a split, None if there is none, and whether it is what the
        plan recommends; `bundle` is the best split all the same.
    barrier_free
        The same split without the barrier; None if the plan compared no modes.
    prefill_workers, prefill_devices
        Prefill workers of the whole service, and devices of each; 0 if only decoding was planned.
    prefill_chunk
        Most tokens of one of their passes [tokens]; None if the plan does not say.
    least_calls
        Calls that wait before an FFN pool without a barrier departs.
    afdplan_version
        That wrote the file.
    inputs
        What was asked, as written; unchecked beyond the names above.
    command
        The command line that made the plan, as written; empty if the file does not say.
    """

    bundles: int
    bundle: Bundle
    attention_devices: int
    ffn_devices: int
    latency: LatencyModel
    step_time_mean: float
    step_time_p99: float | None
    tokens_per_second: float
    mean_prompt_tokens: float
    mean_decode_tokens: float
    mean_token_load: float
    time_per_output_token: float | None
    statistic: ask.Statistic
    overflow_probability: float
    cache_capacity: float | None
    cache_kinds: tuple[tuple[float, int | None], ...]
    planned_regret: float
    planned_replan_regret: float = 0.0
    model: str
    target: str
    target_version: str | None
    unsplit: UnsplitPlan | None
    recommends_unsplit: bool
    barrier_free: BarrierFreePlan | None = None
    least_calls: int = 1
    prefill_workers: int = 0
    prefill_devices: int = 1
    prefill_chunk: int | None = None
    afdplan_version: str
    inputs: Mapping[str, Any]
    command: str = ""

    def __str__(self) -> str:
        """Return in a sentence what the plan recommends."""
        if self.recommends_unsplit and self.unsplit is not None:
            ours = self.unsplit
            groups = f"{ours.replicas:,} x " if ours.replicas > 1 else ""
            return (
                f"{self.model or self.latency.name}: {groups}{counted(ours.ranks, 'rank')}, "
                f"{ours.requests_per_rank:,} requests each, without a split, on "
                f"{counted(ours.devices, 'device')}."
            )
        return (
            f"{self.model or self.latency.name}: {counted(self.bundles, 'bundle')} of "
            f"{self.bundle}, on {counted(self.devices, 'device')}."
        )

    @property
    def cache_tokens(self) -> int | None:
        """Tokens whose KV cache an attention device holds; None where layers differ, or no limit.

        Windows hold no more than their length, so no one number would be right.
        """
        if self.cache_capacity is None or any(window for _, window in self.cache_kinds):
            return None
        return int(self.cache_capacity / sum(amount for amount, _ in self.cache_kinds))

    @property
    def devices(self) -> int:
        """Devices of all bundles."""
        return self.bundles * (
            self.bundle.attention_workers * self.attention_devices
            + self.bundle.ffn_workers * self.ffn_devices
        )


def read_plan(path: Readable) -> PlanFile:
    """Return the plan in a JSON file that `afdplan plan --json` wrote.

    Raises
    ------
    InvalidInputError
        If the file is missing, no plan, of another schema, or its numbers contradict each other.
    """
    with open_source(path, "a plan", limit=LARGEST_DOCUMENT) as source:
        document = read_document(source, "a plan", is_json=True)
        with placed(source.name):
            return plan_from_document(document)


def plan_from_document(document: dict[str, Any]) -> PlanFile:
    """Return the plan of a parsed document, checked against itself."""
    version = document.get("schema_version")
    if version != PLAN_SCHEMA_VERSION or isinstance(version, bool):
        raise InvalidInputError(
            f"schema_version must be {PLAN_SCHEMA_VERSION}, got {version!r:.40}; write the plan "
            "again with afdplan plan --json"
        )
    best = _table(document, "split" if recommends_unsplit(document) else "recommended")
    bundle = Bundle(
        attention_workers=_need(best, "recommended", "attention_workers"),
        ffn_workers=_need(best, "recommended", "ffn_workers"),
        batch_size=_need(best, "recommended", "batch_size"),
        microbatches=_need(best, "recommended", "microbatches"),
    )
    bundles, attention_devices, ffn_devices = (
        check_count(f"recommended.{name}", _need(best, "recommended", name), 1, 1_000_000)
        for name in ("bundles", "attention_devices_per_worker", "ffn_devices_per_worker")
    )
    step = _table(best, "step_time", "recommended.")
    step_time_mean = _number(step, "step_time", "mean", strict=True)
    step_time_p99 = _number(step, "step_time", "p99", strict=True)
    tokens_per_second = _number(best, "recommended", "tokens_per_second", strict=True)
    try:
        latency = latency_from_document(_table(document, "latency_model"), "plan")
    except LatencyModelError as error:
        raise InvalidInputError(f"latency_model: {error}") from None
    workload, inputs = _table(document, "workload"), _table(document, "inputs")
    prefill = _table(document, "service") if document.get("service") is not None else {}
    capacity, kinds = _space(_table(document, "memory").get("space"))
    plan = PlanFile(
        bundles=bundles,
        bundle=bundle,
        attention_devices=attention_devices,
        ffn_devices=ffn_devices,
        latency=latency,
        step_time_mean=step_time_mean,
        step_time_p99=step_time_p99,
        tokens_per_second=tokens_per_second,
        mean_prompt_tokens=_number(workload, "workload", "mean_prompt_tokens"),
        mean_decode_tokens=_number(workload, "workload", "mean_decode_tokens", 1.0),
        mean_token_load=_number(
            _table(workload, "token_load", "workload."), "workload.token_load", "mean"
        ),
        time_per_output_token=_asked(inputs, ask.TIME_PER_OUTPUT_TOKEN),
        statistic=_asked(inputs, ask.STATISTIC),
        overflow_probability=_asked(inputs, ask.OVERFLOW_PROBABILITY),
        cache_capacity=capacity,
        cache_kinds=kinds,
        planned_regret=_planned_regret(document, "regret"),
        planned_replan_regret=_planned_regret(document, "replan_regret"),
        model=_text(inputs, "model"),
        target=_text(inputs, "target"),
        target_version=_text(inputs, "target_version") or None,
        unsplit=unsplit_from_document(document),
        recommends_unsplit=recommends_unsplit(document),
        prefill_workers=check_count(
            "service.prefill_workers", prefill.get("prefill_workers", 0), 0, 1_000_000
        ),
        prefill_devices=check_count(
            "service.prefill_devices_per_worker", prefill.get("prefill_devices_per_worker", 1)
        ),
        prefill_chunk=None
        if prefill.get("prefill_chunk_tokens") is None
        else check_count("service.prefill_chunk_tokens", prefill["prefill_chunk_tokens"]),
        barrier_free=barrier_free_from_document(document),
        afdplan_version=_text(document, "afdplan_version"),
        inputs=MappingProxyType(dict(inputs)),
        command=_text(document, "command"),
    )
    _check_against_itself(plan, best)
    return plan


def _check_against_itself(plan: PlanFile, best: dict[str, Any]) -> None:
    """Raise if a derived number does not follow from the others: the file was edited."""
    slots = plan.bundles * plan.bundle.attention_workers
    slots *= plan.bundle.requests_per_attention_worker
    tokens = slots * plan.latency.tokens_per_step / plan.step_time_mean
    expected = {
        "devices": float(plan.devices),
        "requests_per_attention_worker": float(plan.bundle.requests_per_attention_worker),
        "tokens_per_second": tokens,
        "tokens_per_second_per_device": tokens / plan.devices,
    }
    for name, value in expected.items():
        found = _number(best, "recommended", name)
        if not math.isclose(found, value, rel_tol=CLOSE):
            raise InvalidInputError(
                f"recommended.{name} must be {value:.8g} by the other numbers of the plan, got "
                f"{found:.8g}: it was edited; plan again instead"
            )


def _planned_regret(document: dict[str, Any], name: str) -> float:
    if "check" not in document or name not in _table(document, "check"):
        return 0.0
    return check_number(f"check.{name}", _table(document, "check")[name])


def _space(value: Any) -> tuple[float | None, tuple[tuple[float, int | None], ...]]:
    if value is None:
        return None, ()
    if not isinstance(value, dict) or not isinstance(value.get("kinds"), list):
        raise InvalidInputError("memory.space must be null or an object with capacity and kinds")
    kinds = []
    for kind in value["kinds"]:
        if not isinstance(kind, dict):
            raise InvalidInputError("memory.space.kinds must be objects")
        window = kind.get("window")
        if window is not None:
            window = check_count("memory.space.kinds.window", window)
        kinds.append((check_number("memory.space.kinds.per_token", kind.get("per_token")), window))
    if not any(amount > 0 for amount, _ in kinds):
        raise InvalidInputError("memory.space.kinds must hold one with per_token > 0")
    return check_number("memory.space.capacity", value.get("capacity"), strict=True), tuple(kinds)


def _table(document: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise InvalidInputError(
            f"{where}{name} must be an object, got {found}: not a plan of afdplan plan --json"
        )
    return value


def _asked(inputs: dict[str, Any], one: Parameter) -> Any:
    """Return what was asked, or the default, checked by its record."""
    value = inputs.get(one.key, one.default)
    return None if value is None else one.check(value, f"inputs.{one.key}")


def _need(table: dict[str, Any], where: str, name: str) -> Any:
    if name not in table:
        raise InvalidInputError(f"{where}.{name} is missing")
    return table[name]


def _number(
    table: dict[str, Any], where: str, name: str, lowest: float = 0.0, *, strict: bool = False
) -> float:
    return check_number(f"{where}.{name}", _need(table, where, name), lowest, strict=strict)


def _text(table: dict[str, Any], name: str) -> str:
    value = table.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text or null, got {value!r:.40}")
    return value or ""
