"""What does a scenario give: parts of runs, put together into estimates with intervals?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model.checks import check_count
from afdplan.model.estimate import Estimate
from afdplan.simulation import state as ix
from afdplan.simulation.distribution import Distribution, distribution_of
from afdplan.simulation.engine import Engine, Sink
from afdplan.simulation.outage import failure_warnings
from afdplan.simulation.overload import judged, offered_load, refuse_extreme, saturated
from afdplan.simulation.record import BARRIER_FREE_CAUSES, CAUSES, Part, Recorder
from afdplan.simulation.result import FailureRecord, PoolRecord, SimulationResult
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.window import is_deterministic, is_long_enough, keep
from afdplan.statistics.batch_means import BATCHES, batch_means
from afdplan.statistics.replications import ratio_estimate

__all__ = ["simulate"]

FloatArray = npt.NDArray[np.float64]
PARTS = 100
REPLICATIONS = 10
MAXIMUM_REPLICATIONS = 2000
MAXIMUM_EXTENSION = 10_000  # times the requests asked for: then a precision is out of reach
Progress = Callable[[float], None]


def simulate(
    scenario: Scenario,
    *,
    progress: Progress | None = None,
    on_requests: Sink | None = None,
    on_steps: Sink | None = None,
    threads: int = 1,
) -> SimulationResult:
    """Return what the scenario's bundle does, with intervals.

    Parameters
    ----------
    scenario
        What to simulate.
    progress
        Called with the share done, 0 to 1, between parts of the run.
    on_requests, on_steps
        Called with blocks of log rows of the first replication (columns in `logs.py`).
    threads
        Replications played at once, each with slots of its own; changes no digit.

    Raises
    ------
    UnsupportedError
        If more than ten times as much arrives as the bundle can finish.
    InsufficientDataError
        If `replications` is 1 and the run is shorter than batch means need, or nothing finished;
        `estimate` carries the result.

    Notes
    -----
    Cost: about ``requests * a + steps * A * m * L * b`` per replication; docs/simulation.md
    has both constants. Replications see the same requests whatever the design (common random
    numbers), so differences between designs are surer than either.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.bundle import Bundle
    >>> from afdplan.model.latency import LatencyModel
    >>> result = simulate(Scenario(
    ...     bundle=Bundle(attention_workers=2, batch_size=4, microbatches=1),
    ...     latency=LatencyModel.linear(attention=(0.0, 50), ffn=(0.0, 30), transfer=(0.0, 10)),
    ...     lengths=IndependentLengths(prompt="100", decode="geometric:5"),
    ...     requests_per_worker=2000))
    >>> round(result.cycle_time.value, 6)  # 50 + 10 + 30 + 10: nothing overlaps
    100.0
    """
    check_count("threads", threads)
    load = None
    if scenario.arrivals is not None:
        # What a bundle can finish is known only from one that always has enough to do.
        load = offered_load(scenario, simulate(saturated(scenario), threads=threads))
        refuse_extreme(scenario, load)
    result = _played(scenario, progress, on_requests, on_steps, threads)
    return result if load is None else judged(result, load)


def _played(
    scenario: Scenario,
    progress: Progress | None,
    on_requests: Sink | None,
    on_steps: Sink | None,
    threads: int,
) -> SimulationResult:
    """Play runs until their intervals are as narrow as wanted."""
    runs: list[_Run] = []
    wanted = scenario.replications
    runs.append(_Run(scenario, 0, on_requests, on_steps))
    share = 1.0 if wanted in (None, 1) else 1.0 / (wanted or 1)
    runs[0].play(scenario.target_completions, progress, 0.0, share)
    single = wanted == 1 or (wanted is None and is_long_enough(scenario, runs[0].parts))
    single = single or is_deterministic(scenario)
    if not single:
        count = wanted or REPLICATIONS
        runs[0].compact(scenario)
        _replicate(scenario, runs, count, threads, progress, 1 / count)
    result = _summary(scenario, runs)
    target = scenario.target_completions
    while (growth := _growth(result)) > 1:
        if single and scenario.window == "steady" and not runs[0].engine.is_finished:
            # A longer run: half again as long, or what the square-root law asks for.
            if target > MAXIMUM_EXTENSION * scenario.target_completions:
                raise _unreached(result, f"{target:,} requests", "ask for more requests per worker")
            target = int(target * growth)
            runs[0].play(target, progress, 0.0, 1.0)
        elif is_deterministic(scenario):
            raise _unreached(result, "the trace's own arrivals", "give a longer trace")
        elif wanted is None or len(runs) < wanted:
            single = False
            runs[0].compact(scenario)
            if len(runs) >= MAXIMUM_REPLICATIONS:
                raise _unreached(
                    result, f"{len(runs)} replications", "ask for more requests per worker"
                )
            more = min(int(len(runs) * growth) + 1, MAXIMUM_REPLICATIONS)
            _replicate(scenario, runs, more, threads, progress)
        else:
            raise _unreached(result, f"{wanted} replications", "leave their number open")
        result = _summary(scenario, runs)
    return result


def _replicate(
    scenario: Scenario,
    runs: list[_Run],
    count: int,
    threads: int,
    progress: Progress | None,
    done: float = 0.0,
) -> None:
    """Play and add runs until there are `count`; `done` is the share done before."""
    share = (1 - done) / (count - len(runs))
    left = threading.Event()

    def played(k: int) -> _Run:
        run = _Run(scenario, k, is_summed=_is_summed(scenario))
        run.play(scenario.target_completions, None, 0.0, 0.0, left)
        run.close(scenario)
        return run

    # Kernels release the interpreter lock.
    with ThreadPoolExecutor(threads) as pool:
        try:
            for run in pool.map(played, range(len(runs), count)):
                runs.append(run)
                done += share
                if progress is not None:
                    progress(min(done, 1.0))
        finally:  # whoever interrupts waits for no run
            left.set()


def _is_summed(scenario: Scenario) -> bool:
    """Whether of a replication only the sum over its parts is looked at."""
    return scenario.window == "all" or (
        scenario.window == "steady" and scenario.start == "stationary"
    )


def _growth(result: SimulationResult) -> float:
    """Return how many times as long a run the wanted precisions ask for, 1 if they are met."""
    scenario = result.scenario
    wanted = (
        (result.throughput_per_instance, scenario.precision),
        (result.step_time.p99, scenario.p99_precision),
    )
    shortfall = max(
        (e.relative_half_width / width for e, width in wanted if width is not None), default=0.0
    )
    return float(min(max(1.1 * shortfall**2, 1.3), 4.0)) if shortfall > 1 else 1.0


def _unreached(result: SimulationResult, reached: str, mend: str) -> InsufficientDataError:
    scenario = result.scenario
    wanted = (("precision", scenario.precision), ("p99_precision", scenario.p99_precision))
    names = " and ".join(f"{name} {width:g}" for name, width in wanted if width is not None)
    return InsufficientDataError(
        f"{names} was not reached in {reached}: ask for less precision, or {mend}", result
    )


class _Run:
    """One replication, cut into about a hundred parts."""

    def __init__(
        self,
        scenario: Scenario,
        replication: int,
        on_requests: Sink | None = None,
        on_steps: Sink | None = None,
        *,
        is_summed: bool = False,
    ) -> None:
        self.is_summed = is_summed
        self.engine = Engine(scenario, replication, on_requests=on_requests, on_steps=on_steps)
        self.recorder = Recorder(self.engine)
        self.parts: list[Part] = []
        self.per_part = max(scenario.target_completions / PARTS, 1.0)
        self.pieces = 0
        self.completed = 0
        self.largest_load = 0.0

    def play(
        self,
        target: int,
        progress: Progress | None,
        begin: float,
        share: float,
        left: threading.Event | None = None,
    ) -> None:
        """Play until `target` requests are done, in parts that intervals are made of."""
        done = int(self.engine.state.integers[ix.COMPLETED])
        while done < target and not self.engine.is_finished:
            if left is not None and left.is_set():
                break
            if len(self.parts) >= 2 * PARTS:
                self.parts = [a + b for a, b in zip(self.parts[::2], self.parts[1::2], strict=True)]
                self.per_part *= 2
                self.pieces //= 2
            self.pieces += 1
            upto = min(target, round(self.pieces * self.per_part))
            self.engine.run(stop_completed=max(upto, done + 1))
            done = int(self.engine.state.integers[ix.COMPLETED])
            if not self.is_summed:  # histograms are large, adding them up takes longer than playing
                self.parts.append(self.recorder.cut())
            if progress is not None:
                progress(begin + share * min(done / target, 1.0))
        if self.is_summed:
            self.parts.append(self.recorder.cut())
        self.engine.empty_logs()
        self.completed = done
        self.largest_load = float(self.engine.state.integers[ix.KV_MAX])

    def compact(self, scenario: Scenario) -> None:
        """Add up the parts where replications need only their sum."""
        if _is_summed(scenario):
            self.parts = [reduce(add, self.parts)]

    def close(self, scenario: Scenario) -> None:
        """Let go of the slots and calendars of a replication that is over."""
        self.compact(scenario)
        del self.engine, self.recorder


def _summary(scenario: Scenario, runs: list[_Run]) -> SimulationResult:
    """Return the result of all runs."""
    if any(not run.completed for run in runs):
        raise InvalidInputError(
            "requests_per_worker must leave time for one request to finish, none did: check the "
            "trace's arrivals and kv_capacity"
        )
    kept, warnings = keep(scenario, [run.parts for run in runs])
    single = len(runs) == 1
    reliable = not single or is_long_enough(scenario, kept[0].parts)
    parts = kept[0].parts if single else [reduce(add, window.parts) for window in kept]
    if single and not reliable and is_deterministic(scenario):
        reliable = True
        warnings += (
            "recorded arrivals are played once: intervals by batch means of a short run are "
            "too narrow",
        )
    total = reduce(add, parts)
    t = runs[0].engine.tables
    bundle = scenario.bundle
    workers = bundle.attention_workers
    instances = workers + bundle.ffn_workers
    slots = workers * bundle.batch_size * scenario.microbatches
    rounds = t.layers * t.microbatches

    def integer(index: int) -> FloatArray:
        return np.array([part.integers[index] for part in parts], dtype=np.float64)

    def real(index: int) -> FloatArray:
        return np.array([part.floats[index] for part in parts])

    def estimate(top: FloatArray, bottom: FloatArray) -> Estimate:
        if not single:
            return ratio_estimate(top, bottom, confidence=scenario.confidence)
        if len(parts) < 2:
            value = float(top.sum() / (bottom.sum() or 1.0))
            return Estimate(
                value=value, low=-np.inf, high=np.inf, confidence=scenario.confidence, method="none"
            )
        batches = min(BATCHES, len(parts))
        return batch_means(top, bottom, confidence=scenario.confidence, batches=batches)

    def scatter(top: FloatArray, bottom: FloatArray, histogram: int) -> Distribution:
        return distribution_of(
            estimate(top, bottom),
            total.histograms[histogram],
            [part.histograms[histogram] for part in parts],
            batches=min(BATCHES, len(parts)) if single else len(parts),
            confidence=scenario.confidence,
        )

    time, steps = real(ix.CLOCK), integer(ix.STEP)
    ended = integer(ix.CELL_STEPS) if t.barrier_free else steps * t.microbatches
    step = scatter(real(ix.STEP_TIME), ended, ix.STEP_TIMES)
    horizon = float(total.floats[ix.CLOCK])
    busy = np.array([part.busy for part in parts])
    first = reduce(add, kept[0].parts)
    n = runs[0].engine.state.integers
    open_ = scenario.arrivals is not None
    causes = BARRIER_FREE_CAUSES if t.barrier_free else CAUSES
    pool = None
    if t.barrier_free:
        departures = float(total.integers[ix.DEPARTURES]) or 1.0
        calls = float(total.integers[ix.BOARDED]) or 1.0
        pool = PoolRecord(
            calls_per_departure=calls / departures,
            time_between_departures=horizon / departures,
            call_wait=float(total.floats[ix.CALL_WAIT]) / calls,
        )
    useful = estimate(integer(ix.UNITS) / t.denominator / instances, time)
    lost = None
    if scenario.failures is not None:
        # Every slot has a token per step, if it is there.
        most = slots * t.numerator / t.denominator / step.mean.value / instances
        lost = FailureRecord(
            failures=int(total.integers[ix.FAILURES]),
            lost_requests=int(total.integers[ix.LOST]),
            lost_tokens=float(total.integers[ix.LOST_UNITS]) / t.denominator,
            share=useful.moved(1 / most, 0.0),
        )
        warnings += (*failure_warnings(scenario, lost.failures),)
    result = SimulationResult(
        scenario=scenario,
        throughput_per_instance=useful,
        cycle_time=step.mean.moved(1 / rounds, -t.overhead / rounds),
        step_time=step,
        request_time_per_output_token=scatter(
            real(ix.TIME_PER_TOKEN), integer(ix.TIMED), ix.TOKEN_TIMES
        ),
        attention_idle_fraction=estimate(busy, time * workers).moved(-1.0, 1.0),
        ffn_idle_fraction=estimate(real(ix.FFN_BUSY), time).moved(-1.0, 1.0),
        attention_idle_causes=_shares(total.idle, horizon * workers, total.busy, causes),
        ffn_idle_causes=_shares(total.ffn_idle, horizon, float(total.floats[ix.FFN_BUSY]), causes),
        slot_occupancy=estimate(real(ix.ACTIVE_AREA), time * slots),
        kv_tokens_per_worker=scatter(
            integer(ix.KV_SUM) / t.denominator, integer(ix.KV_SAMPLES), ix.KV_TOKENS
        ),
        maximum_kv_tokens_per_worker=max(run.largest_load / t.denominator for run in runs),
        waiting_steps_p999=total.histograms[ix.WAITS].quantile(0.999) / step.mean.value
        if open_
        else total.histograms[ix.PASSES].quantile(0.999) / t.microbatches,
        waiting_time=scatter(real(ix.WAIT), integer(ix.WAITED), ix.WAITS) if open_ else None,
        queue_length=estimate(real(ix.QUEUE_AREA), time) if open_ else None,
        requests_completed=int(first.integers[ix.COMPLETED]),
        tokens_generated=int(first.integers[ix.UNITS]) // int(t.denominator),
        steps=int(first.integers[ix.STEP]),
        requests_entered=int(n[ix.ENTERED]),
        requests_in_slots=int(n[ix.ACTIVE]),
        requests_queued=int(n[ix.ARRIVED] - n[ix.HEAD]) if open_ else 0,
        requests_rejected=int(n[ix.REJECTED]),
        preemptions=int(total.integers[ix.PREEMPTED]),
        recomputed_tokens=float(total.integers[ix.RECOMPUTED]) / t.denominator,
        replications=len(runs),
        warmup_fraction=kept[0].dropped / len(runs[0].parts),
        interval_method="batch means" if single else "replications",
        is_reliable=reliable,
        pool=pool,
        failures=lost,
        warnings=warnings,
    )
    if not reliable:
        raise InsufficientDataError(
            "the run is too short for intervals by batch means (they need 50 E[D^2]/E[D] steps): "
            "ask for more requests per worker, or leave the number of replications open",
            result,
        )
    return result


def _shares(
    idle: FloatArray, horizon: float, busy: float, causes: tuple[str, ...]
) -> dict[str, float]:
    """Return idle time by cause as shares of the horizon; they add up to 1 - busy / horizon."""
    known = float(idle.sum())
    total = max(horizon - busy, 0.0)
    scale = total / known if known > 0 else 0.0  # what is open at the ends is spread evenly
    return {cause: float(part) * scale / horizon for cause, part in zip(causes, idle, strict=True)}
