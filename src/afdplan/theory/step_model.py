"""Which model knows the steps of a bundle, by the way in which it is run?"""

from __future__ import annotations

from afdplan.lengths.token_load import SlotLoad
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.cycle import CycleModel
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import RatioProblem

__all__ = ["StepModel", "step_model"]

StepModel = CycleModel | BarrierFreeModel


def step_model(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> StepModel:
    """Return the step times of a problem, as a function of its attention workers."""
    if problem.execution == "barrier-free":
        return BarrierFreeModel(problem, slots)
    return cycle_model(problem, slots)
