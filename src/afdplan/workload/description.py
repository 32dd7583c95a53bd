"""What does a workload look like to an AFD bundle?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.workload.arrivals import Arrivals, describe_arrivals
from afdplan.workload.drift import Drift, describe_drift
from afdplan.workload.influence import LargestRequest, largest_request
from afdplan.workload.interval import bootstrap_token_load
from afdplan.workload.lengths import LengthSummary, correlation, rank_correlation
from afdplan.workload.sessions import Sessions, describe_sessions
from afdplan.workload.split import (
    GeometricShortcut,
    TokenLoadSplit,
    geometric_shortcut,
    split_token_load,
)

__all__ = ["LawReport", "Precision", "WorkloadReport", "describe_law", "describe_workload"]

FEWEST_DISTINCT_TIMES = 100
"""With fewer, times cut no sensible windows, and requests are counted instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawReport:
    """What laws of the mini-language say, without error.

    Attributes
    ----------
    name
        The laws, for people.
    token_load
        Mean token load of a slot [tokens], exact.
    token_load_std
        Standard deviation of a slot's token load [tokens].
    split
        The mean token load in three terms.
    prompt, decode
        Lengths in numbers.
    geometric
        What the geometric shortcut would have said.
    """

    name: str
    token_load: Estimate
    token_load_std: float
    split: TokenLoadSplit
    prompt: LengthSummary
    decode: LengthSummary
    geometric: GeometricShortcut

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting the numbers, one sentence each with its advice."""
        from afdplan.workload.warnings import law_warnings

        return law_warnings(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How much the trace tells about the mean token load.

    Attributes
    ----------
    standard_error
        Of the mean token load, dependence included [tokens].
    widening
        Standard error over that of as many independent requests.
    effective_requests
        Independent requests that would tell as much.
    requests_for_one_percent
        Such requests that an interval of +/- 1 % would take.
    units, blocks
        Sessions or requests that were resampled, and the blocks they formed.
    """

    standard_error: float
    widening: float
    effective_requests: float
    requests_for_one_percent: int
    units: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadReport:
    """What a trace says.

    Attributes
    ----------
    source, format
        Where the trace comes from.
    requests, dropped_requests
        Requests kept, and left out as failed.
    token_load
        Mean token load of a slot with its interval [tokens].
    token_load_std
        Standard deviation of a slot's token load [tokens].
    split
        The mean token load in three terms.
    precision
        How much the trace tells about the mean token load.
    prompt, decode
        Lengths in numbers.
    correlation, rank_correlation
        Pearson's and Spearman's, of prompt and decode length.
    geometric
        What the geometric shortcut would have said.
    drift
        The mean token load by windows.
    largest
        The request with the most token-steps.
    arrivals, sessions
        None if the trace tells none.
    time_unit_in_file
        Unit in which the file gave arrivals; empty if it gave none.
    notes
        What the reader of the file noticed.
    """

    source: str
    format: str
    requests: int
    dropped_requests: int
    token_load: Estimate
    token_load_std: float
    split: TokenLoadSplit
    precision: Precision
    prompt: LengthSummary
    decode: LengthSummary
    correlation: float
    rank_correlation: float
    geometric: GeometricShortcut
    drift: Drift
    largest: LargestRequest
    arrivals: Arrivals | None
    sessions: Sessions | None
    time_unit_in_file: str
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting the numbers, one sentence each with its advice."""
        from afdplan.workload.warnings import workload_warnings

        return workload_warnings(self)


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
    found = bootstrap_token_load(trace, confidence, seed)
    arrivals = None if trace.arrival_times is None else describe_arrivals(trace.arrival_times)
    by_time = (
        arrivals is not None
        and arrivals.duration > 0
        and not arrivals.is_evenly_spaced
        and (1 - arrivals.equal_fraction) * trace.requests >= FEWEST_DISTINCT_TIMES
    )
    return WorkloadReport(
        source=trace.source,
        format=trace.format,
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
    )


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
    return LawReport(
        name=law.name,
        token_load=Estimate.exact(load.mean),
        token_load_std=load.std,
        split=split_token_load(law),
        prompt=LengthSummary.of_law(law.prompt),
        decode=LengthSummary.of_law(law.decode),
        geometric=geometric_shortcut(law, load),
    )
