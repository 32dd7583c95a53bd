"""Pictures of the whole service: devices shared with prefill, and bundles that fail."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_prefill import prefill_workers
from afdplan.calibration.placement import place
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.failures import Failures
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.first_token import FirstTokenLimit, PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.space import SearchSpace
from afdplan.planning.traffic import service_traffic
from afdplan.simulation.failures import play_failures
from afdplan.theory.failures import bundle_failures
from drawings.canvas import BLUE, GREEN, ORANGE, RED, bundled_trace, plain_axes

DEVICES = 32


def sharing() -> Figure:
    """Return what a budget carries over the number of prefill workers, and what limits it."""
    figure, (axes,) = plain_axes(height=3.8)
    trace, hardware = bundled_trace(), find_hardware("h100")
    law = EmpiricalLengths(trace)
    placement = place(find_model("qwen3-30b-a3b"), hardware)
    source = DerivedSource(placement, (1,))
    search = DesignSearch(law, source, SearchSpace(batch_sizes=(32, 64)), DeviceCost())
    pool = PrefillPool(
        prefill_workers(placement, hardware, devices=1)[0],
        service_traffic(law, trace),
        FirstTokenLimit(time_to_first_token=1.0),
    )
    workers = np.arange(1, DEVICES - 1)
    designs = [
        search.best(Limits(devices=int(DEVICES - n), time_per_output_token=0.05)) for n in workers
    ]
    shown = [(n, d) for n, d in zip(workers, designs, strict=True) if d is not None]
    numbers = [int(n) for n, _ in shown]
    axes.plot(numbers, [pool.most_rate(n) for n in numbers], color=ORANGE, label="prefill alone")
    decode = [d.requests_per_second for _, d in shown]
    axes.plot(numbers, decode, color=BLUE, label="decoding alone, all slots busy")
    both = [pool.most_rate(n, d) for n, (_, d) in zip(numbers, shown, strict=True)]
    axes.plot(numbers, both, color=GREEN, linewidth=2.4, label="the service")
    best = int(np.argmax(both))
    axes.plot(numbers[best], both[best], "o", color=RED, markersize=7)
    axes.set(xlabel=f"prefill workers of one device, of {DEVICES} devices", xlim=(0, DEVICES),
             ylabel="requests/s", ylim=(0, 1.15 * max(decode[0], both[best])))  # fmt: skip
    axes.legend(frameon=False, fontsize=9)
    return figure


def failures() -> Figure:
    """Return the share that failures leave over the size of a bundle, formula and run."""
    figure, (axes,) = plain_axes(height=3.8)
    lost = Failures(device_mtbf=3.6e6, restart=300.0)
    sizes = np.array([8, 16, 32, 64, 128, 256])
    for mean, color in ((200, BLUE), (2000, ORANGE), (20_000, RED)):
        law = IndependentLengths(prompt="fixed:1", decode=f"geometric:{mean}")
        kept = [bundle_failures(law, 0.05, int(n), lost).share for n in sizes]
        axes.plot(sizes, kept, color=color, label=f"outputs of {mean:,} tokens on average")
        lives = np.random.default_rng(1).geometric(1 / mean, 20_000)
        for size in (16, 64, 256):
            run = play_failures(lives, 0.05, bundles=4, bundle_devices=size, slots=4,
                                failures=lost, duration=400 * 3.6e6 / size, seed=2)  # fmt: skip
            axes.plot(size, run.share, "o", color=color, markersize=5)
    axes.plot([], [], "ko", markersize=5, label="simulated")
    axes.set(xscale="log", xlabel="devices of a bundle", ylabel="share of the throughput kept")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure
