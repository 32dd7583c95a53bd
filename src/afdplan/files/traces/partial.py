"""Is an answer of an API only one page of what there is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["pages_left"]

LINKS = ("next", "nextpage", "nextcursor", "nextpagetoken", "nextlink", "odatanextlink", "cursor")
"""Keys of what leads to the next page; empty on the last."""
COUNTS = ("totalitems", "totalcount", "totalresults", "totalrecords")
PAGED = {"limit", "offset", "page", "perpage", "pagesize", "skip", "timedout"}
"""Beside one of these a mere ``total`` or ``count`` is that of all records."""
WRAPPERS = ("meta", "pagination", "paging", "page", "links", "pageinfo", "cursors", "hits")


def pages_left(values: Sequence[Any]) -> tuple[str, ...]:
    """Return what says that answers of an API are only a part, if anything does.

    Parameters
    ----------
    values
        The values of a file, one answer each.

    Examples
    --------
    >>> pages_left([{"data": [{}], "meta": {"page": 1, "totalPages": 7}}])
    ('it holds page 1 of 7 only: fetch the others too',)
    """
    answers = [value for value in values if isinstance(value, dict)]
    if not answers or len(answers) < len(values) or not all(map(_rows, answers)):
        return ()
    rows = sum(map(_rows, answers))
    said = [_said(answer) for answer in answers]
    pages = {of["page"] for of in said if isinstance(of.get("page"), int)}
    in_all = max((of["totalpages"] for of in said if _is_count(of.get("totalpages"))), default=0)
    if pages and in_all > len(pages):
        which = f"page {min(pages)}" if len(pages) == 1 else f"{len(pages)} pages"
        return (f"it holds {which} of {in_all} only: fetch the others too",)
    counts = (*COUNTS, "total", "count") if any(of.keys() & PAGED for of in said) else COUNTS
    most = max((of[key] for of in said for key in counts if _is_count(of.get(key))), default=0)
    if most > rows:
        return (f"it holds {rows:,} of {most:,} records only: fetch the others too",)
    last = said[-1]
    if last.get("hasmore") is True or last.get("hasnextpage") is True:
        return ("the answer says that there is more: fetch the next pages too",)
    if any(isinstance(last.get(key), str) and last[key] for key in LINKS):
        return ("the answer names a next page: fetch it too",)
    return ()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _said(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer says about pages, by key in lower case without signs."""
    inner = {_plain(key): value for key, value in answer.items()}
    said = {key: value for key, value in inner.items() if not isinstance(value, dict | list)}
    for key in WRAPPERS:
        if isinstance(inner.get(key), dict):
            said |= {_plain(name): value for name, value in inner[key].items()}
    total = said.get("total")
    if isinstance(total, dict):  # Elasticsearch: hits.total.value
        said["total"] = total.get("value")
    return said


def _rows(answer: dict[str, Any]) -> int:
    """Return how many records an answer holds in the one list of objects it has."""
    nodes = [answer, *(value for value in answer.values() if isinstance(value, dict))]
    lists = [
        value
        for node in nodes
        for value in node.values()
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    ]
    return len(lists[0]) if len(lists) == 1 else 0


def _plain(key: Any) -> str:
    return "".join(sign for sign in str(key).lower() if sign.isalnum())
