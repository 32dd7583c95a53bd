"""Which engines in a snapshot decode requests, and which count the same ones once more?"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.counters import Engine, Key, Snapshot, named_engines

__all__ = ["chosen_engines", "decoding_engines", "engines_serving"]

Counts = tuple[dict[str, float], dict[str, float]]
"""Prompt and output histogram of an engine, by edge."""

_PREFILL = re.compile(r"(?i)(?<![a-z])(prefill(er|ers|s|ing)?|kv_producer)(?![a-z])")
_DECODE = re.compile(r"(?i)(?<![a-z])(decode(r|rs|s)?|decoding|kv_consumer)(?![a-z])")
_ROLE = re.compile(r"role|mode|stage|worker_type")
"""Labels that may say it in a letter, or as context and generation."""
_SHORT_PREFILL = frozenset({"p", "ctx", "context", "producer", "encode", "encoder"})
_SHORT_DECODE = frozenset({"d", "gen", "generation", "consumer"})
_COPIES = re.compile(r"_*(\w+_)?replica_*")
"""Labels that tell Prometheus servers apart, which scrape the same engines."""
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda value, said: value == said,
    "!=": lambda value, said: value != said,
    "=~": lambda value, said: re.fullmatch(said, value) is not None,
    "!~": lambda value, said: re.fullmatch(said, value) is None,
}
FEWEST_ALIKE = 100
"""Requests from which on equal prompts are no chance."""
CLOSER_THAN_CHANCE = 0.3
"""Distance of two histograms of the same n requests, in units of 1 / sqrt(n); by chance above 1."""


def chosen_engines(snapshot: Snapshot, selector: str) -> Snapshot:
    """Return the series whose labels match ``job="decode",pod!~"old.*"``, as Prometheus has it.

    Raises
    ------
    InvalidInputError
        If it is no list of matchers, or nothing matches.

    Examples
    --------
    >>> series = {("m", "", (("job", job),)): {"inf": 1.0} for job in ("prefill", "decode")}
    >>> found = chosen_engines(Snapshot(source="x", series=series), 'job=~"dec.*"')
    >>> [engine for _, _, engine in found.series]
    [(('job', 'decode'),)]
    """
    matchers = []
    at = 0
    while at < len(selector):
        found = _MATCHER.match(selector, at)
        if found is None:
            raise InvalidInputError(
                f'selector must be matchers of labels such as job="decode", got {selector[:80]!r}'
            )
        matchers.append(found.groups())
        at = found.end()

    def matches(key: Key) -> bool:
        labels = {**dict(key[2]), "model_name": key[1]}
        return all(_TESTS[sign](labels.get(name, ""), said) for name, sign, said in matchers)

    try:
        series = {key: values for key, values in snapshot.series.items() if matches(key)}
    except re.error as error:
        raise InvalidInputError(f"selector {selector[:80]!r}: {error}") from None
    if not series:
        known = named_engines(key[2] for key in snapshot.series)
        raise InvalidInputError(f"{snapshot.source}: no engine matches {selector}; it has {known}")
    return replace(snapshot, series=series)


def engines_serving(snapshot: Snapshot, is_wanted: Callable[[str], bool]) -> Snapshot:
    """Return the series of engines that serve a wanted model; all if none or every engine does.

    What else such an engine serves stays: adapters have names of their own.
    """
    serving = {key[2] for key in snapshot.series if key[1] and is_wanted(key[1])}
    others = {key for key in snapshot.series if key[2] not in serving}
    if not serving or not others:
        return snapshot
    models = ", ".join(sorted({key[1] or "no name" for key in others})[:4])
    return replace(
        snapshot,
        series={key: of for key, of in snapshot.series.items() if key not in others},
        notes=(*snapshot.notes, f"engines that serve another model ({models}) are left out."),
    )


def decoding_engines(snapshot: Snapshot, prompt: str, decode: str) -> Snapshot:
    """Return the series of those engines whose requests count, each once.

    Left out, with a note, are engines that only prefill for others, by their labels or because they
    gave one token per request, and those that two Prometheus servers scraped.

    Parameters
    ----------
    snapshot
        Counters of engines.
    prompt, decode
        Names of the histograms of lengths.

    Raises
    ------
    InvalidInputError
        If all engines only prefill.
    """
    found = {
        engine: (_counted(snapshot, prompt, engine), _counted(snapshot, decode, engine))
        for engine in dict.fromkeys(key[2] for key in snapshot.series)
    }
    serving = {engine: of for engine, of in found.items() if _requests(of[1]) > 0}
    roles = {engine: _role(engine, serving) for engine in serving}
    single = {engine for engine, of in serving.items() if _gives_one_token(of[1])}
    prefill = {e for e, role in roles.items() if role == "prefill" or (not role and e in single)}
    if prefill and prefill == set(serving) == single and "prefill" in roles.values():
        raise InvalidInputError(
            f"{snapshot.source}: {named_engines(prefill)} gave one token per request, as engines "
            "that only prefill do: give the metrics of those that decode"
        )
    notes = []
    if prefill and prefill == set(serving):
        if "prefill" in roles.values():
            notes.append(f"{named_engines(prefill)} names itself a prefill engine: does it decode?")
        prefill = set()
    if prefill:
        requests = sum(_requests(serving[engine][1]) for engine in prefill)
        notes.append(
            f"Engines that only prefill, by their labels or their one token per request, are left "
            f"out ({named_engines(prefill)}): those that decode count their {requests:,.0f} "
            "requests again."
        )
    kept = {engine: of for engine, of in serving.items() if engine not in prefill}
    copies = _copies(kept)
    if copies:
        notes.append(
            "Engines with the counts of another, as two Prometheus servers scrape them, are "
            f"counted once ({named_engines(copies)})."
        )
    apart = [engine for engine in kept if engine not in copies]
    alike = next((p for p in itertools.combinations(apart, 2) if _same(*(kept[e] for e in p))), ())
    if alike:
        notes.append(
            f"{named_engines(alike)} served prompts of the same lengths, closer than chance: if "
            "one prefills for the other every request is counted twice; pick engines with "
            "--selector of afdplan check, or give their lines alone."
        )
    gone = prefill | copies
    series = {key: of for key, of in snapshot.series.items() if key[2] not in gone}
    return replace(snapshot, series=series, notes=(*snapshot.notes, *notes))


def _counted(snapshot: Snapshot, metric: str, engine: Engine) -> dict[str, float]:
    """Return a histogram of an engine over all models that it serves."""
    summed: dict[str, float] = {}
    for (name, _, of), values in snapshot.series.items():
        if name == metric and of == engine:
            for edge, value in values.items():
                summed[edge] = summed.get(edge, 0.0) + value
    return summed


def _requests(of: Mapping[str, float]) -> float:
    return of.get("inf", of.get("count", 0.0))


def _role(engine: Engine, all_of: Collection[Engine]) -> str:
    """Return ``prefill`` or ``decode`` if the labels say so that not all engines share."""
    shared = set.intersection(*map(set, all_of)) if len(all_of) > 1 else set()
    own = [label for label in engine if label not in shared]
    words = " ".join(value for _, value in own)
    said = {value.lower() for name, value in own if _ROLE.search(name)}
    is_prefill = bool(_PREFILL.search(words) or said & _SHORT_PREFILL)
    is_decode = bool(_DECODE.search(words) or said & _SHORT_DECODE)
    if is_prefill == is_decode:
        return ""
    return "prefill" if is_prefill else "decode"


def _copies(kept: Mapping[Engine, Counts]) -> set[Engine]:
    """Return engines that are others again: all counts are the same, or only a replica differs."""
    groups: dict[object, list[Engine]] = {}
    for engine, of in kept.items():
        if _is_spread(of[0]) or _is_spread(of[1]):  # equal loads of a benchmark are alike too
            groups.setdefault(repr([sorted(values.items()) for values in of]), []).append(engine)
        names = dict(engine)
        if names.keys() & {"instance", "pod", "host"}:
            plain = tuple(label for label in engine if not _COPIES.fullmatch(label[0]))
            groups.setdefault(plain, []).append(engine)
    found = set[Engine]()
    for same in groups.values():
        left = sorted(set(same) - found, key=lambda e: _requests(kept[e][1]))
        found.update(left[:-1])
    return found


def _gives_one_token(decode: Mapping[str, float]) -> bool:
    """Return whether all outputs of a histogram have one token, or none."""
    count = _requests(decode)
    return count > 0 and decode.get("sum", count + 1 - (decode.get("1.0") == count)) <= count


def _is_spread(of: Mapping[str, float]) -> bool:
    """Return whether a histogram has samples in more than one bucket."""
    return len({of[edge] for edge in of.keys() - {"sum", "count"}} - {0.0}) > 1


def _same(one: Counts, other: Counts) -> bool:
    """Return whether two engines had prompts of the same lengths, as if they were the same."""
    edges = sorted({float(e) for of in (one[0], other[0]) for e in of.keys() - {"sum", "count"}})
    most = max(_requests(one[0]), _requests(other[0]))
    if most < FEWEST_ALIKE or not _is_spread(one[0]):
        return False
    heights = [[of[0].get(repr(edge), 0.0) for edge in edges] for of in (one, other)]
    steps = [[b - a for a, b in itertools.pairwise([0.0, *of])] for of in heights]
    apart = sum(abs(a - b) for a, b in zip(*steps, strict=True))
    return bool(apart < CLOSER_THAN_CHANCE * math.sqrt(most))
