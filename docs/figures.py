"""Draw the pictures of the theory pages from the library: python docs/figures.py [NAME ...]."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drawings import loads, models, modes, placements, plans, rounds, service, steps, uneven
from drawings.canvas import (
    BASELINE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAPER,
    RED,
    add_simulated,
    cycle_model,
    plain_axes,
)
from matplotlib.figure import Figure

from afdplan.files.atomic import write_atomic
from afdplan.files.traces.example import example_trace_path
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.plotting.picture import draw_figures, picture_bytes
from afdplan.plotting.pipeline_figure import pipeline_figure
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import record_timeline
from afdplan.theory.transient import horizon_mean_load, renewal_chances
from afdplan.theory.validity import short_life_error
from afdplan.theory.worker_load import convolve_slots

FOLDER = Path(__file__).parent / "figures"


def token_load() -> Figure:
    """Return the life of a slot, and the law of its load on the bundled trace."""
    trace = read_trace(example_trace_path())
    figure, (life, law) = plain_axes(2)
    start = 0
    for prompt, decode in list(zip(trace.prompt_tokens, trace.decode_tokens, strict=True))[12:20]:
        steps, held = (start, start + decode), (prompt, prompt + decode)
        life.plot(steps, held, color=BLUE)
        life.fill_between(steps, held, color=BLUE, alpha=0.12, linewidth=0)
        start += decode
    life.set(xlabel="decode step", ylabel="KV tokens in the slot", ylim=0)
    life.set_title("Eight requests in one slot, one after another", loc="left", fontsize=10)

    lengths = EmpiricalLengths(trace)
    slot, moments = lengths.slot_load().binned(60), lengths.token_load()
    shown = slot.support < 6000
    law.plot(slot.support[shown], slot.probabilities[shown] / slot.spacing, color=BLUE)
    law.fill_between(
        slot.support[shown], slot.probabilities[shown] / slot.spacing, color=BLUE, alpha=0.12
    )
    shortcut = lengths.mean_prompt_tokens + lengths.mean_decode_tokens - 1
    top = float(slot.probabilities.max() / slot.spacing)
    for value, color, style, name in (
        (moments.mean, RED, "-", "mean load"),
        (shortcut, ORANGE, "--", "mean P + mean D - 1"),
    ):
        law.axvline(value, color=color, linestyle=style, label=f"{name} = {value:,.0f}")
    law.set(xlabel="KV tokens in the slot", yticks=[], ylim=(0, 1.1 * top))
    law.set_title("Share of time at each load, 20,000 requests", loc="left", fontsize=10)
    law.legend(frameon=False, fontsize=9)
    return figure


def barrier() -> Figure:
    """Return the law of one worker's time and of the slowest of several, exact and Gaussian."""
    skewed = EmpiricalLengths(read_trace(example_trace_path()))
    figure, (laws, means) = plain_axes(2)
    load = convolve_slots(skewed.slot_load(), 64)
    step = max(load.probabilities.size // 500, 1)
    cumulative = np.minimum(np.cumsum(load.probabilities), 1.0)[::step]
    support = load.support[::step] / 1000
    for workers, color in ((1, GREY), (4, GREEN), (16, BLUE), (64, RED)):
        density = np.gradient(cumulative**workers, support)
        shown = density > density.max() * 2e-3
        laws.plot(support[shown], density[shown], color=color, label=f"A = {workers}")
    laws.set(xlabel="largest load of A workers [1,000 KV tokens]", yticks=[], ylim=0)
    laws.set_title("The slowest of A workers", loc="left", fontsize=10)
    laws.legend(frameon=False, fontsize=9)

    counts = np.arange(1.0, 65.0)
    latency = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.0, 1.0))
    for method, style, color in (
        ("exact", "-", RED),
        ("gaussian", "--", BLUE),
        ("mean-field", ":", GREY),
    ):
        model = cycle_model(skewed, latency=latency, batch_size=64, overlap="ideal", method=method)
        means.plot(counts, model.evaluate(counts).cycle, style, color=color, label=method)
    means.set(xlabel="attention workers A", ylabel="E[slowest attention]", ylim=0)
    means.set_title("What the barrier costs, bundled trace, B = 64", loc="left", fontsize=10)
    means.legend(frameon=False, fontsize=9)
    return figure


