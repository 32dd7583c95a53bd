"""How do parameters become options, and what do those of requests, times and slots resolve to?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from afdplan.cli.quantity import TYPES
from afdplan.cli.report import reading
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.chosen import chosen
from afdplan.model.parameter import Parameter

if TYPE_CHECKING:
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.model.latency import LatencyModel
    from afdplan.workload.requests import Workload

__all__ = [
    "in_domain",
    "latency_inputs",
    "latency_options",
    "option_name",
    "options",
    "resolve_batch_size",
    "resolve_choice",
    "resolve_workload",
    "workload_inputs",
    "workload_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])
_PLAIN = {"count": int, "number": float, "text": str}


def options(*parameters: Parameter, fills: bool = True) -> Callable[[Command], Command]:
    """Return a decorator that adds the options of parameters, in this order.

    Parameters
    ----------
    parameters
        Their records say everything.
    fills
        Whether an option that is not given has its default; else the command sees None.
    """

    def add(command: Command) -> Command:
        for one in reversed(parameters):
            has_default = one.default is not None
            # A default of None would do for what is required.
            filled = {} if one.is_required else {"default": one.default if fills else None}
            command = click.option(
                one.option,
                one.key,
                type=_Choice(one) if one.choices else TYPES.get(one.typed, _PLAIN.get(one.data)),
                **filled,
                show_default=has_default if fills else str(one.default) if has_default else False,
                required=one.is_required,
                metavar=one.metavar or None,
                help=one.help,
                callback=in_domain(one),
            )(command)
        return command

    return add


def in_domain(one: Parameter) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return what holds a value, or several, against the domain, naming the option."""

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(check(ctx, param, each) for each in value)
        if not isinstance(value, int | float) or one.data not in ("count", "number"):
            return value
        source = ctx.get_parameter_source(param.name or "")
        told = " of the project file" if source is ParameterSource.DEFAULT_MAP else ""
        return one.check(value, f"{one.option}{told}")

    return check


class _Choice(click.Choice[str]):
    """One of a parameter's choices; earlier spellings work, but help lists the present ones."""

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(parameter.choices)
        self.parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(self.parameter.present(value), param, ctx)


workload_options = options(*ask.WORKLOAD)
"""Adds --trace, --format, --columns and --prompt, --decode."""
latency_options = options(*ask.LATENCY_CHOICE, fills=False)
"""Adds --latency, and --model with --hardware and their refinements."""


def option_name(parameter: Parameter) -> str:
    """Return how messages to the command line call a parameter."""
    return parameter.option


def resolve_choice(given: Mapping[str, Any]) -> LatencyChoice:
    """Return the choice of latency that options make; those that do not go together are usage."""
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.errors import InvalidInputError

    try:
        return LatencyChoice.of(given, option_name)
    except InvalidInputError as error:
        raise click.UsageError(str(error)) from None


def latency_inputs(given: Mapping[str, Any], model: LatencyModel) -> dict[str, Any]:
    """Return what to print under `inputs` about the latency model and its choice."""
    return {
        **{one.key: given.get(one.key) for one in ask.LATENCY_CHOICE},
        "latency": {
            "name": model.name,
            "source": model.source,
            "layers": model.layers,
            "assumptions": model.assumptions,
        },
    }


def resolve_workload(
    given: Mapping[str, Any],
    confidence: float = ask.CONFIDENCE.default,
    window: str = of_plan.PLANNED_WINDOW.default,
) -> Workload:
    """Return the workload that the options name; exactly one of trace and laws must be given.

    Parameters
    ----------
    given
        Values of the options of `workload_options`, by name; others are passed over.
    confidence, window
        As of `afdplan.workload.requests.requests_of_trace`.
    """
    path, *of_trace, prompt, decode = (given.get(one.key) for one in ask.WORKLOAD)
    is_described = any(value is not None for value in of_trace)
    if path is None:
        if window != of_plan.PLANNED_WINDOW.default:
            raise click.UsageError("--window chooses requests of a trace: give --trace")
        if is_described:
            raise click.UsageError(
                "--format, --columns and --time-format describe a file: give --trace too"
            )
        if prompt is None or decode is None:
            raise click.UsageError(
                "say what the requests are: --trace FILE, or --prompt and --decode"
            )
        from afdplan.workload.requests import requests_of_laws

        return requests_of_laws(prompt, decode)
    if prompt is not None or decode is not None:
        raise click.UsageError("give --trace, or --prompt and --decode, not both")
    from afdplan.workload.requests import METRICS, read_requests, requests_of_trace

    described = {one.key: given.get(one.key) for one in ask.OF_TRACE}
    refined = [described[one.key] for one in (ask.COLUMNS, ask.TIME_FORMAT)]
    if described["format"] == METRICS and refined != [None, None]:
        raise click.UsageError(f"--format {METRICS} has no columns: leave them out")
    prefixes = given.get(of_plan.PREFIX_CACHE.key) == "recorded"
    with reading(path):
        whole = read_requests(path, **described, prefixes=prefixes)
        return requests_of_trace(whole, confidence=confidence, window=window)


def workload_inputs(given: Mapping[str, Any], workload: Workload) -> dict[str, Any]:
    """Return what to print under `inputs` about the requests."""
    whole = workload.whole
    if whole is None:
        return {one.key: given[one.key] for one in (ask.PROMPT, ask.DECODE)}
    return {
        **{one.key: given.get(one.key) for one in (ask.TRACE, *ask.OF_TRACE)},
        "format": whole.format,
        **chosen(whole, "requests dropped_requests time_unit_in_file notes"),
    }


def resolve_batch_size(given: Mapping[str, Any]) -> int:
    """Return B, slots per attention worker and microbatch, from either way of saying it.

    A value out of its domain is an expected failure (exit code 1), as everywhere; options that are
    wrongly written or do not go together are usage (2).
    """
    from afdplan.errors import UnsupportedError
    from afdplan.model.slots import slots_per_microbatch

    try:
        return slots_per_microbatch(given, option_name)
    except UnsupportedError as error:
        raise click.UsageError(str(error)) from None
