"""What do SGLang's decode log lines and its dictionary of step times say?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.model.measurement import Measurements, StageSamples

__all__ = ["read_sglang_log", "read_sglang_step_times"]

_DECODE = re.compile(rb"Decode batch[.,\[]")
_FIELD = re.compile(rb"([#a-z][a-zA-Z /()#-]*?)(?:: |=)\s*([0-9.eE+-]+)")
_RANK = re.compile(rb"\b(?:DP|TP|EP)\d+(?: (?:DP|TP|EP)\d+)*\b")


@opened("measurements", LatencyModelError)
def read_sglang_log(source: Source) -> Measurements:
    """Return decode steps from log lines ``Decode batch. #running-req: ..., #token: ...``.

    A line gives requests, KV tokens and tokens per second since the previous line; the step time
    is requests over throughput. Lines of prefill, and decode lines with queued requests (whose
    interval may hold a prefill) or without throughput, are left out and counted.

    Parameters
    ----------
    source
        The log, maybe gzip.

    Raises
    ------
    LatencyModelError
        If no decode line can be used, or several ranks write into one log.

    Notes
    -----
    The throughput is a mean over the steps between two lines (40 by default), while requests and
    tokens are those at the line.
    """
    steps: list[tuple[int, float, float, float]] = []
    ranks: set[bytes] = set()
    dropped = 0
    for at, line in source.lines():
        if not _DECODE.search(line):
            continue
        rank = _RANK.search(line)
        ranks.add(rank.group() if rank else b"")
        fields: dict[bytes, float] = {}
        for name, value in _FIELD.findall(line[line.index(b"Decode batch") :]):
            try:
                fields[name.strip(b" ,")] = float(value.rstrip(b"."))
            except ValueError:
                continue
        requests, tokens = fields.get(b"#running-req"), fields.get(b"#token")
        rate = fields.get(b"gen throughput (token/s)")
        # A line that was cut, an idle interval, or one that a prefill may have interrupted.
        if not requests or tokens is None or not rate or fields.get(b"#queue-req", 0) > 0:
            dropped += 1
            continue
        steps.append((at, tokens, requests, requests / rate))
    if len(ranks) > 1:
        names = ", ".join(sorted(rank.decode() or "no rank" for rank in ranks)[:6])
        raise LatencyModelError(
            f"{source}: lines of several ranks are mixed ({names}): give the log of one rank"
        )
    if not steps:
        raise LatencyModelError(
            f"{source} holds no usable decode line (#running-req, #token, gen throughput; "
            f"{dropped} left out)"
        )
    table = np.array(steps)
    return Measurements(
        stages=(
            StageSamples(
                stage="step",
                rows=table[:, 0].astype(np.int64),
                loads=table[:, 1],
                requests=table[:, 2],
                times=table[:, 3],
            ),
        ),
        source=source.short_name,
        format="SGLang decode log",
        dropped=dropped,
        notes=(f"{dropped} decode lines were idle, queued or cut and are left out.",),
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
    try:
        document = msgspec.json.decode(source.content(64_000_000))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LatencyModelError(
            f"{source} is no JSON: {str(error)[:120] or 'nested too deeply'}"
        ) from None
    table = next(_dictionaries(document), None)
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