def pipeline() -> Figure:
    """Return the mean cycle over A between the four things that bound it."""
    figure, (axes,) = plain_axes(height=3.8)
    counts = np.array([1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0])
    model = cycle_model(BASELINE)
    found = [model.resources(count) for count in counts]
    for name, color, style, text in (
        ("attention", BLUE, "--", "slowest attention worker, its m microbatches"),
        ("ffn", ORANGE, "-.", "FFN"),
        ("latency", GREEN, ":", "trip of one microbatch / m"),
        ("communication", GREY, (0, (1, 3)), "link"),
    ):
        axes.plot(counts, [one[name] for one in found], linestyle=style, color=color, label=text)
    axes.plot(counts, model.evaluate(counts).cycle, color=RED, linewidth=2, label="E[cycle]")
    add_simulated(axes, (2, 4, 6, 8, 10, 12, 16, 20), "cycle_time")
    axes.set(xlabel="attention workers A", ylabel="cycle time [abstract]", ylim=0)
    axes.legend(frameon=False, fontsize=9, ncols=2)
    return figure


def pipeline_timeline() -> Figure:
    """Return a few steps of two microbatches in flight, from the simulator."""
    scenario = Scenario(
        bundle=Bundle(attention_workers=4, batch_size=64),
        latency=LatencyModel.linear(attention=(0.006, 20.0), ffn=(0.4, 60.0), transfer=(0.1, 12.0)),
        lengths=BASELINE,
    )
    figure = pipeline_figure(record_timeline(scenario, steps=4))
    return draw_figures([figure], "Two microbatches, four attention workers")


def optimum() -> Figure:
    """Return the objective over A by each method on the paper's baseline, with simulations."""
    figure, (axes,) = plain_axes(height=4.2)
    counts = np.arange(1.0, 33.0)
    lines = (
        ("mean field, ideal overlap (the paper)", GREY, "--", "ideal", "mean-field", (0, 7)),
        ("exact barrier, ideal overlap", GREEN, "-.", "ideal", "exact", (10, 3)),
        ("pipelined, two microbatches", RED, "-", "pipelined", "exact", (0, -16)),
    )
    for name, color, style, overlap, method, offset in lines:
        model = cycle_model(BASELINE, overlap=overlap, method=method)
        value = model.objective(counts, model.evaluate(counts).mean, 1.0)
        axes.plot(counts, value, style, color=color, label=name)
        best = int(value.argmax())
        axes.plot(counts[best], value[best], "o", color=color, markersize=7)
        axes.annotate(f"{best + 1}", (counts[best], value[best]), offset,
                      textcoords="offset points", ha="center", color=color, fontsize=9)  # fmt: skip
    add_simulated(axes, (1, 2, 4, 6, 7, 8, 10, 12, 16, 20, 24, 32), "throughput_per_instance")
    axes.set(xlabel="attention workers A for one FFN worker", ylim=0)
    axes.set_ylabel("tokens per time and instance")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def transient() -> Figure:
    """Return the mean load of a slot after a fresh start, and its average over a horizon."""
    figure, (axes,) = plain_axes()
    steps = np.arange(4000)
    for law, color, name in (
        (BASELINE, BLUE, "geometric outputs, mean 500"),
        (IndependentLengths(prompt="geometric:100", decode="uniform:400..600"), ORANGE,
         "outputs 400 to 600"),
        (IndependentLengths(prompt="geometric:100", decode="lognormal:mean=500,cv=1.5"), GREEN,
         "lognormal outputs, mean 500, cv 1.5"),
    ):  # fmt: skip
        alive, prompts = law.survival()
        chances = renewal_chances(np.append(0.0, alive - np.append(alive[1:], 0.0)), steps.size)
        chances = np.append(chances, np.full(steps.size - chances.size, 1 / law.mean_decode_tokens))
        held = prompts + np.arange(alive.size) * alive
        load = np.convolve(chances, held[: steps.size])[: steps.size]
        axes.plot(steps[::8], load[::8], color=color, label=name)
        axes.axhline(law.token_load().mean, color=color, linewidth=0.8, linestyle=":")
        horizons = np.unique(np.geomspace(4, steps.size * 256 / 500, 24).astype(int))
        ends = horizons * 500 / 256
        average = [horizon_mean_load(law, int(n), 256) for n in horizons]
        axes.plot(ends, average, color=color, linestyle="--", linewidth=1)
    axes.plot([], [], color=GREY, linestyle="--", label="average since the start")
    axes.plot([], [], color=GREY, linestyle=":", label="stationary mean")
    axes.set(xlabel="steps since a fresh start", ylabel="mean KV tokens of a slot", ylim=0)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right")
    return figure


