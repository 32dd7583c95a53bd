"""What does a workload look like to an AFD bundle?"""

from __future__ import annotations

import math
from dataclasses import replace

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.workload.arrivals import describe_arrivals, describe_sessions
from afdplan.workload.drift import describe_drift
from afdplan.workload.interval import bootstrap_token_load
from afdplan.workload.lengths import LengthSummary, correlation, rank_correlation
from afdplan.workload.report import LawReport, Precision, WorkloadReport
from afdplan.workload.split import geometric_shortcut, largest_request, split_token_load
from afdplan.workload.warnings import law_warnings, workload_warnings

__all__ = ["describe_law", "describe_workload"]

FEWEST_DISTINCT_TIMES = 100
"""With fewer, times cut no sensible windows, and requests are counted instead."""


def describe_workload(
    trace: Trace, confidence: float = ask.CONFIDENCE.default, seed: int = 0
) -> WorkloadReport:
    """Return everything that a trace says about the load of an AFD bundle.

    Parameters
    ----------
    trace
        At least two requests, in the order of arrival.
    confidence
        Coverage of every interval, in (0, 1).
    seed
        Of the bootstrap.

    Raises
    ------
    InsufficientDataError
        If the trace has one request only.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[100, 200, 300], decode_tokens=[10, 20, 30])
    >>> report = describe_workload(trace)
    >>> round(report.token_load.value, 3), round(report.split.total, 3)
    (244.5, 244.5)
    """
    law = EmpiricalLengths(trace)
    load = law.token_load()
    found = bootstrap_token_load(trace, law, confidence, seed)
    arrivals = None if trace.arrival_times is None else describe_arrivals(trace.arrival_times)
    by_time = (
        arrivals is not None
        and arrivals.duration > 0
        and not arrivals.is_evenly_spaced
        and (1 - arrivals.equal_fraction) * trace.requests >= FEWEST_DISTINCT_TIMES
    )
    report = WorkloadReport(
        source=trace.source,
        format=trace.format,
        law=law,
        requests=trace.requests,
        dropped_requests=trace.dropped_requests,
        token_load=found.estimate,
        token_load_std=load.std,
        split=split_token_load(law),
        precision=Precision(
            standard_error=found.standard_error,
            widening=found.widening,
            effective_requests=found.effective_entries,
            requests_for_one_percent=math.ceil(found.entries_needed(0.01)),
            units=found.units,
            blocks=found.blocks,
        ),
        prompt=LengthSummary.of_lengths(trace.prompt_tokens),
        decode=LengthSummary.of_lengths(trace.decode_tokens),
        correlation=correlation(trace.prompt_tokens, trace.decode_tokens),
        rank_correlation=rank_correlation(trace.prompt_tokens, trace.decode_tokens),
        geometric=geometric_shortcut(law, load),
        drift=describe_drift(trace, found.estimate, by_time, seed),
        largest=largest_request(trace),
        arrivals=arrivals,
        sessions=describe_sessions(trace),
        time_unit_in_file=trace.time_unit_in_file,
        notes=trace.notes,
        doubts=trace.doubts,
    )
    return replace(report, warnings=workload_warnings(report))


def describe_law(law: LengthLaw) -> LawReport:
    """Return what independent laws of prompt and decode length say.

    Raises
    ------
    UnsupportedError
        If the law is that of a trace, whose order tells more: `describe_workload`.

    Examples
    --------
    >>> law = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    >>> round(describe_law(law).token_load.value, 6)
    599.0
    """
    if not isinstance(law, IndependentLengths):
        raise UnsupportedError("describe_law takes laws, got a trace: use describe_workload")
    load = law.token_load()
    report = LawReport(
        name=law.name,
        law=law,
        token_load=Estimate.exact(load.mean),
        token_load_std=load.std,
        split=split_token_load(law),
        prompt=LengthSummary.of_law(law.prompt),
        decode=LengthSummary.of_law(law.decode),
        geometric=geometric_shortcut(law, load),
    )
    return replace(report, warnings=law_warnings(report))
