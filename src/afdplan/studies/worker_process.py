"""What does a worker process do? Light imports: it limits threads before numpy is loaded."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afdplan.studies.case_runner import CaseRunner

__all__ = ["THREAD_LIMITS", "compute_chunk", "start_worker"]

THREAD_LIMITS = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""One thread per worker: the workers are the parallelism."""

_runner: CaseRunner | None = None


def start_worker(packed_study: bytes, life: Connection) -> None:
    """Prepare this process: one thread, no Ctrl-C of its own, and an end when the parent ends.

    Parameters
    ----------
    packed_study
        The study, packed by the parent process and by nobody else.
    life
        Reading end of a pipe whose other end the parent holds: it ends when the parent closes
        it or dies, even by kill -9.
    """
    global _runner  # noqa: PLW0603 - one study per process, unpacked once
    os.environ.update(THREAD_LIMITS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
    from afdplan.studies.case_runner import CaseRunner

    study: Any = pickle.loads(packed_study)
    _runner = CaseRunner(study)


def compute_chunk(chunk: tuple[int, ...]) -> tuple[bytes, float]:
    """Return the rows of some cases, packed, and the seconds they took."""
    if _runner is None:
        raise RuntimeError("start_worker must run first")
    start = time.perf_counter()
    rows = _runner.packed_rows(chunk)
    return rows, time.perf_counter() - start


def _end_with_parent(life: Connection) -> None:
    life.poll(None)  # ready only when the other end is closed
    os._exit(0)
