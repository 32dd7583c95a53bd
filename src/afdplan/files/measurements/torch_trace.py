"""What do torch profiler traces of the vLLM AFD plugin say about one role's layers?

The traces hold no AFD annotation, so layers are found from the communication kernels: a worker
computes from the end of what it received to the start of what it sends. Files reach gigabytes,
so events are read one by one and only times of communication are kept.
"""

from __future__ import annotations

import codecs
import json
import re
from array import array
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.files.document import Readable, Source, open_source, opened
from afdplan.model.measurement import Measurements, StageSamples

__all__ = ["TraceRole", "read_torch_trace", "trace_events"]

TraceRole = Literal["attention", "ffn"]
_LARGEST_EVENT = 16 << 20
_STEP = re.compile(r"ProfilerStep#(\d+)")
_FLOATS: Literal["d"] = "d"


def trace_events(path: Readable) -> Iterator[dict[str, Any]]:
    """Yield the events of a Chrome trace one by one, in constant memory.

    Parameters
    ----------
    path
        JSON, maybe packed: an object with ``traceEvents``, or the list of events alone.

    Raises
    ------
    LatencyModelError
        If the file is cut, no such trace, nested too deeply or holds an event above 16 MB.
    """
    with open_source(path, "a profiler trace", LatencyModelError) as source:
        yield from _events(source)


def _events(source: Source) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    text_of = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    chunks = source.blocks()

    def more() -> str:
        return text_of(next(chunks, b""))

    buffer = more().lstrip("\ufeff \t\r\n")
    if not buffer.startswith("["):
        buffer = _skip_to_events(source, buffer, more)
    at, count = 1, 0
    while True:
        at = _skip_blanks(buffer, at)
        if at < len(buffer) and buffer[at] == "]":
            return
        if at < len(buffer):
            try:
                event, at = decode(buffer, at)
            except RecursionError:
                raise LatencyModelError(
                    f"{source}: event {count + 1} is nested too deeply"
                ) from None
            except json.JSONDecodeError as error:
                # Whole text ahead and still no value: broken, not merely cut by the chunk.
                if len(buffer) - at > _LARGEST_EVENT:
                    raise LatencyModelError(
                        f"{source}: event {count + 1} is no JSON or above 16 MB: {error.msg}"
                    ) from None
            else:
                count += 1
                if isinstance(event, dict):
                    yield event
                continue
        chunk = more()
        if not chunk:
            raise LatencyModelError(
                f"{source} ends within its list of events (after {count}): was the file cut?"
            )
        buffer, at = buffer[at:] + chunk, 0


def _skip_blanks(buffer: str, at: int) -> int:
    while at < len(buffer) and buffer[at] in ", \t\r\n":
        at += 1
    return at


def _skip_to_events(source: Source, buffer: str, more: Any) -> str:
    """Return the text from the opening bracket of ``traceEvents`` on."""
    key = re.compile(r'"traceEvents"\s*:\s*\[')
    while True:
        found = key.search(buffer)
        if found:
            return buffer[found.end() - 1 :]
        chunk = more()
        if not chunk:
            raise LatencyModelError(f"{source} is no Chrome trace: it has no list traceEvents")
        # What precedes the events is small in real traces; keep enough to span the key.
        buffer = buffer[-64:] + chunk


def _direction(event: dict[str, Any], role: TraceRole) -> str:
    """Return ``send``, ``receive``, ``either`` or nothing for one event."""
    name = str(event.get("name", ""))
    lower = name.lower()
    if "afd_ascend::a2e" in lower:
        return "send" if role == "attention" else "receive"
    if "afd_ascend::e2a" in lower:
        return "receive" if role == "attention" else "send"
    if "sendrecv" not in lower and "nccldevkernel_send" not in lower:
        return ""
    arguments = event.get("args")
    kind = str(arguments.get("Collective name", "")).lower() if isinstance(arguments, dict) else ""
    return "send" if "send" in kind else "receive" if "recv" in kind else "either"


