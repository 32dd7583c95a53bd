"""Pictures of plans: the un-split baseline, bounds, what limits cost, when to re-provision."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from afdplan.calibration.derived import derived_model
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.trace import Trace
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits
from afdplan.planning.plan import Plan, make_plan
from afdplan.planning.reprovisioning import WindowCurve, compare_fixed
from afdplan.planning.source import MeasuredSource
from afdplan.planning.step_models import StepModels
from afdplan.studies.windows import WindowRule, cut
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import StageTimes
from afdplan.workload.interval import token_load_estimate
from drawings.canvas import (
    BASELINE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAPER,
    RED,
    bundled_trace,
    plain_axes,
    titled,
)


@cache
def example_plan() -> Plan:
    """Return the plan of the tutorial: 64 H200, 100 ms per output token, the bundled trace."""
    trace = bundled_trace()
    source = DerivedSource(derived_model("deepseek-v3", "h200").placement)
    limits = Limits(devices=64, time_per_output_token=0.1)
    return make_plan(
        EmpiricalLengths(trace), source, limits, trace=trace, token_load=token_load_estimate(trace)
    )


def colocated() -> Figure:
    """Return the baseline over its width, and its two rounds beside a played rank."""
    figure, (widths, rounds) = plain_axes(2)
    plan = example_plan()
    x = [one.ranks * one.devices_per_rank for one in plan.colocated]
    y = [one.tokens_per_second_per_device for one in plan.colocated]
    widths.plot(x, y, "o-", color=BLUE)
    for one, at, value in zip(plan.colocated, x, y, strict=True):
        name = "overlap" if one.two_batch_overlap else "one batch"
        offset, side = ((7, -5), "left") if value < 0.8 * max(y) else ((0, 7), "center")
        widths.annotate(f"{name}, {one.requests_per_rank}", (at, value), offset, ha=side,
                        textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
    split = plan.split.tokens_per_second_per_device
    widths.axhline(split, color=RED, linestyle="--")
    widths.annotate("best split", (x[0], split), (-22, 5), textcoords="offset points", color=RED,
                    fontsize=9)  # fmt: skip
    widths.set(xscale="log", ylim=(0, 1.15 * max([*y, split])), xlabel="width [devices]",
               xlim=(x[0] / 1.6, x[-1] * 1.6), ylabel="tokens/s per device")  # fmt: skip
    widths.set_xticks(x)
    widths.minorticks_off()
    widths.xaxis.set_major_formatter(ScalarFormatter())
    titled(widths, "DeepSeek-V3 on 64 H200, 100 ms per token")

    attention, ffn = 1.0, 0.8
    stages = np.linspace(0, 2, 81)
    one = attention + ffn + 1.5 * stages
    both = attention + ffn + np.maximum(attention, stages) + np.maximum(ffn, stages)
    rounds.plot(stages, one, color=GREY, label="one batch")
    rounds.plot(stages, both / 2, color=BLUE, label="overlap")
    some = stages[::8]
    played = [played_round(attention, ffn, c / 2, c) / 2 for c in some]
    rounds.plot(some, played, "k.", markersize=6, label="overlap, played")
    rounds.axvline(min(attention, ffn), ymax=0.6, color=GREY, linestyle=":")
    rounds.annotate("shorter stage", (min(attention, ffn), 0.1), (4, 0),
                    textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
    rounds.set(xlabel="combine; dispatch takes half of it", ylabel="round per batch", ylim=0)
    titled(rounds, "Constant loads: attention 1, FFN 0.8")
    rounds.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def played_round(attention: float, ffn: float, out_time: float, back_time: float) -> float:
    """Return the long-run round of a rank that computes A1 A2 F1 F2 in turn, transfers aside."""
    clock = out = back = 0.0
    layers = 60
    ready = [0.0, 0.0]
    ends = []
    for _ in range(layers):
        arrived = []
        for half in (0, 1):
            clock = max(clock, ready[half]) + attention
            out = max(out, clock) + out_time
            arrived.append(out)
        for half in (0, 1):
            clock = max(clock, arrived[half]) + ffn
            back = max(back, clock) + back_time
            ready[half] = back
        ends.append(clock)
    return (ends[-1] - ends[layers // 2]) / (layers - 1 - layers // 2)


def search() -> Figure:
    """Return the exact step over A with its three lower bounds."""
    figure, (axes,) = plain_axes(height=3.8)
    source = MeasuredSource(PAPER)
    models = StepModels(BASELINE, source)
    combination, workers = Combination(1, 2, 256), np.arange(1, 25)
    ffn = np.ones(workers.size, dtype=int)
    exact = models.evaluate(combination, workers, ffn).mean
    stages = models.times.stages(workers, ffn, combination[2])
    tight = models.tight_bounds(combination, stages, Limits(devices=64))[0]
    latency = source.latency(1, 1, combination[2])
    nothing = np.zeros(workers.size)
    alone = StageTimes(attention_workers=workers * 1.0, ffn=nothing, out=nothing, back=nothing)
    attention = models.model(combination).evaluate_stages(alone).mean - latency.step_overhead
    layers, m = latency.layers, combination[1]
    trip = attention / m + layers * (stages.ffn + stages.out + stages.back)
    for times, color, style, name in (
        (attention, BLUE, "--", "S(A): attention alone, barrier included"),
        (layers * m * stages.ffn, ORANGE, "-.", "L m f: the FFN alone"),
        (trip, GREEN, ":", "S(A)/m + L (f + c): the trip alone"),
    ):
        axes.plot(workers, times + latency.step_overhead, style, color=color, label=name)
    axes.plot(workers, tight, color=GREY, linewidth=5, alpha=0.4,
              label="the bound that the search uses")  # fmt: skip
    axes.plot(workers, exact, color=RED, linewidth=2, label="the exact law's mean")
    axes.set(xlabel="attention workers A for one FFN worker", ylabel="step time [abstract]", ylim=0)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def prices() -> Figure:
    """Return what relaxing each limit brings, and what ten percent of each input does."""
    figure, (limits, inputs) = plain_axes(2, width=9.0, height=3.6)
    plan = example_plan()
    names = [price.relaxation for price in plan.binding][::-1]
    gains = [100 * price.gain for price in plan.binding][::-1]
    limits.barh(names, gains, color=[BLUE if gain > 0.1 else "0.8" for gain in gains])
    for row, gain in enumerate(gains):
        text = f"{gain:+.1f} %" if gain > 0.05 else "0"
        limits.annotate(text, (max(gain, 0), row), (3, -3), textcoords="offset points", fontsize=8)
    limits.set(xlabel="gain of tokens per cost [%]", xlim=(0, 1.25 * max(*gains, 1)))
    limits.tick_params(axis="y", labelsize=8)
    titled(limits, "A limit relaxed, all planned again")

    ten = [one for one in plan.sensitivity if abs(one.change - 0.1) < 1e-9][::-1]
    inputs.barh([one.input for one in ten], [100 * one.throughput_change for one in ten],
                color=ORANGE)  # fmt: skip
    inputs.set(xlabel="change of tokens/s [%]")
    inputs.tick_params(axis="y", labelsize=8)
    titled(inputs, "An input 10 % larger, plan kept")
    return figure


def reprovisioning() -> Figure:
    """Return the best A by windows of the bundled trace, and the cost of each fixed one."""
    figure, (follow, cost) = plain_axes(2)
    trace = bundled_trace()
    curves, starts = [], []
    for window in cut(trace, WindowRule(requests=1000)):
        part = slice(window.first, window.last)
        law = EmpiricalLengths(
            Trace(prompt_tokens=trace.prompt_tokens[part], decode_tokens=trace.decode_tokens[part])
        )
        problem = RatioProblem(law=law, latency=PAPER, batch_size=64)
        model = CycleModel(problem, problem.slot_loads())
        counts = np.arange(1.0, 49.0)
        value = model.objective(counts, model.evaluate(counts).mean, 1.0)
        curves.append(
            WindowCurve(
                number=window.number,
                start=window.start,
                output_tokens=float(trace.decode_tokens[part].sum()),
                objective={int(a): float(x) for a, x in zip(counts, value, strict=True)},
            )
        )
        starts.append((window.start or 0.0) / 60)
    answer = compare_fixed(curves)
    fixed = answer.best_fixed.attention_workers
    follow.step([*starts, starts[-1] + 5], [*answer.adaptive, answer.adaptive[-1]], where="post",
                color=BLUE, label="best of each window")  # fmt: skip
    follow.axhline(fixed, color=RED, linestyle="--", label=f"best fixed: {fixed}")
    follow.set(xlabel="minutes", ylabel="attention workers A", ylim=0)
    titled(follow, "20 windows of the bundled trace, B = 64")
    follow.legend(frameon=False, fontsize=9, loc="lower right")
    numbers = [one.attention_workers for one in answer.fixed]
    cost.plot(
        numbers,
        [one.total_regret for one in answer.fixed],
        color=RED,
        label="device time, all windows",
    )
    cost.plot(numbers, [one.worst_regret for one in answer.fixed], ":", color=GREY,
              label="throughput, worst window")  # fmt: skip
    cost.plot(fixed, answer.best_fixed.total_regret, "o", color=RED)
    cost.annotate(f"{100 * answer.best_fixed.total_regret:.1f} %",
                  (fixed, answer.best_fixed.total_regret), (0, 7), textcoords="offset points",
                  ha="center", color=RED, fontsize=9)  # fmt: skip
    cost.set(xlabel="A kept all the time", ylabel="lost against following", ylim=(0, 0.3))
    cost.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    titled(cost, "What one A for all windows costs")
    cost.legend(frameon=False, fontsize=9)
    return figure
