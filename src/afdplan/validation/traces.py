"""Does the theory hold on the traces of a folder, and what does their order cost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afdplan.errors import InvalidInputError, TraceError
from afdplan.files.document import is_there
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.boarding import Boarding
from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.parameters import Execution
from afdplan.model.trace import Trace
from afdplan.theory.validity import BARRIER_FREE_MICROBATCHES
from afdplan.validation.cell import Cell, CellResult, compare
from afdplan.validation.grid import enough_layers, steps_for
from afdplan.validation.laboratory import Laboratory
from afdplan.validation.regimes import Regime, latency_for
from afdplan.validation.regret import RatioCase, balanced_case

__all__ = ["TraceResult", "judge_traces", "read_traces", "trace_cases"]

SUFFIXES = (".csv", ".jsonl", ".json", ".parquet", ".csv.gz", ".jsonl.gz", ".csv.zst")
_LIFETIMES_REPLAYED = 20
"""How often a replay must be able to fill all slots with fresh requests to show its drift."""
_SIZES: tuple[tuple[Regime, int, int, int], ...] = (
    ("balanced", 8, 16, 2),
    ("attention", 16, 64, 3),
    ("latency", 4, 16, 4),
    ("ffn", 32, 16, 2),
    ("balanced", 64, 4, 4),
    ("communication", 8, 64, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceResult:
    """One trace: resampled for the verdict, replayed beside it.

    Attributes
    ----------
    file, requests
        Name of the file and its requests.
    mean_token_load, std_token_load
        theta and nu of a slot [tokens].
    cells
        Theory beside simulations of independent draws from the trace's requests.
    replay_error
        Theory / replay - 1 of E[tau] with requests in their order (the cost of drift), at the
        first cell.
    replay_cycle_time
        E[tau] of the replay.
    fills
        How often the trace's requests fill all slots of that bundle.
    is_too_short
        Whether that is too rare for the replay to mean anything.
    """

    file: str
    requests: int
    mean_token_load: float
    std_token_load: float
    cells: tuple[CellResult, ...]
    replay_error: float
    replay_cycle_time: Estimate
    fills: float
    is_too_short: bool


def read_traces(folder: str) -> dict[str, Trace]:
    """Return the traces of a folder by file name.

    Raises
    ------
    InvalidInputError
        If there is no such folder, or no trace in it.
    TraceError
        If a CSV, JSONL or Parquet file in it is no trace; a ``.json`` that is none is skipped.
    """
    from afdplan.files.traces.reader import read_trace

    path = Path(folder)
    if not is_there(path) or not path.is_dir():
        raise InvalidInputError(f"--traces must be a folder of request traces, got {folder}")
    traces = {}
    for file in sorted(path.iterdir()):
        if not file.is_file() or not file.name.lower().endswith(SUFFIXES):
            continue
        try:
            traces[file.name] = read_trace(str(file))
        except TraceError:
            if file.suffix != ".json":  # a manifest may lie beside the traces
                raise
    if not traces:
        raise InvalidInputError(
            f"--traces {folder} holds no request trace: expected files that end in "
            f"{', '.join(SUFFIXES)}"
        )
    return traces


def trace_cells(
    traces: dict[str, Trace], *, full: bool, execution: Execution = "synchronous"
) -> list[list[Cell]]:
    """Return the cells of each trace: one bundle by default, six if `full`."""
    cells = []
    for k, (name, trace) in enumerate(traces.items()):
        law = EmpiricalLengths(trace)
        layers = enough_layers(law)
        sizes = _SIZES if full else (_SIZES[k % len(_SIZES)],)
        rows = []
        for regime, workers, batch_size, most in sizes:
            m, boarding = most, Boarding()
            if execution == "barrier-free":
                m = min(most, BARRIER_FREE_MICROBATCHES)
                boarding = Boarding(least_calls=(1, 2)[k % 2])
            bundle = Bundle(attention_workers=workers, batch_size=batch_size, microbatches=m)
            rows.append(
                Cell(
                    name=f"{name}, {regime}-bound, A={workers} B={batch_size} m={m} L={layers}",
                    group="trace",
                    law=law,
                    latency=latency_for(regime, law, bundle, layers=layers),
                    bundle=bundle,
                    execution=execution,
                    boarding=boarding,
                    steps=steps_for(law),
                    precision=0.002 if full else 0.005,
                )
            )
        cells.append(rows)
    return cells


def trace_cases(traces: dict[str, Trace]) -> list[RatioCase]:
    """Return a question for `afdplan ratio` on every trace."""
    laws = {name: EmpiricalLengths(trace) for name, trace in traces.items()}
    return [balanced_case(name, law, 8, 2, layers=enough_layers(law)) for name, law in laws.items()]


def judge_traces(
    traces: dict[str, Trace],
    laboratory: Laboratory,
    *,
    declared_error: float,
    full: bool = False,
    execution: Execution = "synchronous",
) -> list[TraceResult]:
    """Return theory beside simulation for every trace, resampled and replayed."""
    groups = trace_cells(traces, full=full, execution=execution)
    replays = [rows[0].replayed(trace) for rows, trace in zip(groups, traces.values(), strict=True)]
    flat = [cell for rows in groups for cell in rows]
    observed = laboratory.observe([cell.scenario() for cell in [*flat, *replays]])
    results = [
        compare(cell, seen, declared_error)
        for cell, seen in zip(flat, observed[: len(flat)], strict=True)
    ]
    answers = []
    at = 0
    for name, rows, replay, seen in zip(
        traces, groups, replays, observed[len(flat) :], strict=True
    ):
        own = results[at : at + len(rows)]
        at += len(rows)
        answers.append(_result(name, traces[name], rows[0], own, replay, seen.cycle_time))
    return answers


def _result(
    name: str,
    trace: Trace,
    cell: Cell,
    results: Sequence[CellResult],
    replay: Cell,
    tau: Estimate,
) -> TraceResult:
    load = cell.law.token_load()
    slots = replay.bundle.attention_workers * replay.bundle.batch_size * replay.bundle.microbatches
    fills = trace.requests / slots
    exact = (1 + results[0].error) * results[0].simulated.cycle_time.value
    return TraceResult(
        file=name,
        requests=trace.requests,
        mean_token_load=load.mean,
        std_token_load=load.std,
        cells=tuple(results),
        replay_error=exact / tau.value - 1,
        replay_cycle_time=tau,
        fills=fills,
        is_too_short=fills < _LIFETIMES_REPLAYED,
    )
