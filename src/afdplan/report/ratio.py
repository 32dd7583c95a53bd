"""How is the recommended ratio told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.plotting.ratio_figures import NAMES, cost_formula, cost_unit
from afdplan.report.placement import BARRIER
from afdplan.report.quantities import (
    counted,
    interval,
    number,
    rate,
    sentence,
    share,
    stated_time,
    time,
)
from afdplan.report.ratio_tables import curve_table
from afdplan.report.telling import Fact, Telling
from afdplan.theory.validity import BARRIER_FREE_ERROR

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.model.trace import Trace
    from afdplan.planning.ratio_grid import RatioCase
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import ModeVerdict, RatioRecommendation

__all__ = [
    "BINDS",
    "case_sentence",
    "certainty",
    "cost_words",
    "idle_words",
    "mode_words",
    "ratio_answer",
    "ratio_told",
    "resource_words",
    "tail_words",
]

BINDS = {
    "attention": "the slowest attention worker sets the pace",
    "communication": "the slower transfer sets the pace",
    "ffn": "the FFN sets the pace",
    "latency": "the round trip of a microbatch sets the pace",
}


def ratio_answer(answer: RatioRecommendation) -> dict[str, Any]:
    """Return the names that ``afdplan ratio --json`` promises; times in the model's unit.

    `attention_bound_ratio`, `communication_bound_ratio` and `interior_ratio` are null where the
    FFN's line never meets the other one, and negative where the FFN alone is slower at any load;
    `uncertainty` is null where the load is known exactly, `replication` with one FFN worker. The
    mean field has no law: its `step_time` has no percentiles. Without the barrier p99 lies between
    `p99_low` and `p99_high`.
    """
    step_time = {"mean": answer.best.step_time}
    if answer.step_time_quantiles is not None:
        step_time |= dict(zip(("p50", "p95", "p99"), answer.step_time_quantiles, strict=True))
    if answer.step_time_p99_between is not None:
        step_time |= dict(zip(("p99_low", "p99_high"), answer.step_time_p99_between, strict=True))
    return {
        **chosen(
            answer,
            "optimal_ratio optimal_attention_workers bottleneck attention_bound_ratio "
            "communication_bound_ratio interior_ratio mean_token_load",
        ),
        "near_equal_attention_workers": list(answer.near_equal),
        "cost_unit": cost_unit(answer.problem.latency, answer.ffn_weight),
        **chosen(answer, "mean_field_ratio barrier_cost resource_times bundle"),
        "step_time": step_time,
        **chosen(answer, "uncertainty latency_uncertainty replication modes curve"),
    }


def ratio_told(
    answer: RatioRecommendation,
    problem: RatioProblem,
    warnings: Sequence[str],
    trace: Trace | None = None,
) -> Telling:
    """Return what text and page say of the answer.

    Parameters
    ----------
    answer, problem
        What `recommend_ratio` returned, for which question.
    warnings
        One sentence each.
    trace
        The trace behind it, if any: what was read and dropped is told.
    """
    bundle, unit = answer.bundle, problem.latency.time_unit
    return Telling(
        subject=f"{problem.law.name}; {problem.latency.name}",
        answer=f"Use {_workers(bundle.attention_workers, bundle.ffn_workers)}: "
        f"{BINDS[answer.bottleneck]}, and {_near(answer.near_equal)} of the best.",
        facts=tuple(_facts(answer, unit)),
        words=(
            *_trace_words(trace),
            *_bundle_words(answer, unit),
            *mode_words(answer.modes, unit),
            *certainty(answer, unit),
        ),
        tables=(curve_table(answer, unit, _few(answer)),),
        warnings=tuple(warnings),
        assumptions=(*_assumptions(problem), *problem.latency.assumptions),
        style="green",
        brief=(*_brief(answer, problem), *mode_words(answer.modes, unit)),
        choice=curve_table(answer, unit, _fewest(answer)),
    )


def _workers(attention: int, ffn: int) -> str:
    return f"{counted(attention, 'attention worker')} with {counted(ffn, 'FFN worker')}"


def _near(near_equal: tuple[int, int]) -> str:
    low, high = near_equal
    return "no other number is within 1 %" if low == high else f"{low:,} to {high:,} are within 1 %"


def _facts(answer: RatioRecommendation, unit: TimeUnit) -> Iterable[Fact]:
    best, bundle = answer.best, answer.bundle
    per = cost_unit(answer.problem.latency, answer.ffn_weight)
    yield Fact("Throughput", rate(best.objective, unit), f"per {per}")
    if answer.ffn_weight != 1:
        yield Fact(
            "Per worker", rate(best.throughput_per_instance, unit), "both kinds counted alike"
        )
    tail = ""
    if answer.step_time_quantiles is not None:
        tail = f"p99 {time(answer.step_time_quantiles[2], unit)}"
    if answer.step_time_p99_between is not None:
        tail += f" ({_between(answer.step_time_p99_between, unit)})"
    yield Fact("Output step", stated_time(best.step_time, unit), tail)
    yield Fact(
        "Idle",
        f"{share(best.attention_idle_fraction)} / {share(best.ffn_idle_fraction)}",
        "attention / FFN",
    )
    yield Fact(
        "Requests in flight",
        f"{bundle.requests_per_attention_worker:,} per worker",
        f"{bundle.microbatches} x {bundle.batch_size:,} slots",
    )
    yield Fact(BARRIER, share(answer.barrier_cost), "of what equal loads would give")
    yield Fact(
        "Real optimum A/F",
        number(answer.optimal_ratio),
        f"mean field {number(answer.mean_field_ratio)}",
    )


def _brief(answer: RatioRecommendation, problem: RatioProblem) -> Iterable[Fact]:
    """Yield what is told on one screen."""
    unit = problem.latency.time_unit
    facts = list(_facts(answer, unit))
    if tuple(_alike(problem)):
        words = "counts as 1 attention worker"
        facts.insert(1, Fact("An FFN worker", words, "no devices are named"))
    yield from facts
    known, errors = answer.uncertainty, answer.latency_uncertainty
    if known is not None:
        yield Fact(
            "Sure of the load",
            f"best A {_span(known.low, known.high)} of its {100 * known.token_load.confidence:.4g} "
            f"% interval ({interval(known.token_load)} tokens per slot)",
        )
    if errors is not None:
        yield Fact(
            "Sure of the times",
            f"best A {_span(errors.low, errors.high)}, step "
            f"{stated_time(errors.step_time_low, unit)} to "
            f"{stated_time(errors.step_time_high, unit)}, by the model's standard errors",
        )


def _fewest(answer: RatioRecommendation) -> set[int]:
    """Choose the A that a screen shows: the best, the near-equal ones, about half and double."""
    best, known = answer.optimal_attention_workers, _few(answer)
    wanted = {best, *answer.near_equal, best // 2, 2 * best}
    return {min(known, key=lambda a: abs(a - want)) for want in wanted}


def _trace_words(trace: Trace | None) -> Iterable[Fact]:
    if trace is not None:
        words = [counted(trace.requests, "request"), f"format {trace.format}"]
        if trace.dropped_requests:
            words.append(f"{trace.dropped_requests:,} dropped (failed or without output)")
        yield Fact("Trace", ", ".join([*words, *trace.notes]))


def _bundle_words(answer: RatioRecommendation, unit: TimeUnit) -> Iterable[Fact]:
    cycle = stated_time(answer.best.cycle_time, unit)
    yield Fact("Cycle time", f"{cycle} per layer and microbatch")
    times = _times(answer.resource_times, unit)
    yield Fact("What binds", f"At A/F = {number(answer.optimal_ratio)}: {times}.")
    if answer.ffn_weight != 1:
        yield Fact("Cost", cost_words(answer.ffn_weight).removeprefix("Cost is "))
    if answer.replication is not None:
        parts = answer.replication
        more = "more" if parts.gain >= 0 else "less"
        yield Fact(
            "Replicated",
            f"{parts.bundles} bundles of {parts.attention_workers}:{parts.ffn_workers}, each "
            f"with its own barrier, give {share(abs(parts.gain))} {more}.",
        )


def mode_words(found: ModeVerdict | None, unit: TimeUnit) -> Iterable[Fact]:
    """Yield which way to run pays, by how much and why; nothing where nobody asked."""
    if found is None:
        return
    if found.gain > 0:
        verdict = f"Going without pays: {share(found.gain)} more"
    else:
        verdict = f"Keep the barrier: {share(-found.gain)} less without"
    tail = ""
    if found.step_time_p99 is not None:
        p99 = f"{stated_time(found.step_time_p99, unit)}, {tail_words(found, unit)}"
        tail = f" (p99 over all workers {p99})"
    yield Fact(
        "Without the barrier",
        f"{verdict} than the best synchronous bundle (A = "
        f"{found.synchronous_attention_workers:,}) with A = {found.attention_workers:,} and an "
        f"output step of {stated_time(found.step_time, unit)}{tail}.",
    )
    if found.step_time_error > BARRIER_FREE_ERROR:
        yield Fact(
            "Two rhythms",
            "How calls begin says which one it has: the step may be "
            f"{share(found.step_time_error)} off. Check with afdplan simulate.",
        )
    yield Fact(
        "Why",
        f"With the barrier the FFN idles {share(found.synchronous_ffn_idle_fraction)} (unequal "
        f"loads cost {share(found.barrier_saved)} of the throughput), without it "
        f"{share(found.ffn_idle_fraction)}; it then needs {share(abs(found.floor_paid))} "
        f"{'more' if found.floor_paid >= 0 else 'less'} time per token, "
        f"{number(found.calls_per_departure)} calls at a time.",
    )
    yield Fact(
        "Boarding rule",
        "Leave as soon as one call waits."
        if found.least_calls == 1
        else f"Leave when {found.least_calls:,} calls wait.",
    )


def _between(ends: tuple[float, float], unit: TimeUnit) -> str:
    return "between " + " and ".join(time(end, unit) for end in ends)


def tail_words(found: ModeVerdict, unit: TimeUnit) -> str:
    """Return between which times the 99th percentile of a step without the barrier lies."""
    low, high = found.step_time_p99_low, found.step_time_p99_high
    return "" if low is None or high is None else _between((low, high), unit)


def _times(times: dict[Any, float], unit: TimeUnit) -> str:
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return ", ".join(f"{NAMES[name]} {stated_time(value, unit)}" for name, value in ordered)


def certainty(answer: RatioRecommendation, unit: TimeUnit) -> tuple[Fact, ...]:
    """Return how sure the answer is: by the requests, and by the latency model."""
    load = f"{number(answer.mean_token_load)} tokens per slot, taken as exact: it is a law, or too "
    load += "short a trace."
    if answer.uncertainty is not None:
        known = answer.uncertainty
        mean = known.token_load
        read = ""
        if abs(mean.value - answer.mean_token_load) > 1e-6 * mean.value:
            read = f", of which layers read {number(answer.mean_token_load)} on average"
        load = (
            f"{number(mean.value)} tokens per slot{read} ({interval(mean)}, "
            f"{100 * mean.confidence:.4g} % confidence): the best number of workers is then "
            f"{_span(known.low, known.high)}, and the recommended one gives up at most "
            f"{share(known.largest_regret)}."
        )
    errors = answer.latency_uncertainty
    model = "The latency model states no standard errors."
    if errors is not None:
        model = (
            "The latency model's standard errors put the best number at "
            f"{_span(errors.low, errors.high)} ({100 * errors.confidence:.4g} % of "
            f"{errors.draws:,} draws); the recommended one gives up "
            f"{share(errors.mean_regret)} on average. A step takes "
            f"{stated_time(errors.step_time_low, unit)} to "
            f"{stated_time(errors.step_time_high, unit)}."
        )
    return (Fact("Token load", load), Fact("Latency model", model))


def _span(low: int, high: int) -> str:
    return f"{low:,} at either end" if low == high else f"{low:,} to {high:,}"


def _assumptions(problem: RatioProblem) -> tuple[str, ...]:
    overlap = (
        f"{counted(problem.microbatches, 'microbatch')} in flight take turns on attention, link "
        "and FFN"
        if problem.overlap == "pipelined"
        else "perfect overlap: the slowest resource alone sets the cycle"
    )
    held = {
        "exact": "the law of a worker's load is exact, and frozen while calls come and go",
        "gaussian": "the load of a worker is taken as normal, and frozen while calls come and go",
        "mean-field": "every attention worker always holds its mean load",
    }
    barrier = {
        "exact": "every FFN step waits for the slowest attention worker, whose load is random",
        "gaussian": "every FFN step waits for the slowest attention worker, loads taken as normal",
        "mean-field": "every attention worker always holds its mean load: no barrier is counted",
    }
    known = (barrier if problem.execution == "synchronous" else held)[problem.method]
    return (
        sentence(overlap),
        sentence(known),
        *_alike(problem),
        "Slots are always occupied: a finished request is replaced at once.",
        "Requests are drawn independently of one another; drift and bursts are not in the ratio.",
    )


def _alike(problem: RatioProblem) -> Iterable[str]:
    """Yield that both kinds of workers count alike where nobody said what each costs."""
    if problem.latency.ffn_weight is None and problem.ffn_weight == 1:
        yield (
            "An FFN worker counts as one attention worker: the latency model names no devices per "
            "worker; ffn_weight says otherwise."
        )


def _few(answer: RatioRecommendation) -> set[int]:
    """Choose about fifteen A: the best, its neighbours, the near-equal ones, both ends."""
    workers = [point.attention_workers for point in answer.curve]
    best, last = answer.optimal_attention_workers, workers[-1]
    low, high = answer.near_equal
    wanted = {float(w) for w in (1, low, best - 1, best, best + 1, high, last)}
    for start, end in ((1, low), (low, best), (best, high), (high, last)):
        # Two more in each stretch, evenly spaced on a logarithmic scale.
        wanted |= {start * (end / start) ** (k / 3) for k in (1, 2)}
    return {min(workers, key=lambda have: abs(have - want)) for want in wanted}


def case_sentence(case: RatioCase, problem: RatioProblem) -> str:
    """Return the answer for another batch size and number of microbatches."""
    unit = problem.latency.time_unit
    return (
        f"{_case(case)}: {_workers(case.best.attention_workers, problem.ffn_workers)} "
        f"({_near(case.near_equal)}), "
        f"{rate(case.best.objective, unit)} per "
        f"{cost_unit(problem.latency, problem.ffn_weight)}, "
        f"step {stated_time(case.best.step_time, unit)}; {NAMES[case.bottleneck]} binds."
    )


def _case(case: RatioCase) -> str:
    return f"B = {case.batch_size:,}, m = {case.microbatches}"


def resource_words(case: RatioCase, unit: TimeUnit) -> str:
    """Return how long each resource takes at the optimum, and which binds."""
    return (
        f"At the optimum for {_case(case)}, A/F = {number(case.optimal_ratio)}, per layer and "
        f"microbatch: {_times(case.resource_times, unit)}; {BINDS[case.bottleneck]}."
    )


def cost_words(ffn_weight: float) -> str:
    """Return what the objective is divided by."""
    formula = cost_formula(ffn_weight)
    if ffn_weight == 1:
        return f"Cost is {formula}, the number of workers: both kinds count alike."
    return f"Cost is {formula}: an FFN worker counts as {ffn_weight:.4g} attention workers."


def idle_words(case: RatioCase) -> str:
    """Return how long each side waits, and what the barrier costs."""
    best = case.best
    return (
        f"At A = {best.attention_workers:,}, {_case(case)}, the attention workers wait "
        f"{share(best.attention_idle_fraction)} of the time and the FFN "
        f"{share(best.ffn_idle_fraction)}. Waiting for the slowest of the attention workers costs "
        f"{share(case.barrier_cost)} of the throughput."
    )
