"""How are chunks computed by processes of this machine?"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from afdplan.model.checks import check_count
from afdplan.studies.engine import Outcome
from afdplan.studies.worker_process import THREAD_LIMITS, compute_chunk, start_worker

if TYPE_CHECKING:
    from afdplan.studies.study import Study

__all__ = ["MOST_PROCESSES", "LocalEngine", "available_cores"]

MOST_PROCESSES = 1024
"""Of one machine."""


def available_cores() -> int:
    """Return how many cores this process may use.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class LocalEngine:
    """A pool of processes; it is made anew when one of them dies.

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
        self._packed = pickle.dumps(study, protocol=pickle.HIGHEST_PROTOCOL)
        self._flights: dict[Future[tuple[bytes, float]], tuple[int, ...]] = {}
        self._lost: list[tuple[int, ...]] = []
        self._start()

    def submit(self, chunk: tuple[int, ...]) -> None:
        """Put a chunk in flight."""
        before = {name: os.environ.get(name) for name in THREAD_LIMITS}
        try:
            # The pool starts processes here: they inherit the limits before numpy is loaded.
            os.environ.update(THREAD_LIMITS)
            self._flights[self._pool.submit(compute_chunk, chunk)] = chunk
        except BrokenProcessPool:
            self._lost.append(chunk)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def collect(self, timeout: float) -> list[Outcome]:
        """Return the chunks that have ended; when a worker died, all in flight are lost."""
        ended, _ = wait(self._flights, timeout=timeout, return_when=FIRST_COMPLETED)
        outcomes = []
        broken = bool(self._lost)
        for future in ended:
            try:
                rows, seconds = future.result()
            except BrokenProcessPool:
                broken = True
                continue
            outcomes.append(Outcome(chunk=self._flights.pop(future), rows=rows, seconds=seconds))
        if broken:
            lost = [*self._lost, *self._flights.values()]
            outcomes += [Outcome(chunk=chunk, rows=None) for chunk in lost]
            self._lost.clear()
            self.close()
            self._start()
        return outcomes

    def close(self) -> None:
        """End all workers now."""
        self._life.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._flights.clear()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        reader, self._life = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            max_workers=self.workers,
            mp_context=context,
            initializer=start_worker,
            initargs=(self._packed, reader),
        )
