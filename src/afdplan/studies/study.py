"""What is a study once it is checked and its files are read, and what is its case number i?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.model import parameters as ask
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.model.trace import Trace
from afdplan.studies.axes import Axis, combine
from afdplan.studies.columns import Column, columns, numbers
from afdplan.studies.kinds import ComputeKind, compute_kind
from afdplan.studies.windows import TraceWindow

__all__ = ["NAMED", "Case", "Source", "Study", "latency_key", "source_key"]

_COMMON = (
    Column(name="case", data="count"),
    *numbers("case_hash compute afdplan_version status reason time_unit", "text"),
    Column(name="draw", data="count"),
)
_WINDOW = (
    Column(name="window", data="count"),
    *numbers("window_start window_end"),
    *numbers("trace_requests trace_output_tokens", "count"),
)


NAMED = (ask.MODEL, ask.HARDWARE, ask.FFN_HARDWARE)
"""What a derived latency model is looked up by; the rest refines it."""
_NAMES = (ask.LATENCY.name, *(one.name for one in NAMED))
_REFINED = tuple(f.name for f in fields(LatencyChoice) if f.name not in _NAMES)


def source_key(values: Mapping[str, Any]) -> str:
    """Return the name under which a study keeps the workload of a case."""
    if values.get("workload") is not None:
        return f"workload {values['workload']}"
    if values.get("trace") is not None:
        return f"trace {values['trace']}"
    return f"laws {values.get('prompt')} {values.get('decode')}"


def latency_key(values: Mapping[str, Any]) -> str:
    """Return the name under which a study keeps the latency model of a case."""
    if values.get("latency") is not None:
        return f"latency {values['latency']}"
    return f"derived {json.dumps([values.get(one.name) for one in NAMED])}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Where the requests of some cases come from: a trace, or two laws.

    Attributes
    ----------
    trace
        Requests, or None.
    prompt, decode
        Laws in the mini-language, or None.
    names
        What the results show: columns `trace`, `prompt`, `decode`.
    fingerprint
        Digest of the content, whatever the file is called.
    windows
        The windows of the trace by number; empty if it is not cut.
    """

    trace: Trace | None = None
    prompt: str | None = None
    decode: str | None = None
    names: Mapping[str, str]
    fingerprint: str
    windows: Mapping[int, TraceWindow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case: its place in the study, its values, and its identity.

    Attributes
    ----------
    index
        0 to cases - 1.
    values
        Every variable of the kind, with defaults; `window` and `draw` where there are any.
    case_hash
        Digest of what is computed from which contents; the same in every study and order.
    seed
        Of everything random.
    """

    index: int
    values: Mapping[str, Any]
    case_hash: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """A checked study with all that its cases need; small enough to send to workers.

    Attributes
    ----------
    name, compute
        From the file.
    fixed
        Variables with one value, defaults included.
    axes
        Independent directions; the last varies fastest.
    sources
        Workloads by `source_key`; laws that vary freely are made when needed.
    latencies
        Latency models by `latency_key`; a choice that has been loaded where they are derived.
    latency_fingerprints
        Digests of their contents.
    time_unit
        Of all times.
    digest
        Of everything that decides the rows.
    warnings
        One sentence each.
    """

    name: str
    compute: str
    fixed: Mapping[str, Any]
    axes: tuple[Axis, ...]
    sources: Mapping[str, Source]
    latencies: Mapping[str, LatencyModel | LatencyChoice]
    latency_fingerprints: Mapping[str, str]
    time_unit: TimeUnit
    digest: str
    warnings: tuple[str, ...] = ()

    @property
    def cases(self) -> int:
        """Number of cases."""
        total = 1
        for axis in self.axes:
            total *= axis.size
        return total

    @property
    def kind(self) -> ComputeKind:
        """What is computed."""
        return compute_kind(self.compute)

    @property
    def varied(self) -> list[str]:
        """Variables that differ between cases, the slowest first."""
        return [name for axis in self.axes if axis.size > 1 for name in axis.names]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the results, the same for every study of this kind."""
        kind = self.kind
        return (*_COMMON, *_WINDOW, *columns(kind.variables.values()), *kind.answers)

    def case(self, index: int) -> Case:
        """Return case `index`; its hash and seed depend on its contents alone."""
        values = {**self.fixed, **combine(self.axes, index)}
        source = self.source(values)
        content: dict[str, Any] = {
            name: value
            for name, value in values.items()
            if value is not None and name not in ("workload", "trace", *_NAMES, *_REFINED)
        }
        content["compute"] = self.compute
        content["requests"] = source.fingerprint
        if values.get("window") is not None:
            window = source.windows[values["window"]]
            content["window"] = [window.first, window.last]
        choice, _ = self.latency(values)
        refined = [getattr(choice, name) for name in _REFINED]
        content["times"] = [self.latency_fingerprints[latency_key(values)], refined]
        text = json.dumps(content, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        seed = values.get("seed")
        return Case(
            index=index,
            values=values,
            case_hash=digest,
            seed=int(digest[:15], 16) if seed is None else seed,
        )

    def latency(self, values: Mapping[str, Any]) -> tuple[LatencyChoice, LatencyModel | None]:
        """Return what the times of a case follow from, and the latency model if that is it."""
        found = self.latencies[latency_key(values)]
        refined = {name: values[name] for name in _REFINED if values.get(name) is not None}
        if isinstance(found, LatencyModel):
            return LatencyChoice(latency=found.name, **refined), found
        return replace(found, **refined), None

    def source(self, values: Mapping[str, Any]) -> Source:
        """Return the workload of a case."""
        found = self.sources.get(source_key(values))
        if found is not None:
            return found
        prompt, decode = values["prompt"], values["decode"]
        return Source(
            prompt=prompt, decode=decode, names={}, fingerprint=f"prompt {prompt}, decode {decode}"
        )
