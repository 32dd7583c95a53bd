"""What do SGLang's decode log lines and its dictionary of step times say?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.json_lines import whole_document
from afdplan.model.measurement import Measurements, StageSamples

__all__ = ["read_sglang_log", "read_sglang_step_times"]

_DECODE = re.compile(rb"Decode batch[.,\[]")
_PREFILL = re.compile(rb"Prefill batch[.,\[]")
# Lengths are bounded: what a damaged line repeats a million times would take its square.
_FIELD = re.compile(rb"([#a-z][a-zA-Z_ /()#-]{0,63}?)(?:: |=) {0,9}([0-9.eE+-]+)")
_RANK = re.compile(rb"\b(?:DP|TP|EP|PP|CP)\d+(?: (?:DP|TP|EP|PP|CP)\d+)*\b")
_EAGER = re.compile(rb"graph: False\b")
_RATE_AT_END = re.compile(rb"gen throughput \(token/s\): [0-9.]+$")
_LONGEST = 4096
"""Bytes of a decode line that may hold its numbers: real ones have some 300 in all."""
_TOKENS = (b"#token", b"#full token")
"""KV tokens that attention reads; beside a sliding window or a state they are the full ones."""


@opened("measurements", LatencyModelError)
def read_sglang_log(source: Source, rank: str | None = None) -> Measurements:
    """Return decode steps from log lines ``Decode batch. #running-req: ..., #token: ...``.

    A line gives requests, KV tokens and tokens per second since the previous line; the step time
    is requests over throughput, times the tokens accepted per request and step (``accept len``)
    under speculative decoding. Decode lines after a prefill or with queued requests, whose
    interval may hold a prefill, or without throughput, are left out and counted; so are those
    that ran without a CUDA graph where others had one.

    Parameters
    ----------
    source
        The log, maybe gzip.
    rank
        Whose lines to take: ``DP0``, ``DP0 TP0``, or a number; None or ``all`` takes those of all
        ranks, each as a measurement of one rank.

    Raises
    ------
    LatencyModelError
        If no decode line can be used, or there is no such rank.

    Notes
    -----
    The throughput is a mean over the steps between two lines (40 by default), while requests and
    tokens are those at the line. A prefill of one rank may keep all ranks waiting.
    """
    steps: list[tuple[int, float, float, float]] = []
    accepted: list[float] = []
    ranks: dict[bytes, bool] = {}
    prefills = 0
    seen: dict[bytes, int] = {}  # prefills before the last line of each rank
    ends: list[bool] = []
    eager: list[bool] = []
    prefilled = idle = at = 0
    for at, line in source.lines():
        if _PREFILL.search(line):
            prefills += 1
            continue
        if not _DECODE.search(line):
            continue
        found = _RANK.search(line)
        own = found.group() if found else b""
        if not ranks.setdefault(own, _is_meant(own, rank)):
            continue
        is_interrupted = prefills > seen.get(own, 0)
        seen[own] = prefills
        begin = line.index(b"Decode batch")
        fields = _fields(line[begin : begin + _LONGEST])
        requests, rate = fields.get(b"#running-req"), fields.get(b"gen throughput (token/s)")
        tokens = next((fields[name] for name in _TOKENS if name in fields), None)
        # A line that was cut, an idle interval, or one that a prefill may have interrupted.
        if not requests or tokens is None or not rate or fields.get(b"#queue-req", 0) > 0:
            idle += 1
        elif is_interrupted:
            prefilled += 1
        else:
            accept = next((v for name, v in fields.items() if b"accept len" in name), None)
            if accept is None and any(b"accept" in name for name in fields):
                raise LatencyModelError(
                    f"{source}: line {at} tells of speculative decoding but not how many tokens "
                    "a step brings (accept len): its steps cannot be told from its throughput"
                )
            accept = accept or 1.0
            accepted.append(accept)
            steps.append((at, tokens, requests, requests * accept / rate))
            ends.append(_RATE_AT_END.search(line) is not None)
            eager.append(_EAGER.search(line) is not None)
    if steps and steps[-1][0] == at and ends[-1] and not all(ends):
        steps.pop()  # the file ends within a number
        idle += 1
    if ranks and not any(ranks.values()):
        raise LatencyModelError(
            f"{source}: no line is of rank {rank!r}; there are {_listed(ranks)}, or all"
        )
    if not steps:
        why = (
            f"; {prefilled} of them follow a prefill, whose time they hold too: log a run whose "
            "prefill is done elsewhere"
            if prefilled
            else ""
        )
        raise LatencyModelError(
            f"{source} holds no usable decode line (#running-req, #token, gen throughput; "
            f"{idle + prefilled} left out{why})"
        )
    table = np.array(steps)
    without_graph = np.array(eager[: len(steps)])
    slow = int(without_graph.sum()) if not without_graph.all() else 0
    if slow:
        table = table[~without_graph]
    return Measurements(
        stages=(StageSamples.of_steps(table),),
        source=source.short_name,
        format="SGLang decode log",
        dropped=idle + prefilled + slow,
        notes=tuple(_notes(idle, prefilled, slow, ranks, accepted)),
    )


def _is_meant(own: bytes, wanted: str | None) -> bool:
    """Return whether a rank such as ``DP0 TP0`` is the one asked for."""
    if wanted is None or wanted.lower() == "all":
        return True
    names = own.decode().split()
    if wanted.isdecimal():
        return bool(names) and names[0][2:] == wanted
    return bool(wanted.split()) and set(wanted.upper().split()) <= set(names)


def _listed(ranks: Iterable[bytes]) -> str:
    return ", ".join(sorted(rank.decode() or "lines without a rank" for rank in ranks)[:8])


def _fields(text: bytes) -> dict[bytes, float]:
    fields: dict[bytes, float] = {}
    for name, value in _FIELD.findall(text):
        try:
            fields[name.strip(b" ,").replace(b"_", b" ")] = float(value.rstrip(b"."))
        except ValueError:
            continue
    return fields


def _notes(
    idle: int, prefilled: int, slow: int, ranks: dict[bytes, bool], accepted: list[float]
) -> Iterator[str]:
    yield f"{idle} decode lines were idle, queued or cut and are left out."
    if prefilled:
        yield f"{prefilled} decode lines are left out: a prefill lies within their interval."
    if slow:
        yield (
            f"{slow} decode lines are left out: they ran without a graph of the device's work, "
            "others with one."
        )
    taken = [rank for rank, is_taken in ranks.items() if is_taken]
    if len(taken) > 1:
        yield (
            f"Lines of {len(taken)} ranks ({_listed(taken)}) are taken together, each as a "
            "measurement of one rank (--rank takes one); ranks that step together wait for the "
            "slowest."
        )
    if max(accepted) > 1:
        mean = float(np.mean(accepted))
        yield (
            f"Steps bring {mean:.3g} accepted tokens per request: give --tokens-per-step "
            f"{mean:.3g}."
        )


@opened("measurements", LatencyModelError)
def read_sglang_step_times(source: Source) -> Measurements:
    """Return decode steps from ``step_time_dict`` of ``/get_server_info``.

    The dictionary maps running requests to lists of seconds; idle time pollutes them, so of each
    list the upper tail beyond three robust deviations is left out and counted. KV tokens are not
    recorded: loads are 0.

    Parameters
    ----------
    source
        JSON: the whole server info, or the dictionary itself.

    Raises
    ------
    LatencyModelError
        If there is no such dictionary, or a time is not positive.
    """
    table = next(_dictionaries(whole_document(source, 64_000_000)), None)
    if table is None:
        raise LatencyModelError(
            f"{source} holds no step_time_dict: start the server with SGLANG_RECORD_STEP_TIME=1"
        )
    requests_of: list[float] = []
    times: list[float] = []
    dropped = 0
    for key, values in table.items():
        try:
            requests = int(key)
            found = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise LatencyModelError(
                f"{source}: step_time_dict must map running requests to lists of seconds, "
                f"got {key!r:.40}"
            ) from None
        if found.ndim != 1 or not (np.isfinite(found) & (found > 0)).all() or requests < 0:
            raise LatencyModelError(
                f"{source}: step times of {key} running requests must be finite and > 0"
            )
        if found.size == 0 or requests == 0:
            continue
        middle = np.median(found)
        spread = 1.4826 * np.median(np.abs(found - middle))
        kept = found[found <= middle + 3 * max(spread, 0.01 * middle)]
        dropped += found.size - kept.size
        requests_of += [float(requests)] * kept.size
        times += kept.tolist()
    if not requests_of:
        raise LatencyModelError(f"{source}: step_time_dict is empty")
    return Measurements(
        stages=(
            StageSamples(
                stage="step",
                loads=np.zeros(len(times)),
                requests=np.array(requests_of),
                times=np.array(times),
            ),
        ),
        source=source.short_name,
        format="SGLang step_time_dict",
        dropped=dropped,
        notes=(
            f"{dropped} step times far above the median of their batch (idle time) are left out.",
            "KV tokens are not recorded.",
        ),
    )


def _dictionaries(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every ``step_time_dict`` in a document, from the outside in."""
    open_nodes = [document]
    while open_nodes:
        node = open_nodes.pop(0)
        if isinstance(node, dict):
            inner = node.get("step_time_dict")
            if isinstance(inner, dict):
                yield inner
            open_nodes += node.values()
        elif isinstance(node, list):
            open_nodes += node
    if isinstance(document, dict) and document and all(str(k).isdecimal() for k in document):
        yield document
