"""What do the counters of serving engines say: as text, as JSON of Prometheus, now and before?"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.files.document import Readable, Source, opened

__all__ = [
    "LENGTH_NAMES",
    "PROMETHEUS_SIGN",
    "Histogram",
    "ServerMetrics",
    "Snapshot",
    "read_metrics",
    "read_snapshot",
    "server_metrics",
]

MAXIMUM_BYTES = 64_000_000
LENGTH_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "vLLM": {
        "prompt": ("vllm_request_prompt_tokens",),
        "decode": ("vllm_request_generation_tokens",),
        "step": ("vllm_inter_token_latency_seconds", "vllm_time_per_output_token_seconds"),
    },
    "SGLang": {
        "prompt": ("sglang_prompt_tokens_histogram",),
        "decode": ("sglang_generation_tokens_histogram",),
        "step": ("sglang_inter_token_latency_seconds",),
    },
    "Dynamo": {
        "prompt": ("dynamo_frontend_input_sequence_tokens",),
        "decode": ("dynamo_frontend_output_sequence_tokens",),
        "step": ("dynamo_frontend_inter_token_latency_seconds",),
    },
    "TGI": {
        "prompt": ("tgi_request_input_length",),
        "decode": ("tgi_request_generated_tokens",),
        "step": ("tgi_request_mean_time_per_token_duration",),
    },
}
"""Histograms by engine and meaning, best first; collectors put words before and ``_`` for ``:``."""
PROMETHEUS_SIGN = re.compile(
    rb"(?m)^(# (HELP|TYPE) )?\w*?(vllm|sglang|dynamo|trtllm|tgi)[:_]\w+|"
    rb'"resultType"\s*:\s*"(vector|matrix)"'
)
_ROLES = ("prompt", "decode", "step")
_PART = re.compile(r"(?P<name>.+)_(?P<part>bucket|sum|count)")
_EXEMPLAR = re.compile(r"(?m) # \{.*$")
_APART = frozenset({"le", "model_name", "__name__", "quantile"})
"""Labels that do not tell one engine from another."""

Engine = tuple[tuple[str, str], ...]
Key = tuple[str, str, Engine]
"""Metric, model and the labels of the engine."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """Counters of engines, kept apart by engine and model.

    Attributes
    ----------
    source
        Where they come from.
    series
        Per metric, model and engine: value by edge (``le``), ``sum`` and ``count``.
    is_window
        Whether they are the increase over some time, not counts since a server's start.
    notes
        What was noticed.
    """

    source: str
    series: Mapping[Key, Mapping[str, float]]
    is_window: bool = False
    notes: tuple[str, ...] = ()

    def since(self, earlier: Snapshot) -> Snapshot:
        """Return the increase since an earlier snapshot; a counter that fell began again at 0."""
        if self.is_window or earlier.is_window:
            raise InvalidInputError(
                f"{self.source}: an increase over some time cannot be subtracted: give counters"
            )
        increase: dict[Key, dict[str, float]] = {}
        again: set[Engine] = set()
        for key, values in self.series.items():
            before = earlier.series.get(key, {})
            if any(values.get(name, 0.0) < value for name, value in before.items()):
                before = {}
                again.add(key[2])
            increase[key] = {name: v - before.get(name, 0.0) for name, v in values.items()}
        new = {key[2] for key in self.series} - {key[2] for key in earlier.series}
        gone = {key[2] for key in earlier.series} - {key[2] for key in self.series}
        notes = [
            f"{_named(engines)} {what}"
            for engines, what in (
                (again, "started again since the last snapshot: counted from its start."),
                (new, "was not in the last snapshot: counted from its start."),
                (gone, "is no more: what it served since the last snapshot is not counted."),
            )
            if engines
        ]
        return Snapshot(
            source=self.source,
            series=increase,
            is_window=True,
            notes=(*self.notes, *notes),
        )


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
        Text of ``/metrics`` or JSON of Prometheus's HTTP API, maybe packed, a pipe or ``-``. Two
        of the same names are an earlier and a later one: what is between counts. Before a file,
        ``prompt=``, ``decode=`` or ``step=`` says what a result without names holds.

    Raises
    ------
    InvalidInputError
        If a file is missing, empty, HTML, no metrics, or lacks the histograms.
    """
    snapshots: list[Snapshot] = []
    parts: dict[Key, Mapping[str, float]] = {}
    for path in paths:
        role, equals, name = str(path).partition("=")
        if equals and role in _ROLES and isinstance(path, str):
            part = read_snapshot(name, role)
            parts |= part.series
        else:
            snapshots.append(read_snapshot(path))
    if parts:
        if snapshots:
            raise InvalidInputError("give each result a name (prompt=FILE), or none of them")
        names = " and ".join(str(path) for path in paths)
        return server_metrics(Snapshot(source=names, series=parts, is_window=True))
    if len(snapshots) > 2:
        raise InvalidInputError(f"give one snapshot, or two to subtract, got {len(snapshots)}")
    return server_metrics(snapshots[0] if len(snapshots) == 1 else snapshots[1].since(snapshots[0]))


