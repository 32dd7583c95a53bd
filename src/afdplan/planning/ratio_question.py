"""What is asked of a ratio: for which requests and times, by formula or by play?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afdplan.model import parameters as ask
from afdplan.model.latency import LatencyModel
from afdplan.planning.memory_limit import require_fit
from afdplan.theory.problem import RatioProblem, unknown_placement

if TYPE_CHECKING:
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.workload.requests import Workload

__all__ = ["RatioQuestion"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioQuestion:
    """All that `answer_ratio` answers.

    Attributes
    ----------
    problem
        For the formulas; where the answer is played, without what they do not know.
    workload
        The requests, and what is known of them.
    choice
        Where the times come from.
    most_requests
        Most request slots of a worker, m B, that its memory holds; None where that is not known.
    placement
        Which free slot an admitted request gets.
    played
        What a `Scenario` has beside the problem, by field; None by formula.
    has_around
        Whether other batches, sensitivities and short runs are asked for; they take seconds.
    window_duration
        Of the windows of the clock [s]; None for the whole trace alone.
    """

    problem: RatioProblem
    workload: Workload
    choice: LatencyChoice
    most_requests: int | None = None
    placement: ask.Placement = ask.PLACEMENT.default
    played: Mapping[str, Any] | None = None
    has_around: bool = False
    window_duration: float | None = None

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        workload: Workload,
        choice: LatencyChoice,
        batch_size: int,
        *,
        has_around: bool = False,
    ) -> RatioQuestion:
        """Return the question that values of the parameters of a ratio ask, by their keys.

        Raises
        ------
        InfeasibleError
            Where the requests do not fit the memory of a named device.
        """
        workers = given["ffn_workers"]
        latency = choice.resolve(batch_size=batch_size, ffn_workers=workers, with_errors=True)
        most = require_fit(choice, workload.law, batch_size, workers, given["microbatches"])
        asked = {one.field: given[one.key] for one in (*ask.PROBLEM, ask.MAX_ATTENTION_WORKERS)}
        played = None
        if _is_played(given, latency):
            played = {one.field: given[one.key] for one in (ask.PLACEMENT, *ask.PLAYED)}
            asked |= {"method": ask.METHOD.default, "placement": ask.PLACEMENT.default}
        return cls(
            problem=RatioProblem(law=workload.law, latency=latency, batch_size=batch_size, **asked),
            workload=workload,
            choice=choice,
            most_requests=most,
            placement=given["placement"],
            played=played,
            has_around=has_around,
            window_duration=given["by"],
        )

    @property
    def blind(self) -> RatioProblem:
        """The problem with requests placed blindly."""
        if self.problem.placement == ask.PLACEMENT.default:
            return self.problem
        return replace(self.problem, placement=ask.PLACEMENT.default)

    def latency_of(self, batch_size: int) -> LatencyModel:
        """Return the times at another batch size."""
        return self.choice.resolve(batch_size=batch_size, ffn_workers=self.problem.ffn_workers)


def _is_played(given: Mapping[str, Any], latency: LatencyModel) -> bool:
    """Say whether the answer is played: asked for, or nothing else knows what is asked."""
    if given["method"] in ("gaussian", "mean-field"):
        return False
    microbatches = 1 if given["overlap"] == "ideal" else given["microbatches"]
    return (
        given["method"] == "simulated"
        or any(given[one.key] != one.default for one in ask.ONLY_SIMULATED)
        or unknown_placement(given["placement"], latency, microbatches, given["execution"])
        is not None
    )
