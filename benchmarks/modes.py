"""With or without the barrier: is the theory right, and which pays?

Run: python -m benchmarks.modes [--quick] [--traces FOLDER]. Random bundles by theory and by
simulation; of a folder of traces instead the best bundle of each mode at equal request slots
per worker, simulated (published coefficients).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from afdplan.errors import InsufficientDataError
from afdplan.files.latency_file import load_latency
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.result import SimulationResult
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend

SLOTS = 128
STEPS = 40_000
PRECISION = 0.01


def random_error(generator: np.random.Generator) -> tuple[float, str]:
    """Return theory over simulation, less 1, of one random bundle, and what it was."""
    workers = int(generator.choice([2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]))
    m, batch = int(generator.choice([1, 2, 3])), int(generator.choice([16, 64, 256]))
    layers, mean = int(generator.choice([1, 1, 4])), int(generator.choice([200, 300, 500]))
    decode = str(
        generator.choice(
            [f"geometric:{mean}", f"uniform:1..{2 * mean}", f"lognormal:mean={mean},cv=1.3"]
        )
    )
    law = IndependentLengths(prompt=f"geometric:{generator.choice([100, 1000])}", decode=decode)
    floor, share = generator.choice([0.0, 0.2, 0.5, 0.8]), generator.choice([0.5, 1.0, 2.0])
    slope = 100 * generator.choice([0.5, 0.9]) / (batch * law.token_load().mean)
    latency = LatencyModel.linear(
        attention=(slope, 100 - slope * batch * law.token_load().mean),
        ffn=((1 - floor) * share * 100 / (batch * workers), floor * share * 100),
        transfer=(0.0, float(generator.choice([0.0, 5.0, 20.0]))),
        layers=layers,
        step_overhead=float(generator.choice([0.0, 0.0, 50.0])),
    )
    calls = int(generator.integers(1, workers * m + 1))
    rules: list[dict[str, float | int]] = [{}, {"least_calls": calls}]
    rules += [{"least_calls": calls, "longest_wait": 20.0}, {"most_tokens": calls * batch}]
    rule = rules[int(generator.integers(len(rules)))]
    problem = RatioProblem(
        law=law,
        latency=latency,
        batch_size=batch,
        microbatches=m,
        execution="barrier-free",
        **rule,  # type: ignore[arg-type]
    )
    model = BarrierFreeModel(problem, problem.slot_loads())
    step = float(model.evaluate(np.array([float(workers)])).mean[0])
    engine = Engine(
        Scenario(
            bundle=Bundle(attention_workers=workers, batch_size=batch, microbatches=m),
            latency=latency,
            lengths=law,
            execution="barrier-free",
            **rule,  # type: ignore[arg-type]
        )
    )
    n, x = engine.state.integers, engine.state.floats
    engine.run(stop_step=STEPS // 20)
    done, clock = int(n[ix.CELL_STEPS]), float(x[ix.CLOCK])
    engine.run(stop_step=STEPS // 20 + STEPS)
    seen = workers * m * (float(x[ix.CLOCK]) - clock) / (int(n[ix.CELL_STEPS]) - done)
    what = f"A = {workers}, m = {m}, B = {batch}, L = {layers}, {decode}, floor {floor:.0%}, {rule}"
    return seen / step - 1, what


def errors(count: int) -> None:
    """Print how far the theory is from simulation."""
    generator = np.random.default_rng(17)
    found = [random_error(generator) for _ in range(count)]
    size = np.abs([error for error, _ in found])
    print(f"{count} random bundles: median {np.median(size):.2%}, p90 {np.quantile(size, 0.9):.2%}")
    for error, what in sorted(found, key=lambda one: -abs(one[0]))[:5]:
        print(f"  {error:+.2%}  {what}")


def speed() -> None:
    """Print requests per second of the simulator, and how long the curve of a ratio takes."""
    law = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    latency = LatencyModel.linear(attention=(0.00165, 50), ffn=(0.083, 100), transfer=(0.022, 20))
    for m in (1, 2):
        engine = Engine(
            Scenario(
                bundle=Bundle(attention_workers=8, batch_size=256, microbatches=m),
                latency=latency,
                lengths=law,
                execution="barrier-free",
            )
        )
        engine.run(stop_completed=100_000)
        best = 0.0
        for part in range(1, 6):
            began = time.process_time()
            engine.run(stop_completed=100_000 + 400_000 * part)
            best = max(best, 400_000 / (time.process_time() - began))
        print(f"m = {m}: {best:,.0f} requests/s on one core")
        problem = RatioProblem(
            law=law, latency=latency, batch_size=256, microbatches=m, execution="barrier-free"
        )
        began = time.process_time()
        recommend(problem)
        print(
            f"m = {m}: ratio, rules and the synchronous one in {time.process_time() - began:.2f} s"
        )


def simulated(scenario: Scenario) -> SimulationResult:
    """Return what the simulation shows, if need be less sure than was asked for."""
    try:
        return simulate(scenario)
    except InsufficientDataError as error:
        if error.estimate is None:
            raise
        return error.estimate


def table(folder: Path, requests: int) -> None:
    """Print the best bundle of both modes for each trace, simulated."""
    latency = load_latency("deepseek-v3-ascend-910c")
    print("| trace | m | mode | A | rule | per instance | interval | theory | p99 per token |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*.csv")):
        law = EmpiricalLengths(read_trace(path))
        for m in (1, 2):
            problem = RatioProblem(
                law=law,
                latency=latency,
                batch_size=SLOTS // m,
                microbatches=m,
                execution="barrier-free",
            )
            verdict = recommend(problem).modes
            if verdict is None:
                continue
            for mode, count, stated, least in (
                (
                    "synchronous",
                    verdict.synchronous_attention_workers,
                    verdict.synchronous_objective,
                    1,
                ),
                ("barrier-free", verdict.attention_workers, verdict.objective, verdict.least_calls),
            ):
                scenario = Scenario(
                    bundle=Bundle(attention_workers=count, batch_size=SLOTS // m, microbatches=m),
                    latency=latency,
                    lengths=law,
                    requests_per_worker=requests,
                    precision=PRECISION,
                    p99_precision=2 * PRECISION,
                )
                if mode == "barrier-free":
                    scenario = replace(scenario, execution=mode, least_calls=least)
                seen = simulated(scenario)
                value = seen.throughput_per_instance.value
                width = seen.throughput_per_instance.relative_half_width
                slow = seen.request_time_per_output_token.p99
                print(
                    f"| {path.stem} | {m} | {mode} | {count} | {least} | {value:.4f} | "
                    f"{width:.1%} | {stated / value - 1:+.2%} | {slow.value:,.0f} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--traces", type=Path, help="Folder of traces.")
    given = parser.parse_args()
    if given.traces is not None:
        table(given.traces, 200 if given.quick else 1000)
        return
    speed()
    errors(20 if given.quick else 100)


if __name__ == "__main__":
    main()
