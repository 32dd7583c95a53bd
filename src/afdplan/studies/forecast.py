"""How long will a study take, and how large will its results be?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from afdplan.studies.case_runner import CaseRunner
from afdplan.studies.study import Study

__all__ = ["Forecast", "forecast"]

LONG_SECONDS = 1.0
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


def forecast(study: Study, cases: int, workers: int, clock: Callable[[], float]) -> Forecast:
    """Return the cost of `cases` of a study, from trying two to four that lie far apart.

    Parameters
    ----------
    study, cases, workers
        How many of the study's cases remain, and how many workers share them.
    clock
        Returns seconds, for example `time.perf_counter`.
    """
    runner = CaseRunner(study)
    places = list(dict.fromkeys((study.cases // 2, study.cases // 6, 5 * study.cases // 6)))

    rows = []

    def seconds_of(place: int) -> float:
        start = clock()
        rows.append(runner.row(place))
        return clock() - start

    # The first one pays for imports and compilation, and is left out.
    seconds_of(places[0])
    times = [seconds_of(places[-1])]
    if times[0] < LONG_SECONDS:
        times += [seconds_of(place) for place in places[:-1]]
    seconds = sum(times) / len(times)
    size = 0
    for column in study.columns:
        value = rows[-1][column.name]
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
