"""What did the counters of serving engines gain over some time, asked of a Prometheus server?"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.counters import (
    LENGTH_NAMES,
    MAXIMUM_BYTES,
    Snapshot,
    snapshot_of_api,
)

__all__ = ["prometheus_increase"]

TIMEOUT = 30.0


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
        with urllib.request.urlopen(target, timeout=TIMEOUT) as answer:
            content = answer.read(MAXIMUM_BYTES + 1)
    except urllib.error.HTTPError as error:
        content = error.read(10_000)
        if not content.lstrip().startswith(b"{"):
            raise InvalidInputError(f"{shown}: answers {error.code} {error.reason}") from None
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
