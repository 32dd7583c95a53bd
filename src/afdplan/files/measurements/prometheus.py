"""How long are the requests of running servers, and their steps, by the histograms they keep?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.files.document import Readable
from afdplan.files.measurements.counters import (
    LENGTH_NAMES,
    ROLES,
    Engine,
    Key,
    Snapshot,
    read_snapshot,
)
from afdplan.files.measurements.engines import decoding_engines

__all__ = ["Histogram", "ServerMetrics", "read_metrics", "read_snapshots", "server_metrics"]


UNLIKE_COUNTS = 0.02
"""Share by which prompts and outputs may differ in number, for what runs counts in one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A Prometheus histogram.

    Attributes
    ----------
    edges
        Upper edge of each finite bucket, ascending.
    counts
        Samples in each bucket, the last one beyond the last edge; one more than `edges`.
    total
        Sum of all samples; None if it is not known.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    total: float | None

    @property
    def count(self) -> float:
        """Number of samples."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Mean of the samples; None without their sum."""
        return None if self.total is None else self.total / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """What counters say about requests, over all engines and by engine.

    Attributes
    ----------
    system
        Whose names the metrics have.
    prompt_tokens, decode_tokens
        Lengths of finished requests.
    step_time
        Time between output tokens of a request [s]; None if the server does not export it.
    engines
        Prompt and output lengths of each engine by its labels, those with requests.
    models
        Names of the models served.
    is_window
        Whether only requests of some time are counted, not all since the server's start.
    notes
        What was noticed, one sentence each.
    """

    system: str
    prompt_tokens: Histogram
    decode_tokens: Histogram
    step_time: Histogram | None
    engines: tuple[tuple[str, Histogram, Histogram], ...] = ()
    models: tuple[str, ...] = ()
    is_window: bool = False
    notes: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """Finished requests."""
        return round(self.decode_tokens.count)


def read_metrics(*paths: Readable) -> ServerMetrics:
    """Return the histograms of requests and steps of one snapshot, or between two.

    Parameters
    ----------
    *paths
        As `read_snapshots` takes them.

    Raises
    ------
    InvalidInputError
        If a file is missing, empty, HTML, no metrics, or lacks the histograms.
    """
    return server_metrics(read_snapshots(*paths))


def read_snapshots(*paths: Readable) -> Snapshot:
    """Return the counters of one snapshot, or what they gained between two.

    Parameters
    ----------
    *paths
        Text of ``/metrics`` or JSON of Prometheus's HTTP API, maybe packed, a pipe or ``-``. Two
        of the same names are an earlier and a later one. Before a file, ``prompt=``, ``decode=``
        or ``step=`` says what a result without names holds: buckets, or (the same word again)
        their sum.

    Raises
    ------
    InvalidInputError
        If a file is missing, empty, HTML or no metrics.
    """
    snapshots: list[Snapshot] = []
    parts: dict[Key, Mapping[str, float]] = {}
    for path in paths:
        role, equals, name = str(path).partition("=")
        if equals and role in ROLES and isinstance(path, str):
            part = read_snapshot(name, role)
            for key, values in part.series.items():
                parts[key] = {**parts.get(key, {}), **values}
        else:
            snapshots.append(read_snapshot(path))
    if parts:
        if snapshots:
            raise InvalidInputError("give each result a name (prompt=FILE), or none of them")
        names = " and ".join(str(path) for path in paths)
        return Snapshot(source=names, series=parts, is_window=True)
    if len(snapshots) > 2:
        raise InvalidInputError(f"give one snapshot, or two to subtract, got {len(snapshots)}")
    return snapshots[0] if len(snapshots) == 1 else snapshots[1].since(snapshots[0])


