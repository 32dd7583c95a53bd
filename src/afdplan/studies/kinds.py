"""What can be computed for a case, from which variables, and which answers come back?"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError
from afdplan.lengths.law import LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import Parameter
from afdplan.model.slots import slots_per_microbatch
from afdplan.model.trace import Trace
from afdplan.studies.columns import WORKLOAD, Column

__all__ = ["CaseInputs", "ComputeKind", "compute_kind", "compute_kinds"]

# Kind -> the module that a kind needs and the module that tells how to compute it.
_MODULES = {
    "ratio": ("afdplan.theory.recommend", "afdplan.studies.ratio_cases"),
    "simulate": ("afdplan.simulation.run", "afdplan.studies.simulation_cases"),
    "plan": ("afdplan.planning.plan", "afdplan.studies.plan_cases"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseInputs:
    """What a case resolves to.

    Attributes
    ----------
    values
        Every variable of the kind, defaults included; None for what is left out.
    law
        Joint law of the lengths.
    trace
        The requests behind the law; None for a law of the mini-language.
    token_load
        Returns the mean token load with its interval; None without a trace.
    choice
        What the times of the stages follow from.
    measured
        The latency model that `choice` names; None if the times are derived.
    seed
        For everything random: the study's `seed`, or a number that follows from the case.
    """

    values: Mapping[str, Any]
    law: LengthLaw
    trace: Trace | None
    token_load: Callable[[], Estimate | None]
    choice: LatencyChoice
    measured: LatencyModel | None
    seed: int

    @property
    def latency(self) -> LatencyModel:
        """Times of the stages; derived ones for this batch size and number of FFN workers."""
        if self.measured is not None:
            return self.choice.with_devices(self.measured)
        return self.choice.resolve(
            batch_size=slots_per_microbatch(self.values), ffn_workers=self.values["ffn_workers"]
        )

    def require_memory(self) -> None:
        """Refuse requests that do not fit a named device, as the commands do."""
        if not self.choice.is_derived:
            return
        from afdplan.planning.memory_limit import require_memory

        size = slots_per_microbatch(self.values)
        placement = self.choice.placement(batch_size=size, ffn_workers=self.values["ffn_workers"])
        require_memory(self.law, placement.memory(), size, self.values["microbatches"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeKind:
    """A kind of answer.

    Attributes
    ----------
    name
        As in study files.
    parameters
        Its variables, besides those of workload and latency.
    answers
        Columns that `compute` fills.
    measure
        The answer that is best when largest.
    shown
        Answers that summaries show.
    compute
        Case to answers by column name; raises an `AfdplanError` if the inputs are wrong.
    check
        Raises if the variables that a study sets have no meaning together.
    """

    name: str
    parameters: tuple[Parameter, ...]
    answers: tuple[Column, ...]
    measure: str
    shown: tuple[str, ...]
    compute: Callable[[CaseInputs], dict[str, Any]]
    check: Callable[[frozenset[str]], None]

    @property
    def variables(self) -> dict[str, Parameter]:
        """Every variable that a study of this kind may set, by name."""
        times = (one.changed(default=None) for one in ask.LATENCY_CHOICE)  # named tables may say
        return {p.name: p for p in (*WORKLOAD, *times, *self.parameters)}


def compute_kinds() -> list[str]:
    """Return the names of the kinds that this installation can compute."""
    return [name for name, modules in _MODULES.items() if all(map(_exists, modules))]


def compute_kind(name: str) -> ComputeKind:
    """Return a kind by its name.

    Raises
    ------
    InvalidInputError
        If there is none of that name.

    Examples
    --------
    >>> compute_kind("ratio").measure
    'objective'
    """
    known = compute_kinds()
    if name not in known:
        raise InvalidInputError(f"compute must be one of {', '.join(known)}, got {name!r:.40}")
    kind: ComputeKind = importlib.import_module(_MODULES[name][1]).KIND
    return kind


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
