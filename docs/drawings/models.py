"""Pictures of latency models: derived from sizes, fitted to timings, fitted to a sweep."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from afdplan.calibration.derived_feed_forward import distinct_experts
from afdplan.calibration.derived_transfer import copies_per_token
from afdplan.calibration.robust import robust_lines
from afdplan.calibration.stage import fit_stage
from afdplan.calibration.sweep import fit_sweep
from afdplan.model.measurement import StageSamples
from afdplan.model.sweep import RatioSweep
from drawings.canvas import BLUE, GREEN, GREY, ORANGE, RED, plain_axes, titled

SOME = ((256, 8, BLUE), (128, 8, ORANGE), (8, 2, GREEN))


def experts() -> Figure:
    """Return experts that tokens touch, and devices that a token visits, with draws."""
    figure, (touched, visited) = plain_axes(2)
    generator = np.random.default_rng(1)
    tokens = np.geomspace(1, 1000, 100)
    for number, chosen, color in SOME:
        touched.plot(tokens, distinct_experts(number, chosen, tokens) / number, color=color,
                     label=f"{chosen} of {number}")  # fmt: skip
        draws = _choices(generator, 300, number, chosen)
        for count in (1, 3, 10, 30, 100, 300):
            parts = draws[: 300 // count * count].reshape(-1, count * chosen)
            seen = np.mean([np.unique(part).size for part in parts])
            touched.plot(count, seen / number, "k.", markersize=5)
        groups = np.array([g for g in (1, 2, 4, 8, 16, 32, 64, 128, 256) if g <= number])
        visited.plot(groups, [copies_per_token(number, chosen, g) for g in groups], color=color)
        many = _choices(generator, 4000, number, chosen)
        for count in groups:
            held = np.sort(many // (number // count), axis=1)
            copies = 1 + (np.diff(held, axis=1) > 0).sum(axis=1)
            visited.plot(count, copies.mean(), "k.", markersize=5)
        visited.axhline(chosen, color=color, linewidth=0.7, linestyle=":")
    touched.plot([], [], "k.", label="drawn")
    touched.set(xscale="log", ylim=(0, 1.03), xlabel="tokens n", ylabel="share of the experts read")
    touched.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    touched.xaxis.set_major_formatter(ScalarFormatter())
    titled(touched, "Experts that n tokens touch")
    touched.legend(frameon=False, fontsize=9, loc="lower right")
    visited.set(
        xscale="log", ylim=(0, 8.6), xlabel="devices or nodes G", ylabel="copies of a token"
    )
    visited.set_xticks([1, 4, 16, 64, 256])
    visited.xaxis.set_major_formatter(ScalarFormatter())
    visited.minorticks_off()
    titled(visited, "Places that one token is sent to")
    return figure


def _choices(generator: np.random.Generator, tokens: int, number: int, chosen: int) -> np.ndarray:
    """Return `chosen` different experts of each token."""
    return generator.random((tokens, number)).argpartition(chosen, axis=1)[:, :chosen]


def stage_fit() -> Figure:
    """Return a robust fit through timings of which some are wild, beside least squares."""
    figure, (line, errors) = plain_axes(2)
    generator = np.random.default_rng(4)
    loads = np.geomspace(2e4, 2e6, 40)
    times = (40e-6 + 2e-10 * loads) * (1 + 0.03 * generator.standard_normal(loads.size))
    wild = [5, 19, 33, 36]
    times[wild] *= 1 + np.array([1.5, 0.9, 0.5, 0.8])
    fit = fit_stage(StageSamples(stage="attention", loads=loads, times=times), form="linear")
    plain = np.polynomial.Polynomial.fit(loads, times, 1)
    line.plot(loads / 1e6, 1e6 * times, ".", color=GREY, markersize=5, label="timings")
    line.plot(loads[wild] / 1e6, 1e6 * times[wild], "o", color=ORANGE, fillstyle="none",
              label="wild ones")  # fmt: skip
    line.plot(loads / 1e6, 1e6 * fit.fitted, color=RED, label="robust fit")
    line.plot(loads / 1e6, 1e6 * plain(loads), "--", color=BLUE, label="least squares")
    line.plot(loads / 1e6, 40 + 200 * loads / 1e6, ":", color="black", label="the truth")
    line.set(xlabel="KV tokens of the microbatch [million]", ylabel="attention [us]", ylim=0)
    titled(line, "40 timings, 4 of them wild")
    line.legend(frameon=False, fontsize=9)

    count = 400
    loads = np.geomspace(2e4, 2e6, 20)
    design = np.column_stack([np.ones(20), loads])
    true = 40e-6 + 2e-10 * loads
    noisy = true * (1 + 0.03 * generator.standard_normal((count, 20)))
    stalls = generator.random((count, 20)) < 0.05
    noisy = np.where(stalls, noisy * (1 + generator.exponential(0.5, noisy.shape)), noisy)
    robust = robust_lines(design, noisy).coefficients[:, 1]
    relative = design / true[:, None]
    squares = np.linalg.lstsq(relative, (noisy / true).T, rcond=None)[0][1]
    bins = np.linspace(-0.1, 0.25, 50)
    for slopes, color, name in ((squares, BLUE, "least squares"), (robust, RED, "robust")):
        errors.hist(slopes / 2e-10 - 1, bins=bins, color=color, alpha=0.55, label=name)
    errors.axvline(0, color="black", linewidth=0.8, linestyle=":")
    errors.set(xlabel="error of the slope", yticks=[])
    errors.set_xticks([-0.1, 0, 0.1, 0.2], ["-10 %", "0", "+10 %", "+20 %"])
    titled(errors, f"{count} fits of 20 timings each, 5 % of them wild")
    errors.legend(frameon=False, fontsize=9)
    return figure


def sweep_fit() -> Figure:
    """Return what three ratios of a published sweep say of the others, and of the FFN line."""
    figure, (steps, line) = plain_axes(2)
    measured = {3: 32.83, 7: 33.40, 11: 38.00, 15: 44.66, 17: 48.70}
    fitted = (3, 11, 17)
    fit = fit_sweep(_published(fitted, [measured[a] for a in fitted]), layers=94)
    ratios = np.arange(1, 21)
    found = fit.predict(_published(ratios, np.ones(ratios.size)))
    steps.fill_between(ratios, [1e3 * f.low for f in found], [1e3 * f.high for f in found],
                       color=RED, alpha=0.15, linewidth=0, label="95 % of the draws")  # fmt: skip
    steps.plot(ratios, [1e3 * f.value for f in found], color=RED, label="mean")
    steps.plot(fitted, [measured[a] for a in fitted], "ko", markersize=5, label="fitted")
    steps.plot((7, 15), [measured[a] for a in (7, 15)], "ko", fillstyle="none", markersize=5,
               label="held back")  # fmt: skip
    steps.set(xlabel="A : 1", ylabel="step time [ms]", ylim=0, xticks=(1, 5, 10, 15, 20))
    titled(steps, "FastAFD's sweep from three of its ratios")
    steps.legend(frameon=False, fontsize=9, loc="lower right")

    low = fit_sweep(_published((3, 11), [measured[3], measured[11]]), layers=94)
    for draws, color, name in (
        (low.draws, GREY, "two ratios: only bounded"),
        (fit.draws, RED, "three ratios"),
    ):
        line.plot(1e6 * draws[::3, 2], 1e9 * draws[::3, 3], ".", color=color, markersize=1.5,
                  rasterized=True)  # fmt: skip
        line.plot([], [], "o", color=color, markersize=5, label=name)
    line.set(xlabel="FFN intercept [us]", ylabel="FFN slope [ns per token]", xlim=0, ylim=0)
    titled(line, "Draws of the FFN line")
    line.legend(frameon=False, fontsize=9)
    return figure


def _published(ratios: object, milliseconds: object) -> RatioSweep:
    return RatioSweep(
        attention_workers=np.asarray(ratios, dtype=float),
        ffn_workers=1,
        batch_size=48,
        microbatches=2,
        mean_tokens=8192,
        step_times=np.asarray(milliseconds, dtype=float) * 1e-3,
    )
