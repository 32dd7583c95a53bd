"""Which requests are asked about: those of a file, of a server's own counts, or of two laws?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afdplan.errors import InsufficientDataError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace

if TYPE_CHECKING:  # laws need none of it
    from afdplan.workload.report import WorkloadReport

__all__ = ["METRICS", "Workload", "read_requests", "requests_of_laws", "requests_of_trace"]

METRICS = "prometheus"
"""The format of a server's own counts: no trace, but lengths all the same."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """The requests of a question, and what is known of them.

    Attributes
    ----------
    law
        Joint law of prompt and decode lengths.
    whole
        The trace as it was read; None for laws of the mini-language.
    trace
        Those of its requests that count.
    report
        What was found in them; None for a law, or if the trace is too short to judge.
    warnings
        What to mistrust about the trace, one sentence each.
    """

    law: LengthLaw
    whole: Trace | None = None
    trace: Trace | None = None
    report: WorkloadReport | None = None
    warnings: tuple[str, ...] = ()

    @property
    def token_load(self) -> Estimate | None:
        """The mean token load with its interval; None if there is none."""
        return None if self.report is None else self.report.token_load


def requests_of_laws(prompt: str, decode: str) -> Workload:
    """Return requests whose prompt and output are drawn from laws of the mini-language.

    Examples
    --------
    >>> requests_of_laws("100", "geometric:500").law.mean_prompt_tokens
    100.0
    """
    return Workload(law=IndependentLengths(prompt=prompt, decode=decode))


def read_requests(
    path: str,
    *,
    format: str | None = None,
    columns: str | None = None,
    time_format: str | None = None,
    prefixes: bool = False,
) -> Trace:
    """Return the requests of a trace, or as many as the histograms of a server say there were.

    Parameters
    ----------
    path
        Of the file, ``-`` for standard input.
    format, columns, time_format, prefixes
        As of `afdplan.files.traces.reader.read_trace`.
    """
    if format == METRICS:
        from afdplan.files.measurements.prometheus import read_metrics
        from afdplan.workload.observed import observed_trace

        return observed_trace(read_metrics(path), path)
    from afdplan.files.traces.reader import read_trace

    return read_trace(
        path, format=format, columns=columns, time_format=time_format, prefixes=prefixes
    )


def requests_of_trace(
    whole: Trace,
    *,
    confidence: float = ask.CONFIDENCE.default,
    window: str = of_plan.PLANNED_WINDOW.default,
) -> Workload:
    """Return those requests of a trace that count, described.

    Parameters
    ----------
    whole
        In the order of arrival.
    confidence
        Coverage of the interval of the mean token load.
    window
        Which requests count, by default all: see `afdplan.workload.parts.select_window`.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[100, 200, 300], decode_tokens=[10, 20, 30])
    >>> found = requests_of_trace(trace)
    >>> round(found.token_load.value, 3), found.report.requests
    (244.5, 3)
    """
    from afdplan.workload.description import describe_workload
    from afdplan.workload.parts import select_window
    from afdplan.workload.warnings import load_warnings

    trace, chosen = whole, list[str]()
    if window != of_plan.PLANNED_WINDOW.default:
        part = select_window(whole, window)
        trace = part.trace
        chosen.append(
            f"only the {trace.requests:,} of {whole.requests:,} requests of {part.name} count"
        )
    try:
        report = describe_workload(trace, confidence)
    except InsufficientDataError as error:
        told = (*chosen, *trace.doubts, f"the token load has no interval: {error}")
        return Workload(law=EmpiricalLengths(trace), whole=whole, trace=trace, warnings=told)
    return Workload(
        law=report.law,
        whole=whole,
        trace=trace,
        report=report,
        warnings=(*chosen, *load_warnings(report)),
    )
