"""Does a fitted ratio sweep reproduce its points, and do its intervals cover what is true?

Systems are drawn at random: attention, an FFN line whose knee lies between 4 and 24 workers, half
of them with an exposed trip. Each is measured at 3 to 6 ratios around the knee, once without noise
(does the stored model reproduce its points?) and once with the stated one (do the intervals hold
the true step time at other ratios, within and beyond the measured ones?).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np

from afdplan.calibration.sweep import fit_sweep
from afdplan.calibration.sweep_model import sweep_latency_model
from afdplan.model.latency import LatencyModel
from afdplan.model.sampling import sample_latency
from afdplan.model.sweep import RatioSweep

LAYERS, NOISE, STORED = 60, 0.01, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A made-up system: times of one layer and microbatch [s]."""

    attention: float
    intercept: float
    slope: float
    trip: float
    microbatches: int
    batch_size: int

    def sweep(self, workers: np.ndarray) -> RatioSweep:
        """Return the exact step times at these ratios."""
        f = self.intercept + self.slope * workers * self.batch_size
        m = self.microbatches
        busy = np.maximum(m * self.attention, m * f)
        busy = np.maximum(busy, m * self.trip / 2)
        return RatioSweep(
            attention_workers=workers,
            ffn_workers=1,
            batch_size=self.batch_size,
            microbatches=m,
            mean_tokens=4096,
            step_times=LAYERS * np.maximum(busy, self.attention + f + self.trip),
        )


def random_system(generator: np.random.Generator) -> tuple[System, np.ndarray]:
    """Return a system and the ratios at which it is measured."""
    attention = float(np.exp(generator.uniform(np.log(60e-6), np.log(600e-6))))
    knee = float(np.exp(generator.uniform(np.log(4), np.log(24))))
    fixed = generator.uniform(0, 0.7) * attention
    batch = int(generator.integers(16, 129))
    trip = generator.choice([0.0, generator.uniform(0, 0.3)]) * attention
    system = System(
        attention=attention,
        intercept=float(fixed),
        slope=float((attention - fixed) / (knee * batch)),
        trip=float(trip),
        microbatches=int(generator.choice([2, 2, 3])),
        batch_size=batch,
    )
    count = int(generator.integers(3, 7))
    wanted = np.geomspace(knee / generator.uniform(1.3, 4), knee * generator.uniform(1.3, 3), count)
    workers = np.unique(np.maximum(np.rint(wanted * generator.uniform(0.9, 1.1, count)), 1))
    if workers.size < 3:
        workers = np.arange(workers[0], workers[0] + 3)
    return system, workers


def stored_times(model: LatencyModel, points: RatioSweep) -> np.ndarray:
    """Return the step times that a latency model says, by the formula of a round."""
    kind, m = model.attention[0], points.microbatches
    a = np.array(
        [kind.time(b * n, b) for b, n in zip(points.batch_size, points.mean_tokens, strict=True)]
    )
    f = np.array([model.ffn(float(n)) for n in points.ffn_tokens])
    c = np.array([model.send.time(float(b), 0.0) for b in points.batch_size])
    rounds = np.maximum(np.maximum(m * a, m * f), np.maximum(m * c, a + f + 2 * c))
    return np.asarray(model.layers * rounds + model.step_overhead)


def interval(model: LatencyModel, points: RatioSweep) -> np.ndarray:
    """Return the 95 % interval of the step times from the file's own draws, shape (2, n)."""
    drawn = sample_latency(model, np.random.default_rng(0), STORED)
    times = np.array([stored_times(draw, points) for draw in drawn])
    return np.asarray(np.quantile(times, (0.025, 0.975), axis=0, method="weibull"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Which intervals cover, and errors of the stored model, by place: see `judge`."""

    covered: dict[str, list[bool]]
    errors: dict[str, list[float]]


def drawn_system(seed: int) -> tuple[System, np.ndarray, np.random.Generator]:
    """Return a system, the ratios at which it is measured, and what draws its noise."""
    generator = np.random.default_rng([20261128, seed])
    return *random_system(generator), generator


def missed(seed: int) -> float:
    """Return the worst relative miss of a stored model at the points that it was fitted to."""
    system, workers, _ = drawn_system(seed)
    exact = system.sweep(workers)
    model = sweep_latency_model(fit_sweep(exact, layers=LAYERS), name="clean")
    return float(np.abs(stored_times(model, exact) / exact.step_times - 1).max())


def judge(seed: int) -> Judged:
    """Return which intervals cover at other ratios, and errors of the stored model there."""
    system, workers, generator = drawn_system(seed)
    exact = system.sweep(workers)
    errors = 1 + NOISE * generator.standard_normal(workers.size)
    noisy = replace(exact, step_times=exact.step_times * errors)
    model = sweep_latency_model(fit_sweep(noisy, layers=LAYERS), name="noisy")
    lowest, highest = workers.min(), workers.max()
    inside = np.setdiff1d(np.arange(lowest, highest + 1), workers)
    places = {
        "inside": inside[:: max(1, inside.size // 3)],
        "above": np.unique(np.rint(highest * np.array([1.2, 1.5, 2.0]))),
        "below": np.unique(np.maximum(np.rint(lowest * np.array([0.5, 0.8])), 1)),
    }
    covered, off = {}, {}
    for place, ratios in places.items():
        if ratios.size:
            truth = system.sweep(ratios.astype(float))
            low, high = interval(model, truth)
            covered[place] = ((low <= truth.step_times) & (truth.step_times <= high)).tolist()
            off[place] = (stored_times(model, truth) / truth.step_times - 1).tolist()
    return Judged(covered=covered, errors=off)


def main() -> None:
    """Print how often intervals cover, and the worst miss of a stored model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    count = arguments.systems // 10 if arguments.quick else arguments.systems
    found = [judge(seed) for seed in range(count)]
    misses = 100 * np.array([missed(seed) for seed in range(count)])
    print(
        f"Stored model, no noise, {count} sweeps: it misses a fitted point by "
        f"{np.median(misses):.3f} % in the median, {misses.max():.3f} % at worst"
    )
    for place in ("inside", "above", "below"):
        held = np.array([one for each in found for one in each.covered.get(place, [])])
        error = 100 * np.abs([one for each in found for one in each.errors.get(place, [])])
        print(
            f"{place:6} {held.size} ratios: {100 * held.mean():.1f} % of the 95 % intervals cover; "
            f"errors {np.median(error):.2f} % in the median, {np.quantile(error, 0.9):.2f} % in "
            f"nine of ten, {error.max():.1f} % at worst"
        )


if __name__ == "__main__":
    main()
