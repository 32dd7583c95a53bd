"""What is found in a workload: the values that a description consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from afdplan.lengths.law import LengthLaw
from afdplan.model.answer import Answer
from afdplan.model.estimate import Estimate
from afdplan.workload.arrivals import Arrivals, Sessions
from afdplan.workload.drift import Drift
from afdplan.workload.lengths import LengthSummary
from afdplan.workload.split import GeometricShortcut, LargestRequest, TokenLoadSplit

__all__ = ["LawReport", "Precision", "WorkloadReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LawReport(Answer):
    """What laws of the mini-language say, without error.

    Attributes
    ----------
    name, law
        The laws, for people and as they are.
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
    warnings
        What to know before trusting the numbers, one sentence each with its advice.
    """

    name: str
    law: LengthLaw = field(repr=False)
    token_load: Estimate
    token_load_std: float
    split: TokenLoadSplit
    prompt: LengthSummary
    decode: LengthSummary
    geometric: GeometricShortcut
    warnings: tuple[str, ...] = ()


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
class WorkloadReport(Answer):
    """What a trace says.

    Attributes
    ----------
    source, format, law
        Where the trace comes from, and the lengths of its requests.
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
    doubts
        What it doubts.
    warnings
        What to know before trusting the numbers, one sentence each with its advice.
    """

    source: str
    format: str
    law: LengthLaw = field(repr=False, compare=False)
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
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
