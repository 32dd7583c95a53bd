"""What must an engine do, so that any will give the same rows?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from afdplan.studies.case_runner import CaseRunner
from afdplan.studies.study import Study

__all__ = ["Engine", "Outcome", "SerialEngine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one chunk of cases.

    Attributes
    ----------
    chunk
        The numbers of its cases.
    rows
        Their rows as an Arrow stream (`decode_rows` reads it); None if a worker died while the
        chunk was in flight.
    seconds
        How long a worker computed; only the size of later chunks depends on it.
    """

    chunk: tuple[int, ...]
    rows: bytes | None
    seconds: float = 0.0


class Engine(Protocol):
    """Computes chunks of cases; which worker takes which decides nothing but the time.

    Attributes
    ----------
    name
        For people.
    workers
        How many chunks are computed at the same time.
    """

    name: str
    workers: int

    def submit(self, chunk: tuple[int, ...]) -> None:
        """Put a chunk in flight; returns at once."""
        ...

    def collect(self, timeout: float) -> list[Outcome]:
        """Wait for chunks to end, at most so many seconds, and return those that have."""
        ...

    def close(self) -> None:
        """End all workers now; chunks in flight are lost."""
        ...


class SerialEngine:
    """Computes chunks in this process, one after the other: the readable twin of the others.

    Workers have one thread each. Where this process has more, sums over large arrays may be split
    and differ in the last digit (1e-15): rows are then equal but for rounding.
    """

    name = "serial"
    workers = 1

    def __init__(self, study: Study) -> None:
        self._runner = CaseRunner(study)
        self._waiting: list[tuple[int, ...]] = []

    def submit(self, chunk: tuple[int, ...]) -> None:
        """Remember a chunk."""
        self._waiting.append(chunk)

    def collect(self, timeout: float) -> list[Outcome]:
        """Compute the oldest chunk."""
        chunk = self._waiting.pop(0)
        start = time.perf_counter()
        rows = self._runner.packed_rows(chunk)
        return [Outcome(chunk=chunk, rows=rows, seconds=time.perf_counter() - start)]

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
