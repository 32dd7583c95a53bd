"""What do the length histograms of a vLLM Prometheus snapshot say about requests?"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from afdplan.errors import TraceError
from afdplan.files.document import Source, opened
from afdplan.model.trace import MAXIMUM_TOKENS, Trace

__all__ = ["read_prometheus_lengths"]

_SAMPLE = re.compile(r"^(vllm[:_][a-z_]+)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_HISTOGRAMS = {
    "prompt": "request_prompt_tokens",
    "decode": "request_generation_tokens",
}


@opened("measurements", TraceError)
def read_prometheus_lengths(source: Source, requests: int = 20_000) -> Trace:
    """Return a trace whose lengths have the histograms of a Prometheus snapshot.

    Within a bucket lengths are spread evenly in their logarithm, then shifted within the buckets
    so that the mean equals the histogram's own ``_sum / _count``. Prompts and outputs are paired
    at random (fixed seed): a histogram does not say how they go together, which can shift the
    token load, see the term ``Cov(P, D) / E[D]`` of the workload report.

    Parameters
    ----------
    source
        Text of the ``/metrics`` endpoint; all engines and models in it are added up.
    requests
        Number of requests to lay out.

    Raises
    ------
    TraceError
        If a histogram is missing, empty or not cumulative.
    """
    buckets: dict[str, dict[float, float]] = {name: {} for name in _HISTOGRAMS}
    sums = dict.fromkeys(_HISTOGRAMS, 0.0)
    counts = dict.fromkeys(_HISTOGRAMS, 0.0)
    for at, line in source.lines():
        found = _SAMPLE.match(line.decode("utf-8", "replace"))
        if not found:
            continue
        metric = found.group(1)[5:]
        for name, histogram in _HISTOGRAMS.items():
            if not metric.startswith(histogram):
                continue
            labels = dict(_LABEL.findall(found.group(2) or ""))
            try:
                value = float(found.group(3))
                edge = float(labels.get("le", "nan"))
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or value < 0:
                raise TraceError(
                    f"{source}: {metric} in line {at} must be a finite number >= 0, "
                    f"got {found.group(3)[:30]!r} (labels {str(found.group(2))[:60]!r})"
                )
            if metric == f"{histogram}_bucket" and edge > 0:
                buckets[name][edge] = buckets[name].get(edge, 0.0) + value
            elif metric == f"{histogram}_sum":
                sums[name] += value
            elif metric == f"{histogram}_count":
                counts[name] += value
    lengths = {
        name: _lay_out(source, _HISTOGRAMS[name], buckets[name], sums[name], counts[name], requests)
        for name in _HISTOGRAMS
    }
    generator = np.random.default_rng(20260121)
    return Trace(
        prompt_tokens=generator.permutation(lengths["prompt"]),
        decode_tokens=np.maximum(generator.permutation(lengths["decode"]), 1),
        source=source.short_name,
        format="vLLM Prometheus histograms",
        notes=(
            f"Lengths were laid out from histograms of {counts['decode']:.0f} requests.",
            "Prompts and outputs were paired at random: their correlation is not in a histogram.",
        ),
    )


def _lay_out(
    source: Source,
    metric: str,
    cumulative: dict[float, float],
    total: float,
    count: float,
    requests: int,
) -> npt.NDArray[np.int64]:
    """Return sorted lengths with the histogram's shares and mean."""
    edges = np.array(sorted(cumulative))
    if edges.size < 2 or count <= 0:
        raise TraceError(f"{source}: histogram vllm:{metric} is missing or empty")
    heights = np.array([cumulative[edge] for edge in edges])
    if (np.diff(heights) < 0).any():
        raise TraceError(f"{source}: buckets of vllm:{metric} must not decrease")
    mean = total / count
    finite = edges[np.isfinite(edges)]
    # The open bucket ends at twice the last edge, unless the mean asks for more.
    last = max(2 * finite[-1], 2 * mean) if finite.size else max(2 * mean, 1.0)
    uppers = np.where(np.isfinite(edges), edges, min(last, MAXIMUM_TOKENS))
    lowers = np.concatenate([[0.0], uppers[:-1]])
    chance = (np.arange(requests) + 0.5) / requests * heights[-1]
    at = np.minimum(np.searchsorted(heights, chance), edges.size - 1)
    below = np.concatenate([[0.0], heights])[at]
    share = np.clip((chance - below) / np.maximum(heights[at] - below, 1e-300), 0, 1)
    low, high = np.maximum(lowers[at], 0.5), np.maximum(uppers[at], 0.5)

    def at_power(power: float) -> npt.NDArray[np.float64]:
        spread: npt.NDArray[np.float64] = low * (high / low) ** (share**power)
        return spread

    # A power of the share moves all lengths within their buckets: bisect for the mean.
    few, many = -6.0, 6.0
    for _ in range(60):
        middle = (few + many) / 2
        few, many = (middle, many) if at_power(2.0**middle).mean() > mean else (few, middle)
    lengths: npt.NDArray[np.int64] = np.rint(at_power(2.0 ** ((few + many) / 2))).astype(np.int64)
    return np.clip(lengths, 0, MAXIMUM_TOKENS)
