"""What does a Prometheus text snapshot of a vLLM server say about its requests?"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from afdplan.errors import InvalidInputError
from afdplan.files.document import Source, opened

__all__ = ["Histogram", "ServerMetrics", "read_metrics"]

PROMETHEUS_SIGN = re.compile(
    rb"(?m)^(# (HELP|TYPE) )?\w*?(vllm|sglang|dynamo\w*|trtllm)[:_]\w+_bucket\b|"
    rb'"resultType"\s*:\s*"(vector|matrix)"'
)
_MAXIMUM_BYTES = 64_000_000
_SAMPLE = re.compile(
    r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?"
)
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_PROMPT = ("vllm:request_prompt_tokens",)
_DECODE = ("vllm:request_generation_tokens",)
_STEP = ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A Prometheus histogram, summed over engines.

    Attributes
    ----------
    edges
        Upper edge of each finite bucket, ascending.
    counts
        Samples in each bucket, the last one beyond the last edge; one more than `edges`.
    total
        Sum of all samples.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def count(self) -> float:
        """Number of samples."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Mean of the samples."""
        return self.total / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """What a snapshot says.

    Attributes
    ----------
    prompt_tokens, decode_tokens
        Lengths of finished requests.
    step_time
        Time between output tokens of a request [s]; None if the server does not export it.
    """

    prompt_tokens: Histogram
    decode_tokens: Histogram
    step_time: Histogram | None


@opened("a snapshot of metrics in Prometheus text", InvalidInputError)
def read_metrics(source: Source) -> ServerMetrics:
    """Return the histograms of requests and steps in a snapshot of ``/metrics``.

    Raises
    ------
    InvalidInputError
        If the file is missing, empty, HTML, no Prometheus text, or lacks the histograms.
    """
    shown, text = source.name, source.text(_MAXIMUM_BYTES)
    if text.lstrip()[:1] == "<":
        raise InvalidInputError(
            f"{shown} is HTML, not metrics: ask the server for /metrics (a proxy may have answered)"
        )
    samples = _samples(text, shown)
    prompt = _histogram(samples, _PROMPT, shown)
    decode = _histogram(samples, _DECODE, shown)
    if prompt is None or decode is None:
        missing = (_PROMPT if prompt is None else _DECODE)[0]
        raise InvalidInputError(
            f"{shown}: no histogram {missing} with samples: take the snapshot from the attention "
            "server's /metrics after it has finished some requests"
        )
    return ServerMetrics(
        prompt_tokens=prompt, decode_tokens=decode, step_time=_histogram(samples, _STEP, shown)
    )


def _samples(text: str, shown: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line.strip())
        try:
            value = float(match["value"]) if match else math.nan
        except ValueError:
            match = None
        if match is None:
            raise InvalidInputError(
                f"{shown}, line {number}: not a Prometheus sample: {line.strip()[:60]!r}"
            )
        found[match["name"]].append((dict(_LABEL.findall(match["labels"] or "")), value))
    return found


def _histogram(
    samples: dict[str, list[tuple[dict[str, str], float]]], names: tuple[str, ...], shown: str
) -> Histogram | None:
    """Return the first of `names` that has samples, its engines added up."""
    for name in names:
        cumulative: dict[float, float] = defaultdict(float)
        for labels, value in samples.get(f"{name}_bucket", []):
            try:
                edge = float(labels.get("le", "x").replace("+Inf", "inf"))
            except ValueError:
                raise InvalidInputError(f"{shown}: {name}_bucket has no bound le") from None
            cumulative[edge] += value
        total = sum(value for _, value in samples.get(f"{name}_sum", []))
        edges = sorted(edge for edge in cumulative if math.isfinite(edge))
        heights = [cumulative[edge] for edge in edges] + [cumulative.get(math.inf, 0.0)]
        if not edges or heights[-1] <= 0:
            continue
        counts = [high - low for low, high in zip([0.0, *heights], heights, strict=False)]
        if any(not math.isfinite(c) or c < 0 for c in counts) or not 0 <= total < math.inf:
            raise InvalidInputError(
                f"{shown}: the buckets of {name} must be cumulative counts that do not fall"
            )
        return Histogram(edges=tuple(edges), counts=tuple(counts), total=total)
    return None
