"""How are chunks computed by processes of this machine?"""

from __future__ import annotations

import time

from afdplan.model.checks import check_count
from afdplan.processes import MOST_PROCESSES, Crew, available_cores
from afdplan.studies.case_runner import CaseRunner
from afdplan.studies.engine import Outcome
from afdplan.studies.study import Study

__all__ = ["LocalEngine"]


class LocalEngine:
    """Processes of this machine; one that dies is replaced and loses its own chunk.

    Parameters
    ----------
    study
        Sent once to every worker.
    workers
        Processes, by default the cores that this process may use.
    """

    name = "local"

    def __init__(self, study: Study, workers: int | None = None) -> None:
        count = available_cores() if workers is None else workers
        self.workers = check_count("workers", count, 1, MOST_PROCESSES)
        self._crew = Crew(_Worker(study), self.workers)

    def submit(self, chunk: tuple[int, ...]) -> None:
        """Put a chunk in flight."""
        self._crew.submit(chunk)

    def collect(self, timeout: float) -> list[Outcome]:
        """Return the chunks that have ended; one whose worker died has no rows."""
        outcomes = []
        for done in self._crew.collect(timeout):
            rows, seconds = done.result or (None, 0.0)
            outcomes.append(Outcome(chunk=done.task, rows=rows, seconds=seconds))
        return outcomes

    def close(self) -> None:
        """End all workers now."""
        self._crew.close()


class _Worker:
    """Computes chunks in its process; what the study needs is prepared there, once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._runner: CaseRunner | None = None

    def __call__(self, chunk: tuple[int, ...]) -> tuple[bytes, float]:
        self._runner = self._runner or CaseRunner(self._study)
        start = time.perf_counter()
        rows = self._runner.packed_rows(chunk)
        return rows, time.perf_counter() - start
