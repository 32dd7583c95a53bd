"""How does a study run to its end on any engine, losing at most the chunks in flight?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from afdplan.errors import InvalidInputError
from afdplan.files.results.dataset import ResultsDataset, read_manifest
from afdplan.files.results.rows import decode_rows
from afdplan.studies.case_runner import FAILED, REFUSED, CaseRunner
from afdplan.studies.case_set import CaseSet
from afdplan.studies.engine import Engine, Outcome
from afdplan.studies.study import Study
from afdplan.version import __version__

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Tally", "new_results", "resume_results", "run_study"]

CHUNK_SECONDS = 0.3
LARGEST_CHUNK = 512
PART_SECONDS = 0.5
LATEST_PART_SECONDS = 30.0
PART_SHARE = 0.02  # of the time so far: fifty parts for each e-fold of it, and few files at the end
PART_ROWS = 8192
_ATTEMPTS = 3
_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Tally:
    """How far a study is.

    Attributes
    ----------
    cases, finished
        All cases, and those with a row.
    refused, failed
        Of these, rows of wrong inputs, and of dead workers and bugs.
    deaths
        How often a worker died.
    reasons
        The first reason of each kind.
    """

    cases: int
    finished: int = 0
    refused: int = 0
    failed: int = 0
    deaths: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def count(self, rows: pl.DataFrame) -> None:
        """Count rows by their status; the column `reason` may be left out."""
        self.finished += rows.height
        self.refused += int((rows["status"] == REFUSED).sum())
        self.failed += int((rows["status"] == FAILED).sum())
        if "reason" in rows.columns:
            for status, reason in rows.select("status", "reason").drop_nulls().iter_rows():
                self.reasons.setdefault(status, reason)


def new_results(study: Study, folder: str, facts: dict[str, Any]) -> ResultsDataset:
    """Return an empty dataset whose manifest tells how to run the study again.

    Parameters
    ----------
    study
        The study.
    folder
        Must not hold results.
    facts
        What only the caller knows: the study document, its folder, library versions.

    Raises
    ------
    InvalidInputError
        If the folder cannot be written or holds results.
    """
    return ResultsDataset.create(
        folder,
        {
            "afdplan_version": __version__,
            "name": study.name,
            "compute": study.compute,
            "cases": study.cases,
            "study_digest": study.digest,
            "time_unit": study.time_unit,
            "measure": study.kind.measure,
            "varied": study.varied,
            "warnings": list(study.warnings),
            "contents": {
                **{key: source.fingerprint for key, source in study.sources.items()},
                **study.latency_fingerprints,
            },
            "columns": {column.name: column.data for column in study.columns},
            **facts,
        },
    )


def resume_results(study: Study, folder: str) -> tuple[ResultsDataset, CaseSet, Tally]:
    """Return the dataset of an earlier run of the same study and the cases that are done.

    Rows that failed because a worker died (or by a bug) are removed, so that they run again; rows
    of wrong inputs stay.

    Raises
    ------
    InvalidInputError
        If the folder holds another study, or rows of another version of afdplan.
    """
    manifest = read_manifest(folder)
    version = manifest.get("afdplan_version")
    if version != __version__:
        raise InvalidInputError(
            f"{folder} has results of afdplan {version!s:.20}, this is {__version__}: rows "
            "of two versions do not mix; install that version, or run into another folder"
        )
    if manifest.get("study_digest") != study.digest:
        raise InvalidInputError(
            f"{folder} has results of another study, or a trace or latency model has changed "
            "since: run into another folder"
        )
    results = ResultsDataset(folder, manifest)
    results.lock()
    results.repair()
    results.remove(FAILED)
    done, tally = CaseSet(study.cases), Tally(cases=study.cases)
    for frame in results.progress():
        done.add(frame["case"].to_numpy())
        tally.count(frame)
    return results, done, tally


def run_study(
    study: Study,
    engine: Engine,
    results: ResultsDataset,
    *,
    done: CaseSet | None = None,
    tally: Tally | None = None,
    seconds_per_case: float | None = None,
    part_seconds: float = PART_SECONDS,
    report: Callable[[Tally], None] | None = None,
) -> Tally:
    """Compute all missing cases and return the tally.

    Finished rows reach the disk after half a second, later after 2 % of the time so far, at most
    after half a minute: that much work is lost if the process is killed.

    Parameters
    ----------
    study, engine, results
        What to compute, by whom, and where the rows go.
    done, tally
        From `resume_results`.
    seconds_per_case
        A first guess for the size of chunks; measured from then on.
    part_seconds
        How long rows wait at least before they are written as a part [s]; a part costs about 5 ms.
    report
        Called whenever something has changed, and twice a second.

    Raises
    ------
    InvalidInputError
        If rows cannot be written (full disk); those on disk stay, and the rest can be resumed.

    Notes
    -----
    When a worker dies, the chunks in flight are computed again one at a time: halves of a chunk
    that kills until one case is left, which is tried three times and then recorded as failed.
    """
    tally = tally or Tally(cases=study.cases)
    queue = _Queue(study, done or CaseSet(study.cases), tally, engine.workers, seconds_per_case)
    keeper = _Keeper(results, tally, part_seconds)
    try:
        while True:
            while (chunk := queue.take()) is not None:
                engine.submit(chunk)
            if not queue.in_flight:
                break
            outcomes = engine.collect(_POLL_SECONDS)
            for outcome in queue.settle(outcomes):
                keeper.add(outcome)
            keeper.write_if_due()
            if report is not None:
                report(tally)
    finally:
        # Also when interrupted: what is finished is kept.
        keeper.write()
    return tally


class _Keeper:
    """Writes finished rows as soon as they have waited long enough for what they are."""

    def __init__(self, results: ResultsDataset, tally: Tally, seconds: float) -> None:
        self._results = results
        self._tally = tally
        self._seconds = seconds
        self._packed: list[bytes] = []
        self._rows = 0
        self._start = self._written = monotonic()

    def add(self, outcome: Outcome) -> None:
        """Take the rows of a chunk."""
        if outcome.rows is not None:
            self._packed.append(outcome.rows)
            self._rows += len(outcome.chunk)

    def write_if_due(self) -> None:
        """Write when there are many rows, or when the last part is long ago."""
        now = monotonic()
        due = max(self._seconds, min(PART_SHARE * (now - self._start), LATEST_PART_SECONDS))
        if self._rows >= PART_ROWS or now - self._written >= due:
            self.write()

    def write(self) -> None:
        """Write what has come together, and count it."""
        packed, self._packed, self._rows = self._packed, [], 0
        self._written = monotonic()
        if not packed:
            return
        rows = decode_rows(packed)
        try:
            self._results.append(rows)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{error}; {self._tally.finished:,} of {self._tally.cases:,} cases are kept: make "
                "room and continue with --resume"
            ) from None
        self._tally.count(rows)


class _Queue:
    """Which chunk is next: fresh ones while all is well, suspects one at a time after a death."""

    def __init__(
        self, study: Study, done: CaseSet, tally: Tally, workers: int, seconds: float | None
    ) -> None:
        self._runner = CaseRunner(study)
        self._tally = tally
        self._missing: Iterator[int] = done.missing()
        self._left = study.cases - len(done)
        self._workers = workers
        self._seconds = seconds
        self._suspects: list[tuple[int, ...]] = []
        self._deaths: dict[int, int] = {}
        self.in_flight = 0

    def take(self) -> tuple[int, ...] | None:
        """Return the next chunk to submit; None if enough is in flight or nothing is left."""
        if self._suspects:
            # One alone: if a worker dies now, there is no doubt about whose fault it is.
            if self.in_flight:
                return None
            self.in_flight = 1
            return self._suspects.pop()
        if self.in_flight >= 2 * self._workers:
            return None
        chunk = tuple(islice(self._missing, self._chunk_size()))
        if not chunk:
            return None
        self._left -= len(chunk)
        self.in_flight += 1
        return chunk

    def settle(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Return the outcomes with rows to keep; chunks of dead workers become suspects."""
        alone = self.in_flight == 1
        kept: list[Outcome] = []
        died = False
        for outcome in outcomes:
            self.in_flight -= 1
            if outcome.rows is not None:
                kept.append(outcome)
                if outcome.seconds:
                    self._measure(outcome.seconds / len(outcome.chunk))
                continue
            died = True
            kept += self._suspect(outcome.chunk, alone)
        self._tally.deaths += died
        return kept

    def _suspect(self, chunk: tuple[int, ...], alone: bool) -> list[Outcome]:
        if alone and len(chunk) == 1:
            deaths = self._deaths.get(chunk[0], 0) + 1
            self._deaths[chunk[0]] = deaths
            if deaths >= _ATTEMPTS:
                return [Outcome(chunk=chunk, rows=self._runner.packed_dead_row(chunk[0]))]
        half = (len(chunk) + 1) // 2 if alone else len(chunk)
        self._suspects += [part for part in (chunk[half:], chunk[:half]) if part]
        return []

    def _measure(self, seconds: float) -> None:
        old = seconds if self._seconds is None else self._seconds
        self._seconds = 0.7 * old + 0.3 * seconds

    def _chunk_size(self) -> int:
        """Return the cases of a third of a second, fewer near the end so that all finish alike."""
        if self._seconds is None:
            return 1
        wanted = int(CHUNK_SECONDS / max(self._seconds, 1e-9))
        fair = -(-self._left // (3 * self._workers))
        return max(1, min(wanted, fair, LARGEST_CHUNK))