@opened("metrics", InvalidInputError)
def read_snapshot(source: Source, role: str = "") -> Snapshot:
    """Return the counters in a file: text of ``/metrics``, or JSON of Prometheus's HTTP API.

    Parameters
    ----------
    source
        The file, maybe packed, a pipe or ``-``.
    role
        ``prompt``, ``decode`` or ``step``: what a result without names holds.

    Raises
    ------
    InvalidInputError
        If it is HTML, neither form, or a line of it is no sample.
    """
    text = source.text(MAXIMUM_BYTES)
    if text.lstrip()[:1] == "<":
        raise InvalidInputError(
            f"{source} is HTML, not metrics: ask the server for /metrics (a proxy may have "
            "answered)"
        )
    if source.kind == "json":
        return snapshot_of_api(text, source.name, role)
    return _snapshot(source.name, _text_samples(text, source.name), role, is_window=False)


def snapshot_of_api(text: str | bytes, shown: str, role: str = "") -> Snapshot:
    """Return the counters in an answer of Prometheus's HTTP API: a vector or a matrix.

    A matrix gives what its counters gained from its first to its last time.
    """
    try:
        answer = msgspec.json.decode(text)
        is_good = answer["status"] == "success"
        refusal = "" if is_good else str(answer.get("error", answer["status"]))
        nothing: Any = {"resultType": "vector", "result": []}
        data = answer["data"] if is_good else nothing
        kind, result = data["resultType"], data["result"]
        is_matrix = {"vector": False, "matrix": True}[kind]
        samples: list[tuple[str, Mapping[str, str], float]] = []
        is_named = True
        for found in result:
            labels = {str(name): str(value) for name, value in found["metric"].items()}
            is_named = is_named and "__name__" in labels
            values = (
                [float(v) for _, v in found["values"]] if is_matrix else [float(found["value"][1])]
            )
            gained = _gained(values) if is_matrix else values[0]
            samples.append((labels.pop("__name__", ""), labels, gained))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as e:
        raise InvalidInputError(
            f"{shown}: is no answer of Prometheus's HTTP API ({type(e).__name__}: {str(e)[:80]})"
        ) from None
    if refusal:
        raise InvalidInputError(f"{shown}: Prometheus refused: {refusal[:200]}")
    if not samples:
        raise InvalidInputError(f"{shown}: Prometheus found nothing: check the query and the time")
    # Functions such as increase() drop the name: what they give is an increase.
    return _snapshot(shown, samples, role, is_window=is_matrix or not is_named)


def _gained(values: Sequence[float]) -> float:
    """Return what a counter gained over its samples; where it fell it began again at 0."""
    steps = itertools.pairwise(values)
    return sum(after - before if after >= before else after for before, after in steps)


def _text_samples(text: str, shown: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    from prometheus_client.parser import text_string_to_metric_families

    text = _EXEMPLAR.sub("", text)
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, IndexError, KeyError):
        for number, line in enumerate(text.splitlines(), 1):
            try:
                list(text_string_to_metric_families(line + "\n"))
            except (ValueError, IndexError, KeyError):
                raise InvalidInputError(
                    f"{shown}, line {number}: not a Prometheus sample: {line.strip()[:60]!r}"
                ) from None
        raise InvalidInputError(f"{shown}: is no Prometheus text") from None
    for family in families:
        for sample in family.samples:
            yield sample.name, sample.labels, float(sample.value)


