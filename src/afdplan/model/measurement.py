"""What do measured stage times look like before anything is fitted to them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_choice, frozen_array

__all__ = ["STAGES", "Measurements", "Stage", "StageSamples"]

Stage = Literal["attention", "ffn", "send", "receive", "transfer", "step"]
STAGES: tuple[str, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSamples:
    """Measured times of one stage.

    Attributes
    ----------
    stage
        ``attention``, ``ffn``, ``send`` (attention to FFN), ``receive`` (FFN to attention),
        ``transfer`` (either direction), or ``step`` (a whole decode step).
    loads
        Load of each measurement [tokens], >= 0, shape (n,), n >= 1: KV tokens for attention and
        step, tokens for the others.
    times
        Time of each [s or abstract], > 0, shape (n,).
    requests
        Requests of the microbatch in each, > 0, shape (n,); None if unknown.
    rows
        Where each stands in its file, counted from 1, for messages, shape (n,).

    Raises
    ------
    LatencyModelError
        If a load, time or number of requests is out of its domain; the message names the row.
    """

    stage: Stage
    loads: FloatArray
    times: FloatArray
    requests: FloatArray | None = None
    rows: IntArray | None = None

    def __post_init__(self) -> None:
        check_choice("stage", self.stage, STAGES, LatencyModelError)
        loads = frozen_array(self.loads, np.float64)
        count = loads.size
        if loads.ndim != 1 or count == 0:
            raise LatencyModelError(f"stage {self.stage} needs one or more measurements, got none")
        rows = np.arange(1, count + 1) if self.rows is None else self.rows
        object.__setattr__(self, "rows", frozen_array(rows, np.int64))
        for name, strict in (("loads", False), ("times", True), ("requests", True)):
            value: Any = getattr(self, name)
            if value is None:
                continue
            array = frozen_array(value, np.float64)
            if array.shape != loads.shape:
                raise LatencyModelError(
                    f"stage {self.stage}: {name} must be one per measurement, "
                    f"got {array.size} for {count}"
                )
            bad = ~np.isfinite(array) | (array < 0) | (strict & (array == 0))
            if bad.any():
                at = int(np.argmax(bad))
                raise LatencyModelError(
                    f"{name} of stage {self.stage} must be finite and {'>' if strict else '>='} 0, "
                    f"got {array[at]:g} in row {self.row(at)}"
                )
            object.__setattr__(self, name, array)

    @classmethod
    def of_steps(cls, table: npt.NDArray[Any]) -> StageSamples:
        """Return whole steps, in columns row, load, requests and time, shape (n, 4)."""
        rows, loads, requests, times = table.T
        return cls(stage="step", rows=rows, loads=loads, requests=requests, times=times)

    @property
    def count(self) -> int:
        """Number of measurements n."""
        return int(self.loads.size)

    def row(self, at: int) -> int:
        """Return the row in the file of measurement `at`."""
        return at + 1 if self.rows is None else int(self.rows[at])

    def where(self, keep: BoolArray) -> StageSamples:
        """Return the measurements that `keep` marks (at least one)."""
        return replace(
            self,
            loads=self.loads[keep],
            times=self.times[keep],
            requests=None if self.requests is None else self.requests[keep],
            rows=None if self.rows is None else self.rows[keep],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """What one file of measurements or logs held, stage by stage.

    Attributes
    ----------
    stages
        The samples, at most one entry per stage.
    time_unit
        ``s`` or ``abstract``.
    source
        Where they come from.
    format
        Name of the recognised format.
    dropped
        Records that were left out (cut, idle, failed).
    notes
        What the reader decided or noticed, one sentence each.
    """

    stages: tuple[StageSamples, ...]
    time_unit: Literal["s", "abstract"] = "s"
    source: str = "memory"
    format: str = "arrays"
    dropped: int = 0
    notes: tuple[str, ...] = ()

    def stage(self, name: str) -> StageSamples | None:
        """Return the samples of stage `name`, None if there are none."""
        return next((samples for samples in self.stages if samples.stage == name), None)
