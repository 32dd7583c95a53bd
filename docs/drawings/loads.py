"""Pictures of what requests do to memory and queues, and of how sure their load is."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.waiting import spare_capacity
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario
from afdplan.statistics.bootstrap import block_counts, block_error
from afdplan.theory.worker_load import convolve_slots
from afdplan.workload.drift import describe_drift
from afdplan.workload.interval import request_loads, token_load_estimate
from drawings.canvas import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    bundled_trace,
    plain_axes,
    titled,
)


def memory() -> Figure:
    """Return the law of the KV memory of S slots, and the chance that it overflows over S."""
    figure, (laws, chance) = plain_axes(2)
    law = EmpiricalLengths(bundled_trace())
    space = CacheSpace.tokens(1.0e6)
    slot = law.slot_load()
    for slots, color in ((260, GREY), (320, BLUE), (380, ORANGE)):
        load = convolve_slots(slot, slots)
        step = max(load.probabilities.size // 400, 1)
        density = load.probabilities[::step] / load.spacing
        support = load.support[::step] / 1e6
        shown = density > density.max() * 1e-4
        laws.plot(support[shown], density[shown], color=color, label=f"S = {slots}")
        over = shown & (support > 1.0)
        laws.fill_between(support[over], density[over], color=color, alpha=0.4, linewidth=0)
    laws.axvline(1.0, color=RED, linewidth=1)
    top = 1.3 * laws.get_ylim()[1]
    laws.annotate("room", (1.0, top), (4, -10), textcoords="offset points", color=RED, fontsize=9)
    laws.set(xlabel="KV tokens of a worker [million]", yticks=[], ylim=(0, top), xlim=(0.4, 1.5))
    titled(laws, "Memory of S slots, bundled trace")
    laws.legend(frameon=False, fontsize=9, loc="upper left")

    known = CacheMemory(CacheSums(law, space.kinds), space)
    counts = np.arange(240, 401, 4)
    chance.plot(counts, [known.overflow_probability(int(s)) for s in counts], color=RED,
                label="exact")  # fmt: skip
    moments = slot.moments
    from scipy.special import ndtr

    normal = ndtr((counts * moments.mean - 1e6) / (moments.std * np.sqrt(counts)))
    chance.plot(counts, normal, "--", color=BLUE, label="normal law")
    generator = np.random.default_rng(3)
    for slots in (280, 300, 320, 340, 360, 380):
        found = law.sample_stationary(generator, 20_000 * slots)
        held = (found.prompt_tokens + found.age).reshape(20_000, slots).sum(axis=1)
        over = np.mean(held > 1e6)
        error = 1.96 * np.sqrt(over * (1 - over) / 20_000)
        chance.errorbar(slots, over, error, fmt="k.", capsize=3)
    chance.errorbar([], [], [], fmt="k.", capsize=3, label="20,000 drawn workers")
    chance.axhline(1e-3, color=GREY, linestyle=":")
    chance.annotate("--overflow 0.001", (402, 1e-3), (0, 4), textcoords="offset points",
                    color="0.3", fontsize=9, ha="right")  # fmt: skip
    chance.set(
        yscale="log", ylim=(2e-5, 1.5), xlabel="request slots S", ylabel="overflow probability"
    )
    titled(chance, "Chance that S slots need more than the room")
    chance.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def interval() -> Figure:
    """Return the standard error over the number of blocks, and the load by windows."""
    figure, (errors, windows) = plain_axes(2)
    trace = bundled_trace()
    mixed = np.random.default_rng(2).permutation(trace.requests)
    shuffled = Trace(
        prompt_tokens=trace.prompt_tokens[mixed], decode_tokens=trace.decode_tokens[mixed]
    )
    for one, color, name in ((trace, RED, "in its order"), (shuffled, BLUE, "shuffled")):
        sums = request_loads(one), one.decode_tokens
        counts = block_counts(one.requests)
        found = [block_error(*sums, count, one.session_ids) for count in counts]
        errors.plot(counts, found, "o-", color=color, markersize=4, label=name)
        at = int(np.argmax(found))
        errors.plot(counts[at], found[at], "o", color=color, markersize=10, fillstyle="none")
    single = block_error(*(request_loads(trace), trace.decode_tokens), trace.requests)
    errors.axhline(single, color=GREY, linestyle=":", label="as if independent")
    errors.set(xscale="log", xlabel="blocks K (fewer: longer)", ylabel="standard error [tokens]",
               ylim=(0, 100))  # fmt: skip
    errors.set_xticks([16, 32, 64, 128, 256, 512], ["16", "32", "64", "128", "256", "512"])
    errors.minorticks_off()
    errors.invert_xaxis()
    titled(errors, "Bundled trace: the largest is taken")
    errors.legend(frameon=False, fontsize=9, loc="lower left")

    overall = token_load_estimate(trace)
    drift = describe_drift(trace, overall, by_time=True)
    for one in drift.windows:
        middle = (one.start + one.end) / 2 / 60
        load = one.token_load
        windows.errorbar(middle, load.value, [[load.value - load.low], [load.high - load.value]],
                         fmt="o", color=BLUE, capsize=3, markersize=4)  # fmt: skip
    windows.axhspan(overall.low, overall.high, color=RED, alpha=0.12, linewidth=0)
    windows.axhline(overall.value, color=RED, linewidth=1)
    windows.set(xlabel="minutes", ylabel="mean token load", ylim=(0, 6000))
    told = f"beyond noise: {drift.std:,.0f} tokens, p = {drift.probability:.2g}"
    windows.annotate(told, (0.03, 0.05), xycoords="axes fraction", fontsize=9, color="0.3")
    titled(windows, "By windows of time, each with its interval")
    return figure


def waiting() -> Figure:
    """Return the wait for a slot over utilization: replayed by the planner, and simulated."""
    figure, (axes,) = plain_axes(height=3.8)
    trace, latency, design = _busy_design()
    law = EmpiricalLengths(trace)
    space = SearchSpace(
        batch_sizes=(design.batch_size,),
        microbatches=(design.microbatches,),
        max_attention_workers=design.attention_workers,
        ffn_workers=(1,),
    )
    plan = make_plan(
        law, MeasuredSource(latency), Limits(devices=design.devices), space=space
    ).split
    assert plan.design == design, plan.design
    shares = np.linspace(0.3, 0.98, 35)
    replayed = [spare_capacity(plan, trace, float(plan.requests_per_second * u)) for u in shares]
    for name, color, text in (("mean", BLUE, "mean"), ("p99", RED, "99th percentile")):
        axes.plot(shares, [max(getattr(one, f"waiting_{name}"), 1e-4) for one in replayed],
                  color=color, label=f"{text}, replayed")  # fmt: skip
    for share in (0.5, 0.7, 0.8, 0.9, 0.95):
        scenario = Scenario(
            bundle=Bundle(attention_workers=design.attention_workers, batch_size=design.batch_size,
                          microbatches=design.microbatches),
            latency=latency, lengths=trace, start="fresh", window="all",
            requests_per_worker=trace.requests // design.attention_workers - 200,
            arrivals=Arrivals(process="trace", rate=plan.requests_per_second * share),
        )  # fmt: skip
        found = simulate(scenario).waiting_time
        axes.plot(share, found.mean.value, "o", color=BLUE, markersize=5)
        axes.plot(share, found.p99.value, "o", color=RED, markersize=5)
    axes.plot([], [], "ko", markersize=5, label="simulated")
    axes.set(yscale="log", ylim=(1e-2, 300), xlabel="arrivals over capacity",
             ylabel="wait for a slot [s]")  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _busy_design() -> tuple[Trace, LatencyModel, Design]:
    latency = LatencyModel.linear(
        attention=(2e-10, 4e-5), ffn=(2e-8, 9e-5), transfer=(3e-8, 1.5e-5), layers=61,
        time_unit="s",
    )  # fmt: skip
    design = Design(bundles=1, attention_workers=4, ffn_workers=1, batch_size=16, microbatches=2)
    return bundled_trace(), latency, design