def server_metrics(snapshot: Snapshot) -> ServerMetrics:
    """Return the histograms of lengths and steps of a snapshot.

    Raises
    ------
    InvalidInputError
        If lengths are missing, no request has finished, or a histogram contradicts itself.
    """
    shown = snapshot.source
    of_role: dict[str, str] = {}
    system = "unnamed"
    present = {metric for metric, _, _ in snapshot.series}
    for candidate, roles in LENGTH_NAMES.items():
        of_role = {
            role: next((n for n in names if n in present), "") for role, names in roles.items()
        }
        system = candidate
        if of_role["prompt"] and of_role["decode"]:
            break
    else:
        of_role = {role: f"unnamed {role}" for role in ROLES}
        system = "unnamed"
    missing = [role for role in ("prompt", "decode") if of_role[role] not in present]
    if missing:
        raise InvalidInputError(
            f"{shown}: no histogram of {' and '.join(missing)} lengths with samples, only of "
            f"{', '.join(sorted(present)[:4])}: give both (for results without names, "
            "prompt=FILE and decode=FILE)"
        )
    snapshot = decoding_engines(snapshot, of_role["prompt"], of_role["decode"])
    keys = sorted(key for key in snapshot.series if key[0] == of_role["decode"])
    found = {role: _sum(snapshot, of_role[role]) for role in ROLES}
    prompt, decode = found["prompt"], found["decode"]
    if prompt is None or decode is None:
        since = " since the last snapshot" if snapshot.is_window else ""
        raise InvalidInputError(
            f"{shown}: no request has finished{since}: take the snapshot after it has served some"
        )
    engines = []
    for engine in dict.fromkeys(key[2] for key in keys):
        both = [_sum(snapshot, of_role[role], engine) for role in ("prompt", "decode")]
        if both[0] is not None and both[1] is not None:
            engines.append((_label(engine, keys), both[0], both[1]))
    models = tuple(dict.fromkeys(key[1] for key in keys if key[1]))
    notes = snapshot.notes
    if len(models) > 1:
        notes += (
            f"The requests of {len(models)} models are added: {', '.join(models[:4])}; keep the "
            "lines of one to see its own.",
        )
    if abs(prompt.count - decode.count) > UNLIKE_COUNTS * decode.count:
        notes += (
            f"Histograms of {prompt.count:,.0f} prompts and of {decode.count:,.0f} outputs are not "
            "of the same requests: lines are missing, or counted twice.",
        )
    if prompt.mean is None or decode.mean is None:
        notes += ("Without the sums of the histograms means come from the edges of buckets alone.",)
    return ServerMetrics(
        system=system,
        prompt_tokens=prompt,
        decode_tokens=decode,
        step_time=found["step"],
        engines=tuple(engines),
        models=models,
        is_window=snapshot.is_window,
        notes=notes,
    )


def _sum(snapshot: Snapshot, metric: str, engine: Engine | None = None) -> Histogram | None:
    """Return a histogram over all engines and models, or of one engine; None without samples."""
    mine = [
        values
        for (name, _, of), values in snapshot.series.items()
        if name == metric and engine in (None, of)
    ]
    bucketed = [values for values in mine if values.keys() - {"sum", "count"}]
    for values in bucketed:
        both = values.get("count", 0.0), values.get("inf", 0.0)
        if min(both) > 0 and max(both) > (1 + UNLIKE_COUNTS) * min(both):
            raise InvalidInputError(
                f"{snapshot.source}: {metric} counts {both[0]:,.0f} requests, its buckets hold "
                f"{both[1]:,.0f}: take the snapshot again"
            )
    # Engines of different versions may have other buckets: those that all have are summed.
    edges = sorted(
        {float(edge) for edge in bucketed[0].keys() - {"sum", "count", "inf"}}.intersection(
            *({float(edge) for edge in v.keys() - {"sum", "count"}} for v in bucketed)
        )
        if bucketed
        else ()
    )
    heights = [sum(values[repr(edge)] for values in bucketed) for edge in edges]
    heights.append(sum(values.get("inf", values.get("count", 0.0)) for values in bucketed))
    cumulative = np.array(heights)
    # Collectors may drop the sums, or their labels: all or none of the buckets have one.
    sums = [values["sum"] for values in mine if "sum" in values]
    having = sum("sum" in values for values in bucketed)
    total = sum(sums) if sums and having in (0, len(bucketed)) else None
    if not edges or cumulative[-1] <= 0:
        return None
    # An increase() is extrapolated bucket by bucket, which may cross by a little.
    even = np.maximum.accumulate(cumulative)
    if (even - cumulative > 0.01 * cumulative[-1]).any():
        raise InvalidInputError(
            f"{snapshot.source}: the buckets of {metric} must be cumulative counts that do not fall"
        )
    counts = np.diff(even, prepend=0.0)
    return Histogram(edges=tuple(edges), counts=tuple(counts.tolist()), total=total)


def _label(engine: Engine, keys: Sequence[Key]) -> str:
    """Return an engine's labels in words, those only that not all engines share."""
    shared = set.intersection(*(set(key[2]) for key in keys))
    own = [(name, value) for name, value in engine if (name, value) not in shared]
    return ", ".join(f"{name} {value}" for name, value in own or engine) or "all"
