"""Which options ask for more than decoding: prefill in front of it, and failures?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from afdplan.cli.options import options
from afdplan.model import plan_parameters as ask

if TYPE_CHECKING:
    from afdplan.model.failures import Failures
    from afdplan.planning.source import LatencySource
    from afdplan.planning.whole import Prefill
    from afdplan.workload.requests import Workload

__all__ = ["resolve_failures", "resolve_prefill", "service_inputs", "service_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def service_options(command: Command) -> Command:
    """Add --ttft with what refines it, --decode-only, and --device-mtbf with what refines it."""
    command = options(*ask.SERVICE, *ask.FAILURES, fills=False)(command)
    return click.option(
        "--decode-only",
        is_flag=True,
        help="All devices decode, prefill is not counted: so without --ttft too.",
    )(command)


def resolve_prefill(
    given: dict[str, Any], workload: Workload, source: LatencySource
) -> Prefill | None:
    """Return what is asked of prefill; None for decoding only."""
    ttft, *refined = ask.SERVICE
    named = [one.option for one in refined if given[one.key] is not None]
    if given[ttft.key] is None or given["decode_only"]:
        if given[ttft.key] is not None:
            named.insert(0, ttft.option)
        if named:
            why = "--decode-only counts no prefill" if given["decode_only"] else "give --ttft too"
            raise click.UsageError(f"{named[0]} is of prefill: {why}")
        return None
    from afdplan.planning.first_token import FirstTokenLimit
    from afdplan.planning.traffic import service_traffic
    from afdplan.planning.whole import Prefill

    asked = {one.field: _value(given, one) for one in (ttft, *refined)}
    return Prefill(
        limit=FirstTokenLimit(
            time_to_first_token=asked["time_to_first_token"],
            first_token_statistic=asked["first_token_statistic"],
            prefill_policy=asked["prefill_policy"],
        ),
        workers=_workers(asked, source, given),
        traffic=service_traffic(
            workload.law, workload.trace, asked["prefill_arrivals"], asked["prefix_cache"]
        ),
    )


def _value(given: dict[str, Any], one: Any) -> Any:
    value = given[one.key]
    return one.default if value is None else one.check(value, one.option)


def _workers(asked: dict[str, Any], source: LatencySource, given: dict[str, Any]) -> Any:
    from afdplan.calibration.catalogue import find_hardware
    from afdplan.calibration.derived_prefill import prefill_workers
    from afdplan.files.prefill_file import load_prefill
    from afdplan.planning.derived_source import DerivedSource

    if asked["prefill_latency"] is not None:
        for one in (ask.PREFILL_HARDWARE, ask.PREFILL_DEVICES, ask.PREFILL_CHUNK):
            if given[one.key] is not None:
                raise click.UsageError(
                    f"{one.option} derives prefill times, and --prefill-latency has "
                    "measured ones: give one of them"
                )
        return (load_prefill(asked["prefill_latency"]),)
    if not isinstance(source, DerivedSource):
        raise click.UsageError(
            "--ttft needs the times of prefill: --prefill-latency FILE, or --model and --hardware"
        )
    hardware = source.placement.attention_hardware
    if asked["prefill_hardware"] is not None:
        hardware = find_hardware(asked["prefill_hardware"])
    return prefill_workers(
        source.placement,
        hardware,
        devices=asked["prefill_devices"],
        chunk_tokens=asked["prefill_chunk"],
    )


def resolve_failures(given: dict[str, Any]) -> Failures | None:
    """Return how often devices fail; None if nobody says."""
    mtbf, *refined = ask.FAILURES
    if given[mtbf.key] is None:
        named = next((one.option for one in refined if given[one.key] is not None), None)
        if named is not None:
            raise click.UsageError(f"{named} is of failures: give {mtbf.option} too")
        return None
    from afdplan.model.failures import Failures

    found = Failures(**{one.field: _value(given, one) for one in ask.FAILURES})
    if found.spare_devices and not found.repair:
        raise click.UsageError(
            "--spare-devices replace what is being repaired: give --repair, how long that takes"
        )
    return found


def service_inputs(given: dict[str, Any]) -> dict[str, Any]:
    """Return what to print under `inputs`; null where nothing of it was asked."""
    asked = {one.key: given[one.key] for one in (*ask.SERVICE, *ask.FAILURES)}
    for head, group in ((ask.TIME_TO_FIRST_TOKEN, ask.SERVICE), (ask.DEVICE_MTBF, ask.FAILURES)):
        if given[head.key] is not None:
            asked |= {one.key: _value(given, one) for one in group}
    return asked | {"service_devices": given["devices"]}
