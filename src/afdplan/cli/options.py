"""How do parameters become options, and what do those of requests, times and slots resolve to?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from afdplan.cli.quantity import TYPES
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.parameter import Parameter

if TYPE_CHECKING:
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.model.trace import Trace
    from afdplan.workload.report import WorkloadReport

__all__ = [
    "Workload",
    "in_domain",
    "latency_inputs",
    "latency_options",
    "option_name",
    "options",
    "require_fit",
    "resolve_batch_size",
    "resolve_choice",
    "resolve_workload",
    "workload_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])
METRICS = "prometheus"
"""The format of a server's own counts: no trace, but lengths all the same."""
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
        if isinstance(value, tuple):
            return tuple(check(ctx, param, each) for each in value)
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


def require_fit(
    choice: LatencyChoice, law: LengthLaw, batch_size: int, given: Mapping[str, Any]
) -> int | None:
    """Return the most slots that the memory of a named device holds; None without a device.

    Raises
    ------
    InfeasibleError
        Where the requests do not fit, naming the largest batch size that does.
    """
    if not choice.is_derived:
        return None
    from afdplan.planning.memory_limit import require_memory

    placement = choice.placement(batch_size=batch_size, ffn_workers=given["ffn_workers"])
    limit = require_memory(law, placement.memory(), batch_size, given["microbatches"])
    return None if limit is None else limit.most_requests


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the workload options resolved to.

    Attributes
    ----------
    law
        Joint law of prompt and decode lengths.
    trace
        The trace behind it; None for a law of the mini-language.
    report
        What was found in the trace; None for a law, or if the trace is too short to judge.
    warnings
        What to mistrust about the trace, one sentence each.
    inputs
        What to print under `inputs`.
    """

    law: LengthLaw
    trace: Trace | None
    report: WorkloadReport | None
    warnings: tuple[str, ...]
    inputs: dict[str, Any]

    @property
    def token_load(self) -> Estimate | None:
        """The mean token load with its interval; None if there is none."""
        return None if self.report is None else self.report.token_load


def resolve_workload(
    given: Mapping[str, Any], confidence: float | None = None, window: str | None = None
) -> Workload:
    """Return the workload that the options name; exactly one of trace and laws must be given.

    Parameters
    ----------
    given
        Values of the options of `workload_options`, by name; others are passed over.
    confidence
        Coverage of the interval of a trace's mean token load.
    window
        Which requests of a trace count, by default all: see
        `afdplan.workload.parts.select_window`.
    """
    window = of_plan.PLANNED_WINDOW.default if window is None else window
    from afdplan.lengths.law import EmpiricalLengths, IndependentLengths

    path, trace_format, columns, time_format, prompt, decode = (
        given.get(one.key) for one in ask.WORKLOAD
    )
    if path is not None and (prompt is not None or decode is not None):
        raise click.UsageError("give --trace, or --prompt and --decode, not both")
    if path is not None:
        requests = _requests(
            path,
            trace_format,
            columns,
            time_format,
            prefixes=given.get(of_plan.PREFIX_CACHE.key) == "recorded",
        )
        inputs = {
            "trace": path,
            "format": requests.format,
            "columns": columns,
            "time_format": time_format,
            "requests": requests.requests,
            "dropped_requests": requests.dropped_requests,
            "time_unit_in_file": requests.time_unit_in_file,
            "notes": requests.notes,
        }
        chosen: tuple[str, ...] = ()
        if window != of_plan.PLANNED_WINDOW.default:
            from afdplan.workload.parts import select_window

            part = select_window(requests, window)
            chosen = (
                f"only the {part.trace.requests:,} of {requests.requests:,} requests of "
                f"{part.name} count",
            )
            requests = part.trace
        report, warnings = _described(requests, confidence)
        return Workload(
            law=EmpiricalLengths(requests),
            trace=requests,
            report=report,
            warnings=(*chosen, *warnings),
            inputs=inputs,
        )
    if window != of_plan.PLANNED_WINDOW.default:
        raise click.UsageError("--window chooses requests of a trace: give --trace")
    if any(given.get(one.key) is not None for one in ask.OF_TRACE):
        raise click.UsageError(
            "--format, --columns and --time-format describe a file: give --trace too"
        )
    if prompt is None or decode is None:
        raise click.UsageError("say what the requests are: --trace FILE, or --prompt and --decode")
    law = IndependentLengths(prompt=prompt, decode=decode)
    inputs = {"prompt": prompt, "decode": decode}
    return Workload(law=law, trace=None, report=None, warnings=(), inputs=inputs)


def _requests(
    path: str,
    trace_format: str | None,
    columns: str | None,
    time_format: str | None,
    *,
    prefixes: bool,
) -> Trace:
    """Return the requests of a trace, or as many as the histograms of a server say there were."""
    if trace_format == METRICS:
        from afdplan.files.measurements.prometheus import read_metrics
        from afdplan.workload.observed import observed_trace

        if columns is not None or time_format is not None:
            raise click.UsageError(f"--format {METRICS} has no columns: leave them out")
        return observed_trace(read_metrics(path), path)
    from afdplan.files.traces.reader import read_trace

    return read_trace(
        path,
        format=trace_format,
        columns=columns,
        time_format=time_format,
        prefixes=prefixes,
    )


def _described(
    trace: Trace, confidence: float | None
) -> tuple[WorkloadReport | None, tuple[str, ...]]:
    """Return what was found in a trace, and the warnings that every command must pass on."""
    from afdplan.errors import InsufficientDataError
    from afdplan.workload.description import describe_workload
    from afdplan.workload.warnings import load_warnings

    try:
        report = describe_workload(trace, confidence or ask.CONFIDENCE.default)
    except InsufficientDataError as error:
        return None, (*trace.doubts, f"the token load has no interval: {error}")
    return report, load_warnings(report)


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