def constant_lengths() -> Figure:
    """Return cycle times of equal requests: aligned ages, random ages, and simulations."""
    figure, (axes,) = plain_axes()
    law = IndependentLengths(prompt="200", decode="400")
    counts = np.arange(1.0, 25.0)
    for phase, color, style in (("aligned", ORANGE, "--"), ("random", RED, "-")):
        model = cycle_model(law, phase=phase)
        axes.plot(counts, model.objective(counts, model.evaluate(counts).mean, 1.0), style,
                  color=color, label=f"theory, phase {phase}")  # fmt: skip
    for start, color, name in (("fresh", ORANGE, "all start together"),
                               ("stationary", RED, "random ages, 10 seeds")):  # fmt: skip
        for seed in range(10 if start == "stationary" else 1):
            points = []
            for count in (2, 4, 6, 8, 10, 12, 16, 20, 24):
                scenario = Scenario(
                    bundle=Bundle(attention_workers=count, batch_size=256), latency=PAPER,
                    lengths=law, requests_per_worker=2560, seed=seed, start=start, window="all",
                    replications=2,
                )  # fmt: skip
                points.append((count, simulate(scenario).throughput_per_instance.value))
            axes.plot(*zip(*points, strict=True), ".", color=color, markersize=7,
                      label=f"simulated, {name}" if seed == 0 else None)  # fmt: skip
    axes.set(xlabel="attention workers A for one FFN worker", ylim=0)
    axes.set_ylabel("tokens per time and instance")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def validity() -> Figure:
    """Return the error of the cycle time against simulation over the rounds a request lives."""
    figure, (axes,) = plain_axes(height=3.8)
    rounds = np.geomspace(1, 1000, 60)
    bound = 100 * np.array([short_life_error(one) for one in rounds])
    axes.fill_between(rounds, -bound, bound, color="0.92", label="stated error")
    axes.axvline(200, color=GREY, linestyle=":")
    axes.annotate("declared: 1 %", (200, 8), (6, 0), textcoords="offset points", fontsize=9)
    for decode, marker, color in (
        ("geometric:{}", "o", BLUE),
        ("lognormal:mean={},cv=1", "^", GREEN),
        ("uniform:1..{}", "s", ORANGE),
    ):
        for microbatches in (2, 3):
            points = []
            for mean in (1.5, 3, 6, 12, 25, 50, 100, 200, 400):
                size = round(2 * mean) - 1 if decode.startswith("uniform") else mean
                points.append(_error(decode.format(size), microbatches))
            name = f"{decode.partition(':')[0]}, m = {microbatches}"
            axes.plot(*zip(*points, strict=True), marker, color=color, markersize=5, label=name,
                      fillstyle="none" if microbatches == 3 else "full")  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xscale="log", xlabel="rounds in the life of a request, L E[D]")
    axes.set_ylabel("theory / simulation - 1  [%]")
    axes.legend(frameon=False, fontsize=9, ncols=2)
    return figure


def _error(decode: str, microbatches: int) -> tuple[float, float]:
    """Return rounds of life, and the error of E[cycle] in percent, where the sides balance."""
    law = IndependentLengths(prompt="geometric:500", decode=decode)
    workers, batch = 8, 32
    load = batch * law.token_load().mean
    latency = LatencyModel.linear(
        attention=(150 / load, 20.0), ffn=(120 / (workers * batch), 50.0), transfer=(0.0, 15.0)
    )
    bundle = Bundle(attention_workers=workers, batch_size=batch, microbatches=microbatches)
    scenario = Scenario(
        bundle=bundle, latency=latency, lengths=law, requests_per_worker=20_000, precision=0.003
    )
    found = simulate(scenario).cycle_time.value
    model = cycle_model(law, latency=latency, batch_size=batch, microbatches=microbatches)
    stated = float(model.evaluate(np.array([float(workers)])).cycle[0])
    return law.mean_decode_tokens, 100 * (stated / found - 1)


FIGURES: dict[str, Callable[[], Figure]] = {
    "token-load": token_load,
    "barrier": barrier,
    "pipeline": pipeline,
    "pipeline-timeline": pipeline_timeline,
    "barrier-free-timeline": modes.timelines,
    "optimum": optimum,
    "transient": transient,
    "constant-lengths": constant_lengths,
    "moving-loads": rounds.moving_loads,
    "placement": placements.placement,
    "validity": validity,
    "idle": steps.idle,
    "drain": steps.drain,
    "tokens-per-step": steps.tokens_per_step,
    "memory": loads.memory,
    "interval": loads.interval,
    "waiting": loads.waiting,
    "colocated": plans.colocated,
    "search": plans.search,
    "prices": plans.prices,
    "reprovisioning": plans.reprovisioning,
    "service": service.sharing,
    "failures": service.failures,
    "experts": models.experts,
    "busiest-rank": uneven.busiest_rank,
    "coupling": uneven.coupling,
    "fresh-times": uneven.fresh_times,
    "stage-fit": models.stage_fit,
    "sweep-fit": models.sweep_fit,
}


def main(names: list[str]) -> None:
    """Draw the figures named, or all."""
    for name in names or FIGURES:
        write_atomic(FOLDER / f"{name}.svg", picture_bytes(FIGURES[name](), "svg"))
        print(f"docs/figures/{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
