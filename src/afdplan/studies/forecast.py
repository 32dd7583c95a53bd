"""How long will a study take, and how large will its results be?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.files.results.rows import decode_rows
from afdplan.studies.engine import Engine, Outcome
from afdplan.studies.study import Study

__all__ = ["Forecast", "forecast"]

LONG_SECONDS = 1.0
POLL_SECONDS = 0.5
_BYTES = {"count": 3, "number": 8, "flag": 1, "text": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a study will cost.

    Attributes
    ----------
    cases
        To be computed.
    seconds_per_case
        Of one worker, from the cases tried [s].
    seconds
        On all workers [s].
    size
        Of the results [bytes], within a factor of two.
    """

    cases: int
    seconds_per_case: float
    seconds: float
    size: int


def forecast(study: Study, engine: Engine, cases: int, workers: int) -> Forecast | None:
    """Return the cost of `cases` of a study, from trying two to four that lie far apart.

    They are tried by a worker, one after the other: a case that kills kills no more than that.

    Parameters
    ----------
    study, engine
        The study and who computes it.
    cases, workers
        How many of the study's cases remain, and how many workers share them.

    Returns
    -------
    Forecast or None
        None if a worker died.
    """
    places = list(dict.fromkeys((study.cases // 2, study.cases // 6, 5 * study.cases // 6)))
    # The first one pays for imports and compilation, and is left out.
    first = _try(engine, places[0])
    tried = [] if first is None else [_try(engine, places[-1])]
    if tried and tried[0] is not None and tried[0].seconds < LONG_SECONDS:
        tried += [_try(engine, place) for place in places[:-1]]
    outcomes = [outcome for outcome in tried if outcome is not None]
    if not outcomes or len(outcomes) < len(tried):
        return None
    seconds = sum(outcome.seconds for outcome in outcomes) / len(outcomes)
    row = decode_rows([outcome.rows for outcome in outcomes if outcome.rows]).row(0, named=True)
    size = 0
    for column in study.columns:
        value = row.get(column.name)
        if value is None:
            continue
        if column.data in ("counts", "numbers"):
            size += (2 if column.data == "counts" else 8) * len(value)
        else:
            size += 32 if column.name == "case_hash" else _BYTES[column.data]
    return Forecast(
        cases=cases,
        seconds_per_case=seconds,
        seconds=seconds * cases / workers,
        size=size * cases + 20_000,
    )


def _try(engine: Engine, place: int) -> Outcome | None:
    """Return what became of one case; None if it killed its worker."""
    engine.submit((place,))
    while not (outcomes := engine.collect(POLL_SECONDS)):
        pass
    return outcomes[0] if outcomes[0].rows is not None else None
