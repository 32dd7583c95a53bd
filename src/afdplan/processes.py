"""How do processes of this machine compute tasks, so that the death of one costs its task only?

Light imports: a process limits its threads before NumPy is loaded.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
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
    A pipe of one process ends with it. The standard library's processes also run the caller's
    script again, which starts a crew in every process of a crew if the script has no guard, and
    fails if it has no file; these run nothing but `compute`.

    Parameters
    ----------
    compute
        Returns the result of a task, which is not None; sent to every process once, so what it
        prepares at its first task is there at the next. From a module, not from the script.
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
        self._compute = pickle.dumps(compute)
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Task] = {}
        self._waiting: deque[Task] = deque()
        self._raised: deque[Exception] = deque()

    def __enter__(self) -> Crew[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def in_flight(self) -> int:
        """How many tasks were submitted and are not collected yet."""
        return len(self._waiting) + len(self._busy) + len(self._raised)

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
            What `compute` raised, with the traceback of its process as a note; after what else
            has ended was returned.
        """
        done: list[Done[Task, Result]] = []
        for pipe in wait(self._busy, 0 if self._raised else timeout):
            assert isinstance(pipe, Connection)
            try:
                answer = pipe.recv_bytes()
            except (EOFError, OSError):  # it died, perhaps in the middle of its answer
                self._end(pipe)
                done.append(Done(self._busy.pop(pipe), None))
                continue
            task = self._busy.pop(pipe)
            self._idle.append(pipe)
            result, error = pickle.loads(answer)
            if error is None:
                done.append(Done(task, result))
            else:
                self._raised.append(error)
        self._hand_out()
        if self._raised and not done:
            raise self._raised.popleft()
        return done

    def close(self) -> None:
        """End all processes now; what they compute is lost."""
        for process in self._processes.values():  # all of them before any is waited for
            process.kill()
        for pipe in tuple(self._processes):
            self._end(pipe)
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()
        self._raised.clear()

    def _hand_out(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self.count):
            task = self._waiting.popleft()
            packed = pickle.dumps(task)
            pipe, is_new = (self._idle.pop(), False) if self._idle else (self._start(), True)
            try:
                pipe.send_bytes(packed)
            except OSError as error:  # it died while it was idle
                self._end(pipe)
                self._waiting.appendleft(task)
                if is_new:  # as would the next one
                    raise _not_started(error) from None
            else:
                self._busy[pipe] = task

    def _start(self) -> Connection:
        # A process inherits what this thread blocks: Ctrl-C is for this process to answer.
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            one, other = socket.socketpair()
            pipe = Connection(one.detach())
            with other:  # the process gets it as its standard input, and ends with it
                self._processes[pipe] = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, str(os.getpid()), *sys.path],
                    stdin=other.fileno(),
                    env={**os.environ, **THREAD_LIMITS},
                )
            pipe.send_bytes(self._compute)
        except OSError as error:
            raise _not_started(error) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        return pipe

    def _end(self, pipe: Connection) -> None:
        process = self._processes[pipe]
        process.kill()
        process.wait()
        pipe.close()
        del self._processes[pipe]


_PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
from afdplan.processes import _work
_work(int(sys.argv[1]))
"""


def _not_started(error: OSError) -> AfdplanError:
    return AfdplanError(
        f"another process cannot be started here ({reason(error)}): raise the limit on processes, "
        "open files or memory, or ask for fewer processes"
    )


def _work(parent: int) -> None:
    """Compute one task after the other, until the parent ends."""
    import fcntl

    pipe = Connection(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with suppress(OSError):  # where there is no standard error
        os.dup2(2, 1)  # what a task prints is no part of the parent's answer
    threading.Thread(target=_end_with_parent, args=(pipe, parent), daemon=True).start()
    compute: Callable[[Any], Any] | None = None
    with suppress(EOFError):
        packed = pipe.recv_bytes()
        while True:
            task = pipe.recv_bytes()
            try:
                compute = compute or pickle.loads(packed)
                answer = pickle.dumps((compute(pickle.loads(task)), None))
            except Exception as error:
                answer = _packed(error)
            pipe.send_bytes(answer)


def _packed(error: Exception) -> bytes:
    """Pack an error for the parent; one that does not survive it, by its name and message."""
    error.add_note(traceback.format_exc())
    try:
        packed = pickle.dumps((None, error))
        pickle.loads(packed)
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.add_note(error.__notes__[-1])
        return pickle.dumps((None, told))
    return packed


def _end_with_parent(pipe: Connection, parent: int) -> None:
    """End when the parent has closed the pipe, or has ended and a copy of it holds the pipe."""
    poll = select.poll()
    poll.register(pipe.fileno(), 0)  # its end only
    while os.getppid() == parent and not poll.poll(1000):
        pass
    os._exit(0)
