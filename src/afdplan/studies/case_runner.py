"""What is the row of one case, whoever computes it?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from afdplan.errors import AfdplanError
from afdplan.files.results.rows import encode_rows
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths, LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.studies.kinds import CaseInputs
from afdplan.studies.study import Case, Source, Study, source_key
from afdplan.studies.windows import window_trace
from afdplan.version import __version__

__all__ = ["DIED", "DONE", "FAILED", "REFUSED", "CaseRunner", "Row"]

Row = dict[str, Any]

DONE = "done"
REFUSED = "refused"
"""The inputs are wrong: the same answer every time, never computed again."""
FAILED = "failed"
"""The worker died or met a bug: computed again on resume."""
DIED = "the worker died (killed, or out of memory) every time"
_REMEMBERED = 4


class _Workload:
    """One workload as cases use it; its law and interval are made once."""

    def __init__(self, source: Source, window: int | None) -> None:
        trace = source.trace
        if trace is not None and window is not None:
            trace = window_trace(trace, source.windows[window])
        self.trace: Trace | None = trace
        self.law: LengthLaw
        if trace is not None:
            self.law = EmpiricalLengths(trace)
        else:
            self.law = IndependentLengths(prompt=source.prompt or "", decode=source.decode or "")
        self.output_tokens = 0 if trace is None else int(trace.decode_tokens.sum())
        self._estimate: Estimate | None = None

    def token_load(self) -> Estimate | None:
        """Return the mean token load with its interval; None where the law is given."""
        if self.trace is not None and self._estimate is None:
            from afdplan.workload.interval import token_load_estimate

            self._estimate = token_load_estimate(self.trace)
        return self._estimate


class CaseRunner:
    """Computes rows of one study; keeps the last few workloads, whatever the number of cases.

    Parameters
    ----------
    study
        The study.

    Notes
    -----
    A row depends on the study and the number of its case alone: not on the order of cases, the
    process or the machine (of one kind; the last digits may differ between processor types).
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._kind = study.kind
        self._columns = {column.name: column.data for column in study.columns}
        self._workloads: dict[tuple[str, int | None], _Workload] = {}

    def packed_rows(self, indices: Iterable[int]) -> bytes:
        """Return the rows of some cases as `encode_rows` packs them."""
        return encode_rows([self.row(index) for index in indices], self._columns)

    def row(self, index: int) -> Row:
        """Return the row of one case; whatever goes wrong becomes its one-line reason."""
        case = self.study.case(index)
        row: Row = dict.fromkeys(self._columns)
        row.update(case.values)
        row.update(self._facts(case))
        try:
            row.update(self._kind.compute(self._inputs(case)))
            row["status"] = DONE
        except AfdplanError as error:
            row.update(status=REFUSED, reason=_one_line(str(error)))
        except MemoryError:
            row.update(status=FAILED, reason="out of memory")
        except Exception as error:
            row.update(status=FAILED, reason=_one_line(f"{type(error).__name__}: {error}"))
        return row

    def packed_dead_row(self, index: int) -> bytes:
        """Return the row of a case that kills its worker, packed."""
        case = self.study.case(index)
        row: Row = dict.fromkeys(self._columns)
        row.update(case.values)
        row.update(self._facts(case), status=FAILED, reason=DIED)
        return encode_rows([row], self._columns)

    def _facts(self, case: Case) -> Row:
        source = self.study.source(case.values)
        facts: Row = {
            "case": case.index,
            "case_hash": case.case_hash,
            "compute": self.study.compute,
            "afdplan_version": __version__,
            "time_unit": self.study.time_unit,
            **source.names,
        }
        if source.trace is None:
            return facts
        if case.values.get("window") is not None:
            window = source.windows[case.values["window"]]
            facts["window_start"], facts["window_end"] = window.start, window.end
        workload = self._workload(case)
        facts["trace_requests"] = 0 if workload.trace is None else workload.trace.requests
        facts["trace_output_tokens"] = workload.output_tokens
        return facts

    def _inputs(self, case: Case) -> CaseInputs:
        choice, measured = self.study.latency(case.values)
        workload = self._workload(case)
        return CaseInputs(
            values=case.values,
            law=workload.law,
            trace=workload.trace,
            token_load=workload.token_load,
            choice=choice,
            measured=measured,
            seed=case.seed,
        )

    def _workload(self, case: Case) -> _Workload:
        key = (source_key(case.values), case.values.get("window"))
        if key not in self._workloads:
            while len(self._workloads) >= _REMEMBERED:
                del self._workloads[next(iter(self._workloads))]
            self._workloads[key] = _Workload(self.study.source(case.values), key[1])
        return self._workloads[key]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
