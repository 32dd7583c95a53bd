"""What exactly is asked when a ratio is sought?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import UnsupportedError
from afdplan.lengths.law import LengthLaw, check_law
from afdplan.lengths.token_load import SlotLoad
from afdplan.model import parameters as ask
from afdplan.model.boarding import Boarding, check_execution
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_count, frozen_array
from afdplan.model.kinds import check_latency
from afdplan.model.latency import LatencyModel
from afdplan.model.parameter import check_fields
from afdplan.model.parameters import Execution, Method, Overlap, Phase, Placement
from afdplan.theory.transient import horizon_mean_load

__all__ = ["MAXIMUM_WORKERS", "Method", "Overlap", "Phase", "RatioProblem", "unknown_placement"]

MAXIMUM_WORKERS = 100_000
"""Of attention, that are ever considered."""


def unknown_placement(
    placement: Placement,
    latency: LatencyModel,
    microbatches: int,
    execution: Execution = ask.EXECUTION.default,
) -> str | None:
    """Return why the theory does not know the loads under a placement, None if it does."""
    if placement == "longest-request":
        return "placement longest-request knows outputs, and the theory does not know such loads"
    if execution == "barrier-free" and placement.startswith("longest-prompt"):
        return "balanced loads without a barrier are a law that the theory does not know"
    if placement == "longest-prompt-rank" and microbatches > 1:
        return (
            "placement longest-prompt-rank balances ranks and leaves their microbatches unequal, a "
            "law that the theory does not know"
        )
    if placement.startswith("longest-prompt") and any(
        kind.context_window is not None for kind in latency.attention
    ):
        return (
            f"placement {placement} balances whole contexts, and the theory does not know what "
            "layers with a context window then read"
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioProblem:
    """Everything about a bundle but the number of its attention workers.

    Attributes
    ----------
    law
        Joint law of prompt and decode lengths (P, D).
    latency
        Times of the stages (t_A, t_F, c_out, c_back).
    batch_size
        B, request slots per attention worker and microbatch [requests], >= 1.
    ffn_workers
        F of one bundle, >= 1.
    microbatches
        m in flight, 1 to 8; ideal overlap ignores it.
    overlap
        ``pipelined``, what systems do, or ``ideal``, the paper's perfect overlap.
    method
        ``exact`` barrier by convolution, ``gaussian`` barrier, or ``mean-field`` without barrier.
    phase
        For requests that are all alike: slots of ``random`` or ``aligned`` age.
    ffn_weight
        w, cost of one FFN worker over that of one attention worker, > 0; unless given, their
        devices as the latency model names them, and 1 if it names none.
    execution
        ``synchronous`` (a barrier over all attention workers) or ``barrier-free``.
    least_calls, longest_wait, most_tokens
        Boarding rule of the barrier-free pool, see `Boarding`.
    horizon
        N requests per worker from a fresh start, in place of the steady state.
    max_attention_workers
        Largest A considered, 1 to 100,000; None for 64 F, or more where the mean field's optimum
        asks for it.
    placement
        Which free slot an admitted request gets. Where no prompt is compared all slots are filled
        at once and alike: those policies have one law.

    Raises
    ------
    InvalidInputError
        If a number is out of its domain.
    UnsupportedError
        If options exclude each other.
    """

    law: LengthLaw
    latency: LatencyModel
    batch_size: int
    ffn_workers: int = ask.FFN_WORKERS.default
    microbatches: int = ask.MICROBATCHES.default
    overlap: Overlap = ask.OVERLAP.default
    method: Method = ask.METHOD.default
    phase: Phase = ask.PHASE.default
    ffn_weight: float = ask.FFN_WEIGHT.default  # None until the devices have been counted
    horizon: int | None = ask.HORIZON.default
    execution: Execution = ask.EXECUTION.default
    least_calls: int = ask.LEAST_CALLS.default
    longest_wait: float | None = ask.LONGEST_WAIT.default
    most_tokens: int | None = ask.MOST_TOKENS.default
    placement: Placement = ask.PLACEMENT.default
    max_attention_workers: int | None = ask.MAX_ATTENTION_WORKERS.default

    def __post_init__(self) -> None:
        counts = self.bundle(1)  # checks them, and makes NumPy's integers those of Python
        for name in ("batch_size", "ffn_workers", "microbatches"):
            object.__setattr__(self, name, getattr(counts, name))
        check_law(self.law)
        check_latency(self.latency)
        check_fields(self, (*ask.PROBLEM[2:7], ask.EXECUTION, ask.PLACEMENT))
        if self.max_attention_workers is not None:
            check_count("max_attention_workers", self.max_attention_workers, 1, MAXIMUM_WORKERS)
        # A search may grow the bundle: calls enough for any rule.
        most = self.bundle(int(ask.ATTENTION_WORKERS.maximum or 1))
        check_execution(self.execution, self.latency, most, self.boarding, self.overlap)
        if self.execution == "barrier-free" and (self.phase == "aligned" or self.horizon):
            raise UnsupportedError(
                "barrier-free execution is known in the steady state and for ages that differ: "
                "leave phase aligned and the horizon out"
            )
        if self.ffn_weight is None:
            object.__setattr__(self, "ffn_weight", self.latency.ffn_weight or 1.0)
        if self.horizon is not None:
            if self.method != "mean-field":
                raise UnsupportedError(
                    "a horizon has a mean load but no stationary law: it needs method mean-field"
                )
            if any(kind.context_window is not None for kind in self.latency.attention):
                raise UnsupportedError(
                    "a horizon is not defined for layers with a context window: "
                    "leave the horizon out"
                )
        if self.phase == "aligned":
            if self.method != "exact":
                raise UnsupportedError("phase aligned averages over ages: it needs method exact")
            if not self.law.is_constant:
                raise UnsupportedError(
                    "phase aligned needs requests of one prompt and one output length: "
                    "use phase random for lengths that vary"
                )
        unknown = unknown_placement(
            self.placement, self.latency, self.counted_microbatches, self.execution
        )
        if unknown is not None:
            raise UnsupportedError(f"{unknown}: play it with afdplan ratio --method simulated")

    @property
    def boarding(self) -> Boarding:
        """When the pool of barrier-free execution departs."""
        return Boarding(**{one.field: getattr(self, one.field) for one in ask.BOARDING})

    def within(self, devices: int | None, attention_devices: int, ffn_devices: int) -> RatioProblem:
        """Return it with at most the A, one at least, for which so many devices leave room.

        Parameters
        ----------
        devices
            Of a bundle; None leaves A as it is.
        attention_devices, ffn_devices
            Of one worker of each side.
        """
        if devices is None:
            return self
        room = max((devices - self.ffn_workers * ffn_devices) // attention_devices, 1)
        most = min(room, self.max_attention_workers or MAXIMUM_WORKERS)
        return replace(self, max_attention_workers=most)

    def bundle(self, attention_workers: int) -> Bundle:
        """Return the bundle with `attention_workers` A."""
        return Bundle(
            attention_workers=attention_workers,
            ffn_workers=self.ffn_workers,
            batch_size=self.batch_size,
            microbatches=self.counted_microbatches,
        )

    @property
    def counted_microbatches(self) -> int:
        """The m of the formulas: ideal overlap counts its microbatches as one."""
        return 1 if self.overlap == "ideal" else self.microbatches

    def slot_loads(self, factor: float = 1.0) -> tuple[SlotLoad, ...]:
        """Return the law of a slot's load as each kind of attention layers sees it.

        Parameters
        ----------
        factor
            Scales every load, to ask what if the mean load were another.
        """
        windows = [kind.context_window for kind in self.latency.attention]
        # The window cuts the scaled load: min(factor y, w) = factor min(y, w / factor).
        loads = {
            window: self.law.slot_load(
                None if window is None else max(round(window / factor), 1)
            ).stretched(factor)
            for window in set(windows)
        }
        return tuple(loads[window] for window in windows)

    def load_correlations(self) -> FloatArray:
        """Return how a slot's loads in the kinds of layers correlate, shape (kinds, kinds).

        Corr(min(y, w_k), min(y, w_l)) over the stationary law of y; 1 where loads are no random
        variables, or never vary.
        """
        windows = tuple(kind.context_window for kind in self.latency.attention)
        if len(windows) == 1 or self.phase == "aligned" or self.method == "mean-field":
            return np.ones((len(windows), len(windows)))
        return _load_correlations(self.law, windows)

    def mean_token_loads(self, slots: tuple[SlotLoad, ...]) -> tuple[float, ...]:
        """Return theta of each kind of layers: stationary, or over the horizon [tokens]."""
        if self.horizon is None:
            return tuple(slot.moments.mean for slot in slots)
        slots_per_worker = self.counted_microbatches * self.batch_size
        load = horizon_mean_load(self.law, self.horizon, slots_per_worker)
        return (load,) * len(slots)


@lru_cache(maxsize=4)
def _load_correlations(law: LengthLaw, windows: tuple[int | None, ...]) -> FloatArray:
    """Return the same for one law: a search asks for it at every batch size."""
    slot = law.slot_load()
    seen = np.array([slot.support if w is None else np.minimum(slot.support, w) for w in windows])
    seen -= (seen @ slot.probabilities)[:, None]
    covariance = (seen * slot.probabilities) @ seen.T
    spread = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))
    constant = spread <= 0
    correlations: FloatArray = covariance / np.where(constant, 1.0, spread)
    correlations[constant] = 1.0
    return frozen_array(correlations, np.float64)
