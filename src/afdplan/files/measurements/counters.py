"""What do the counters of serving engines say: as text, as JSON of Prometheus, now and before?"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from afdplan.errors import InvalidInputError
from afdplan.files.document import Source, opened

__all__ = [
    "LENGTH_NAMES",
    "MAXIMUM_BYTES",
    "PROMETHEUS_SIGN",
    "PROMETHEUS_WORDS",
    "ROLES",
    "Engine",
    "Key",
    "Snapshot",
    "named_engines",
    "read_snapshot",
    "snapshot_of_api",
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
_SYSTEM = rb"\w*?(vllm|sglang|dynamo|trtllm|tgi)[:_]\w+"
PROMETHEUS_SIGN = re.compile(
    rb"(?m)^# (HELP|TYPE) " + _SYSTEM + rb"|^" + _SYSTEM + rb"(\{\S|\s+[0-9.eE+-]+\s*$)|"
    rb'"resultType"\s*:\s*"(vector|matrix)"'
)
PROMETHEUS_WORDS = (b"vllm", b"sglang", b"dynamo", b"trtllm", b"tgi", b'"resultType"')
"""One of which is in what shows that sign; found a dozen times as fast."""
ROLES = ("prompt", "decode", "step")
_PART = re.compile(r"(?P<name>.+)_(?P<part>bucket|sum|count)")
_LONGEST_LINE = 65_536
"""Characters of a sample: the parser's time grows with their square, and real ones have 1,000."""
_MOST_LINES = 200_000
"""Some five seconds of the parser; a server of a hundred engines writes a fifth of it."""
_EXEMPLAR = re.compile(r"(?m) # \{.*$")
_APART = frozenset({"le", "model_name", "__name__", "quantile"})
"""Labels that do not tell one engine from another."""

Engine = tuple[tuple[str, str], ...]
Key = tuple[str, str, Engine]
"""Metric, model and the labels of the engine."""


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
            f"{named_engines(engines)} {what}"
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
        warned = [str(said) for said in answer.get("warnings") or ()]
        warned += ["the answer is partial"] * (answer.get("isPartial") is True)
        is_named = is_counter = True
        for found in result:
            labels = {str(name): str(value) for name, value in found["metric"].items()}
            is_named = is_named and "__name__" in labels
            values = (
                [float(v) for _, v in found["values"]] if is_matrix else [float(found["value"][1])]
            )
            is_counter = is_counter and _may_count(values)
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
    if is_matrix and not is_named and not is_counter:
        raise InvalidInputError(
            f"{shown}: a query_range of what rises and falls, as increase() and rate() do: query "
            "it at one time, or give the counters themselves"
        )
    # Functions such as increase() drop the name: what they give is an increase.
    snapshot = _snapshot(shown, samples, role, is_window=is_matrix or not is_named)
    return replace(snapshot, notes=tuple(f"Prometheus warns: {w[:200]}." for w in warned[:2]))


def _may_count(values: Sequence[float]) -> bool:
    """Return whether values may be a counter's: whole numbers that never fall."""
    return all(map(float.is_integer, values)) and sorted(values) == list(values)


def _gained(values: Sequence[float]) -> float:
    """Return what a counter gained over its samples; where it fell it began again at 0."""
    steps = itertools.pairwise(values)
    return sum(after - before if after >= before else after for before, after in steps)


def _text_samples(text: str, shown: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    from prometheus_client.parser import text_string_to_metric_families

    text = _EXEMPLAR.sub("", text)
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        raise InvalidInputError(
            f"{shown}: metrics have at most {_MOST_LINES:,} lines, got {len(lines):,}: keep those "
            "of prompts, outputs and time per token (grep -E "
            "'prompt|generation|input|output|token')"
        )
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST_LINE:
            raise InvalidInputError(
                f"{shown}, line {number}: a sample has at most {_LONGEST_LINE:,} characters, got "
                f"{len(line):,}: leave the line out"
            )
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, IndexError, KeyError):
        for number, line in enumerate(lines, 1):
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
        if part is None and not (role and ("le" in labels or not name)):
            others.add(name)
            continue
        metric = _metric(part["name"]) if part else f"unnamed {role}"
        if not metric:
            others.add(name)
            continue
        edge = labels.get("le", "x").replace("+Inf", "inf")
        # A result without names and bounds is the increase of a _sum.
        kind = part["part"] if part else "bucket" if "le" in labels else "sum"
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
        if kind in of:
            raise InvalidInputError(
                f"{shown}: {name or role} is there twice with the same labels: are these two "
                "snapshots in one file? give them one by one"
            )
        of[kind] = value
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


def named_engines(engines: Iterable[Engine]) -> str:
    """Return engines by the values of their labels, the first four."""
    names = [" ".join(value for _, value in engine) or "the server" for engine in sorted(engines)]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