def _snapshot(
    shown: str,
    samples: Iterable[tuple[str, Mapping[str, str], float]],
    role: str,
    is_window: bool,
) -> Snapshot:
    """Return the counters of lengths and steps among samples, by model and engine."""
    series: dict[Key, dict[str, float]] = {}
    others: set[str] = set()
    for name, labels, value in samples:
        part = _PART.fullmatch(name)
        if part is None and not (role and "le" in labels):
            others.add(name)
            continue
        metric = _metric(part["name"]) if part else f"unnamed {role}"
        if not metric:
            others.add(name)
            continue
        edge = labels.get("le", "x").replace("+Inf", "inf")
        kind = part["part"] if part else "bucket"
        if not math.isfinite(value) or value < 0:
            raise InvalidInputError(
                f"{shown}: {name or role} must be a finite number >= 0, got {value:g}"
            )
        if kind == "bucket":
            try:
                kind = repr(float(edge))
            except ValueError:
                raise InvalidInputError(f"{shown}: {name} has no bound le") from None
        engine = tuple(sorted((k, v) for k, v in labels.items() if k not in _APART))
        of = series.setdefault((metric, labels.get("model_name", ""), engine), {})
        of[kind] = of.get(kind, 0.0) + value
    if not series:
        raise InvalidInputError(f"{shown}: {_nothing_known(others)}")
    return Snapshot(source=shown, series=series, is_window=is_window)


def _metric(name: str) -> str:
    """Return the known histogram that a collector's name stands for, "" for another."""
    plain = name.replace(":", "_").lower()
    for roles in LENGTH_NAMES.values():
        for names in roles.values():
            for known in names:
                if plain == known or plain.endswith("_" + known):
                    return known
    return ""


def _nothing_known(names: set[str]) -> str:
    """Return why a text without the histograms does not help."""
    engines = ", ".join(LENGTH_NAMES)
    if not names - {""}:
        return (
            "its samples have no names: say what they are with prompt=FILE, decode=FILE or "
            "step=FILE"
        )
    systems = sorted({name.replace(":", "_").partition("_")[0] for name in names if name})
    shown = ", ".join(systems[:4])
    known = [s for s, roles in LENGTH_NAMES.items() if roles["prompt"][0].split("_")[0] in systems]
    if known:
        return (
            f"no histogram of prompt and output lengths among {known[0]}'s metrics: take the "
            "snapshot from the server that counts requests (the attention server's /metrics)"
        )
    return (
        f"no histogram of prompt and output lengths: its names begin with {shown}; known are "
        f"those of {engines}"
    )


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
        of_role = {role: f"unnamed {role}" for role in _ROLES}
        system = "unnamed"
    missing = [role for role in ("prompt", "decode") if of_role[role] not in present]
    if missing:
        raise InvalidInputError(
            f"{shown}: no histogram of {' and '.join(missing)} lengths with samples, only of "
            f"{', '.join(sorted(present)[:4])}: give both (for results without names, "
            "prompt=FILE and decode=FILE)"
        )
    keys = sorted(key for key in snapshot.series if key[0] == of_role["decode"])
    found = {role: _sum(snapshot, of_role[role]) for role in _ROLES}
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
    return ServerMetrics(
        system=system,
        prompt_tokens=prompt,
        decode_tokens=decode,
        step_time=found["step"],
        engines=tuple(engines),
        models=tuple(dict.fromkeys(key[1] for key in keys if key[1])),
        is_window=snapshot.is_window,
        notes=snapshot.notes,
    )


def _sum(snapshot: Snapshot, metric: str, engine: Engine | None = None) -> Histogram | None:
    """Return a histogram over all engines and models, or of one engine; None without samples."""
    mine = [
        values
        for (name, _, of), values in snapshot.series.items()
        if name == metric and engine in (None, of)
    ]
    bucketed = [values for values in mine if values.keys() - {"sum", "count"}]
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


def _named(engines: Iterable[Any]) -> str:
    names = [" ".join(value for _, value in engine) or "the server" for engine in sorted(engines)]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
