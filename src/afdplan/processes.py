"""How do processes of this machine compute tasks, so that the death of one costs its task only?

Light imports: a process limits its threads before NumPy is loaded.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from afdplan.errors import AfdplanError, reason

__all__ = ["MOST_PROCESSES", "THREAD_LIMITS", "Crew", "Done", "available_cores"]

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_PROCESSES = 1024
"""Of one machine."""
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
"""One thread per process: the processes are the parallelism."""


def available_cores() -> int:
    """Return how many cores this process may use.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Done(Generic[Task, Result]):
    """What became of a task.

    Attributes
    ----------
    task
        As it was submitted.
    result
        None if its process died (killed, or out of memory).
    """

    task: Task
    result: Result | None


class Crew(Generic[Task, Result]):
    """Processes that compute tasks, each over a pipe of its own; a dead one is replaced.

    A pool of the standard library reads all results from one queue: a process that is killed
    while it holds the queue's lock leaves all others, and who waits for them, waiting for ever.
    A pipe of one process ends with it. Pipes need no shared memory either, which a read-only
    system refuses.

    Parameters
    ----------
    compute
        Returns the result of a task, which is not None; sent to every process once, so what it
        prepares at its first task is there at the next.
    count
        Processes at most; each starts when there is a task for it.

    Examples
    --------
    >>> with Crew(abs, 2) as crew:
    ...     for task in (-1, -2, -3):
    ...         crew.submit(task)
    ...     sorted(done.result for _ in range(3) for done in crew.collect())
    [1, 2, 3]
    """

    def __init__(self, compute: Callable[[Task], Result], count: int) -> None:
        self.count = count
        self._compute = compute
        self._waiting: deque[Task] = deque()
        self._idle: list[tuple[Connection, BaseProcess]] = []
        self._busy: dict[Connection, tuple[BaseProcess, Task]] = {}

    def __enter__(self) -> Crew[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def in_flight(self) -> int:
        """How many tasks were submitted and are not collected yet."""
        return len(self._waiting) + len(self._busy)

    def submit(self, task: Task) -> None:
        """Hand a task to a process, or keep it until one is idle.

        Raises
        ------
        AfdplanError
            If no process can be started.
        """
        self._waiting.append(task)
        self._hand_out()

    def collect(self, timeout: float | None = None) -> list[Done[Task, Result]]:
        """Wait for tasks to end, at most so many seconds, and return those that have.

        Raises
        ------
        Exception
            What `compute` raised, with the traceback of its process as a note.
        """
        done: list[Done[Task, Result]] = []
        for pipe in wait(self._busy, timeout):
            assert isinstance(pipe, Connection)
            process, task = self._busy.pop(pipe)
            try:
                result, error = pipe.recv()
            except (EOFError, OSError):  # it died, perhaps in the middle of its answer
                _end(pipe, process)
                done.append(Done(task, None))
                continue
            self._idle.append((pipe, process))
            if error is not None:
                raise error
            done.append(Done(task, result))
        self._hand_out()
        return done

    def close(self) -> None:
        """End all processes now; what they compute is lost."""
        for pipe, process in self._idle:
            _end(pipe, process)
        for pipe, (process, _) in self._busy.items():
            _end(pipe, process)
        self._waiting.clear()
        self._idle.clear()
        self._busy.clear()

    def _hand_out(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self.count):
            pipe, process = self._idle.pop() if self._idle else self._started()
            try:
                pipe.send(self._waiting[0])
            except OSError:  # it died while it was idle
                _end(pipe, process)
                continue
            self._busy[pipe] = (process, self._waiting.popleft())

    def _started(self) -> tuple[Connection, BaseProcess]:
        context = get_context("spawn")  # afresh: no thread and no lock of this process is copied
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self._compute, theirs), daemon=True)
        try:
            with _inherited():
                process.start()
        except OSError as error:
            ours.close()
            raise AfdplanError(
                f"another process cannot be started here ({reason(error)}): raise the limit on "
                "processes or memory, or ask for fewer processes"
            ) from None
        finally:
            theirs.close()  # the other process has the only one: it ends with it
        return ours, process


@contextmanager
def _inherited() -> Iterator[None]:
    """What a process has from its first instruction on: one thread, and no Ctrl-C of its own."""
    resource_tracker.ensure_running()  # starts once, and lets signals through when it has
    limits = {name: os.environ.get(name) for name in THREAD_LIMITS}
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(THREAD_LIMITS)
    try:
        yield
    finally:
        for name, value in limits.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


def _end(pipe: Connection, process: BaseProcess) -> None:
    pipe.close()
    process.kill()
    process.join()


def _work(compute: Callable[[Any], Any], pipe: Connection) -> None:
    """Compute one task after the other, until the parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Exception | None] = (compute(task), None)
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = (None, error)
        pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()  # also when it is killed
    os._exit(0)
