"""What did the counters of serving engines gain over some time, asked of a Prometheus server?"""

from __future__ import annotations

import http.client
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.counters import (
    LENGTH_NAMES,
    MAXIMUM_BYTES,
    Snapshot,
    snapshot_of_api,
)

__all__ = ["prometheus_increase"]

TIMEOUT = 30.0
"""Seconds of silence, and twice that of a whole answer: a drop from time to time is no silence."""


def prometheus_increase(url: str, window: float, selector: str = "") -> Snapshot:
    """Return what the histograms of lengths and steps gained over the last `window` seconds.

    Parameters
    ----------
    url
        Of the server: ``http://prometheus:9090``, with a path if it lives below one.
    window
        Seconds, >= 1.
    selector
        Label matchers that pick engines: ``job="decode",namespace="prod"``.

    Raises
    ------
    InvalidInputError
        If the server cannot be reached, refuses, or knows none of the histograms.

    Notes
    -----
    Counters now and `window` seconds ago are asked for and subtracted here, so counts stay whole;
    ``increase()`` would extrapolate each bucket by itself.
    """
    known = "|".join(
        name.replace("_", "[:_]", 1)
        for roles in LENGTH_NAMES.values()
        for names in roles.values()
        for name in names
    )
    matchers = f'__name__=~"(.*[:_])?({known})_(bucket|sum|count)"'
    query = f"{{{matchers}{',' if selector else ''}{selector}}}"
    now = _ask(url, query)
    if now is None:
        raise InvalidInputError(
            f"Prometheus at {_shown(url)} knows no histogram of prompt and output lengths of "
            f"{', '.join(LENGTH_NAMES)}: is the server scraped, and the selector right?"
        )
    before = _ask(url, f"{query} offset {round(window)}s")
    # Without series then, the engines started since: all that they count is in the window.
    return now.since(before or Snapshot(source=now.source, series={}))


def _shown(url: str) -> str:
    """Return an address without what may be a password, once it is one."""
    try:
        address = urllib.parse.urlsplit(url)
        is_one = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:  # brackets of nothing
        is_one = False
    if not is_one:
        raise InvalidInputError(
            f"the address of Prometheus must be such as http://prometheus:9090, got {url[:100]!r}"
        )
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def _ask(url: str, query: str) -> Snapshot | None:
    """Return what a query finds; None if nothing."""
    shown = _shown(url)
    target = f"{url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        content, refusal = _in_time(lambda: _answer(target))
        if refusal and not content.lstrip().startswith(b"{"):
            raise InvalidInputError(f"{shown}: answers {refusal}")
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InvalidInputError(
            f"cannot reach Prometheus at {shown}: {str(reason)[:120]}"
        ) from None
    if len(content) > MAXIMUM_BYTES:
        raise InvalidInputError(f"{shown}: the answer is too large: pick engines with a selector")
    if b'"result":[]' in content[:200]:
        return None
    return snapshot_of_api(content, shown)


def _answer(target: str) -> tuple[bytes, str]:
    """Return what an address answers, and the code and words of an answer that is a refusal."""
    try:
        with urllib.request.urlopen(target, timeout=TIMEOUT) as answer:
            return answer.read(MAXIMUM_BYTES + 1), ""
    except urllib.error.HTTPError as error:
        return error.read(10_000), f"{error.code} {error.reason}"


def _in_time(ask: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
    """Return what `ask` returns, or raise what it raises, or `TimeoutError` if it is too slow."""
    found: queue.SimpleQueue[tuple[bytes, str] | Exception] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            found.put(ask())
        except Exception as error:
            found.put(error)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        answer = found.get(timeout=2 * TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"no whole answer in {2 * TIMEOUT:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