@opened("measurements", LatencyModelError)
def read_torch_trace(
    source: Source,
    role: TraceRole,
    *,
    load: float,
    requests: float | None = None,
    microbatches: int | None = None,
    peers: int = 1,
) -> Measurements:
    """Return per-layer compute times and wire times of one rank from its profiler trace.

    The k-th compute of a rank runs from ``max(end of what it received, start of the send before)``
    to the start of its own send. A send or receive kernel also waits for its peer, so the least
    duration over the trace is taken as wire time.

    Parameters
    ----------
    source
        Chrome trace, maybe gzip, hundreds of megabytes.
    role
        ``attention`` or ``ffn``: whose trace it is; the trace does not say.
    load
        Load of one microbatch during the trace [tokens]: KV tokens for attention, tokens for FFN.
    requests
        Requests of the microbatch; for FFN the load is taken.
    microbatches
        m in flight; needed for attention if there are several. None takes 1, and refuses a trace
        in which attention works while its microbatch is away.
    peers
        Transfers per microbatch and direction (F for attention; A / F for FFN) if the kernels of
        several peers are not fused.

    Raises
    ------
    LatencyModelError
        If the trace is cut, of several devices, or has no communication that can be told apart.
    """
    kinds = {"send": (array(_FLOATS), array(_FLOATS)), "receive": (array(_FLOATS), array(_FLOATS))}
    either = (array(_FLOATS), array(_FLOATS))
    busy = array(_FLOATS)
    steps: dict[int, float] = {}
    devices: set[Any] = set()
    for event in trace_events(source):
        if event.get("ph") not in ("X", None):
            continue
        begin, length = event.get("ts"), event.get("dur")
        if not isinstance(begin, int | float) or not isinstance(length, int | float):
            continue
        step = _STEP.match(str(event.get("name", "")))
        if step:
            steps.setdefault(int(step.group(1)), float(begin))
            continue
        if str(event.get("cat", "kernel")).lower() not in ("kernel", "npu"):
            continue
        direction = _direction(event, role)
        if not direction:
            busy.append(float(begin))
            continue
        arguments = event.get("args")
        if isinstance(arguments, dict) and "device" in arguments:
            devices.add(arguments["device"])
        starts, ends = either if direction == "either" else kinds[direction]
        starts.append(float(begin))
        ends.append(float(begin) + float(length))
    if len(devices) > 1:
        shown = ", ".join(str(device) for device in sorted(devices, key=str)[:6])
        raise LatencyModelError(
            f"{source}: kernels of devices {shown} are mixed: give the trace of one rank"
        )
    sends, receives, notes = _told_apart(source, role, kinds, either, microbatches or 1, peers)
    if microbatches is None:
        if role == "attention" and _overlaps(sends, receives, np.array(busy), peers):
            raise LatencyModelError(
                f"{source}: attention works while a microbatch is away, so several are in flight: "
                "give --microbatches"
            )
        microbatches = 1
    times = _compute_times(sends, receives, role, microbatches, peers)
    if times.size == 0:
        raise LatencyModelError(
            f"{source}: found {len(sends)} sends and {len(receives)} receives of role {role}, from "
            "which no compute time follows: is the role right, and does the trace span a step?"
        )
    tokens = float(requests) if requests is not None else load
    stages = [_samples(role, times * 1e-6, load, requests if role == "attention" else None)]
    for stage, spans in (("send", sends), ("receive", receives)):
        wire = float((spans[:, 1] - spans[:, 0]).min()) * 1e-6 if len(spans) else 0.0
        # Transfers are named by their way: the FFN's sends are attention's receives.
        named = stage if role == "attention" else {"send": "receive", "receive": "send"}[stage]
        if wire > 0:
            stages.append(_samples(named, np.array([wire]), tokens, None))
    if len(steps) > 1:
        begins = np.array([steps[k] for k in sorted(steps)])
        stages.append(_samples("step", np.diff(begins) * 1e-6, load, requests))
        inside = int(((sends[:, 0] >= begins[0]) & (sends[:, 0] < begins[-1])).sum())
        rounds = inside / peers / (begins.size - 1)
        notes.append(
            f"{begins.size - 1} whole steps of {rounds:.4g} sends (layers x microbatches)."
        )
    return Measurements(
        stages=tuple(stages),
        source=source.short_name,
        format="torch profiler trace",
        notes=tuple(notes),
    )


def _samples(stage: Any, times: FloatArray, load: float, requests: float | None) -> StageSamples:
    return StageSamples(
        stage=stage,
        loads=np.full(times.size, float(load)),
        times=times,
        requests=None if requests is None else np.full(times.size, float(requests)),
    )


Spans = FloatArray


def _spans(pair: tuple[array[float], array[float]]) -> Spans:
    """Return (start, end) of each kernel in order of its start, shape (n, 2)."""
    spans = np.column_stack([np.array(pair[0]), np.array(pair[1])]).reshape(-1, 2)
    return spans[np.argsort(spans[:, 0], kind="stable")]


def _told_apart(
    source: Source,
    role: TraceRole,
    kinds: dict[str, tuple[array[float], array[float]]],
    either: tuple[array[float], array[float]],
    microbatches: int,
    peers: int,
) -> tuple[Spans, Spans, list[str]]:
    """Return sends and receives; NCCL kernels that name no direction are told by their turn."""
    sends, receives = _spans(kinds["send"]), _spans(kinds["receive"])
    if not len(either[0]):
        return sends, receives, []
    if len(sends) or len(receives):
        return sends, receives, [f"{len(either[0])} kernels named no direction and are left out."]
    if microbatches > 1:
        raise LatencyModelError(
            f"{source}: its SendRecv kernels name no direction (no 'Collective name'), which only "
            "works with one microbatch in flight: profile with microbatches 1"
        )
    spans = _spans(either)
    turn = np.arange(len(spans)) // peers % 2
    first = 0 if role == "attention" else 1  # attention sends first, FFN receives first
    notes = ["Kernels name no direction: sends and receives are told apart by their turn."]
    return spans[turn == first], spans[turn != first], notes


def _overlaps(sends: Spans, receives: Spans, busy: FloatArray, peers: int) -> bool:
    """Return whether attention computes or sends between its send and the reply to it."""
    count = min(len(sends), len(receives)) // peers
    sent = sends[: count * peers, 1].reshape(count, peers).max(axis=1)
    back = np.sort(receives[:, 1])[: count * peers].reshape(count, peers).max(axis=1)
    work = np.sort(np.concatenate([busy, sends[::peers, 0]]))
    between = np.searchsorted(work, back, side="left") - np.searchsorted(work, sent, side="left")
    return bool(count) and float(np.mean(between > 0)) > 0.2


def _compute_times(
    sends: Spans, receives: Spans, role: TraceRole, microbatches: int, peers: int
) -> FloatArray:
    """Return the compute times of a rank [us], one per microbatch and layer."""
    count = min(len(sends), len(receives)) // peers
    if count < 2:
        return np.empty(0)
    begins = sends[: count * peers, 0].reshape(count, peers).min(axis=1)
    arrived = receives[: count * peers, 1].reshape(count, peers).max(axis=1)
    # Attention sends m microbatches before the first comes back; the FFN receives first.
    lag = microbatches if role == "attention" else 0
    ready = arrived[: count - lag]
    own = begins[lag:]
    before = np.concatenate([[-np.inf], begins])[lag : lag + own.size]
    times: FloatArray = own - np.maximum(ready, before)
    return times[times > 0]
