"""How fast is the simulator, and against what? Run: python -m benchmarks.simulator [--quick].

Same cycle everywhere: A workers, B slots each, requests of geometric prompt (mean 100) and output
(mean 500), published coefficients. Times are processor seconds of one core, best of a few.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.scenario import Arrivals, Scenario

WORKERS, BATCH, PROMPT, DECODE = 8, 256, 100, 500
PARTS = 40  # the best of many short ones: the machine has other work
SHORTEST = 100_000  # requests of a part: some blocks of them, or the best would be one without
KEPT = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
ALPHA, BETA, FFN, TRANSFER = 0.00165, 50.0, 0.083 * WORKERS * BATCH + 100, 0.022 * BATCH + 20


def engine(
    workers: int = WORKERS,
    batch: int = BATCH,
    decode: str = f"geometric:{DECODE}",
    layers: int = 1,
    **options: object,
) -> Engine:
    """Return the same cycle as a scenario, ready to be played."""
    return Engine(
        Scenario(
            bundle=Bundle(attention_workers=workers, batch_size=batch),
            latency=LatencyModel.linear(
                attention=(ALPHA, BETA), ffn=(0.083, 100), transfer=(0.022, 20), layers=layers
            ),
            lengths=IndependentLengths(prompt=f"geometric:{PROMPT}", decode=decode),
            **options,  # type: ignore[arg-type]
        )
    )


def ours(requests: int = 2_000_000, **options: object) -> tuple[float, float, float]:
    """Return requests per second, steps per request, nanoseconds per request."""
    played = engine(**options)  # type: ignore[arg-type]
    played.run(stop_completed=requests // 20)
    best, n = 0.0, played.state.integers
    first = int(n[ix.STEP]), int(n[ix.COMPLETED])
    parts = min(max(requests // SHORTEST, 1), PARTS)
    for part in range(1, parts + 1):
        done, began = int(n[ix.COMPLETED]), time.process_time()
        played.run(stop_completed=first[1] + requests * part // parts)
        best = max(best, (int(n[ix.COMPLETED]) - done) / (time.process_time() - began))
    per_request = (int(n[ix.STEP]) - first[0]) / (int(n[ix.COMPLETED]) - first[1])
    return best, per_request, 1e9 / best


def wall_time(seed: int, requests: int) -> float:
    """Return how long one replication of the same cycle takes [s of the wall clock]."""
    played = engine(seed=seed)
    played.run(stop_completed=50_000)
    began = time.perf_counter()
    played.run(stop_completed=50_000 + requests)
    return time.perf_counter() - began


def gain_of_two(crew: Executor, requests: int) -> float:
    """Return how many times as much two threads or processes play as one, best of three."""
    list(crew.map(wall_time, (1, 2), (1000, 1000)))
    gains = []
    for _ in range(3):
        alone = crew.submit(wall_time, 1, requests).result()
        gains.append(2 * alone / max(crew.map(wall_time, (1, 2), (requests, requests))))
    return max(gains)


def first_use() -> float:
    """Return the processor time of a first `simulate`, which compiles [s]."""
    words = "simulate --prompt 10 --decode geometric:20 --latency deepseek-v3-ascend-910c"
    words += " --batch-size 4 --attention-workers 2 --requests 100"
    before = os.times()
    with tempfile.TemporaryDirectory() as cold:
        subprocess.run(
            [sys.executable, "-m", "afdplan", *words.split()],
            env=os.environ | {"NUMBA_CACHE_DIR": cold},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def draws(seed: int) -> Iterator[tuple[int, int]]:
    """Yield requests one by one, drawn in blocks."""
    generator = np.random.default_rng(seed)
    while True:
        yield from zip(
            generator.geometric(1 / PROMPT, 4096).tolist(),
            generator.geometric(1 / DECODE, 4096).tolist(),
            strict=True,
        )


def simpy_model(requests: int) -> int:
    """The pipelined cycle as processes and resources; finished slots from a calendar."""
    import simpy

    environment = simpy.Environment()
    attention = [simpy.Resource(environment) for _ in range(WORKERS)]
    ffn = simpy.Resource(environment)
    source, finished = draws(1), [0]
    stop = environment.event()

    def part(j: int, load: float):
        with attention[j].request() as turn:
            yield turn
            yield environment.timeout(ALPHA * load + BETA)
        yield environment.timeout(TRANSFER)

    def microbatch():
        loads = [0] * WORKERS
        due: list[dict[int, list[int]]] = [{} for _ in range(WORKERS)]

        def admit(j: int, step: int) -> None:
            prompt, decode = next(source)
            loads[j] += prompt
            due[j].setdefault(step + decode - 1, []).append(prompt + decode)

        for j in range(WORKERS):
            for _ in range(BATCH):
                admit(j, 0)
        step = 0
        while True:
            yield environment.all_of(
                [environment.process(part(j, loads[j])) for j in range(WORKERS)]
            )
            with ffn.request() as turn:
                yield turn
                yield environment.timeout(FFN)
            yield environment.timeout(TRANSFER)
            for j in range(WORKERS):
                loads[j] += BATCH
                for held in due[j].pop(step, ()):
                    loads[j] -= held
                    finished[0] += 1
                    admit(j, step + 1)
            step += 1
            if finished[0] >= requests and not stop.triggered:
                stop.succeed()

    for _ in range(2):
        environment.process(microbatch())
    environment.run(until=stop)
    return finished[0]


def heap_per_slot(requests: int) -> int:
    """An event heap of slot ends and the unpipelined cycle."""
    source, finished, clock, step = draws(2), 0, 0.0, 0
    loads, heap = [0] * WORKERS, []
    for j in range(WORKERS):
        for _ in range(BATCH):
            prompt, decode = next(source)
            loads[j] += prompt
            heapq.heappush(heap, (decode - 1, j, prompt + decode))
    while finished < requests:
        clock += max(ALPHA * max(loads) + BETA, FFN, TRANSFER)
        for j in range(WORKERS):
            loads[j] += BATCH
        while heap[0][0] == step:
            _, j, held = heapq.heappop(heap)
            prompt, decode = next(source)
            loads[j] += prompt - held
            heapq.heappush(heap, (step + decode, j, prompt + decode))
            finished += 1
        step += 1
    return finished


def numpy_per_slot_and_step(requests: int) -> int:
    """Arrays of all slots, touched at every step; the unpipelined cycle."""
    generator = np.random.default_rng(3)
    held = generator.geometric(1 / PROMPT, (WORKERS, BATCH))
    left = generator.geometric(1 / DECODE, (WORKERS, BATCH))
    finished, clock = 0, 0.0
    while finished < requests:
        clock += max(ALPHA * held.sum(axis=1).max() + BETA, FFN, TRANSFER)
        held += 1
        left -= 1
        ended = left == 0
        count = int(np.count_nonzero(ended))
        if count:
            held[ended] = generator.geometric(1 / PROMPT, count)
            left[ended] = generator.geometric(1 / DECODE, count)
            finished += count
    return finished


def numpy_renewal(requests: int) -> int:
    """All renewals of a slot at once, loads by second differences; the unpipelined cycle."""
    generator = np.random.default_rng(4)
    per_slot = requests // (WORKERS * BATCH) + 1
    shape = (WORKERS, BATCH, per_slot)
    decode = generator.geometric(1 / DECODE, shape)
    prompt = generator.geometric(1 / PROMPT, shape)
    ends = np.cumsum(decode, axis=2)
    steps = int(ends[:, :, -1].min())
    starts = ends - decode
    tau = np.zeros(steps)
    for j in range(WORKERS):
        first, last = starts[j].ravel(), ends[j].ravel()
        keep = first < steps
        first, last = first[keep], np.minimum(last[keep], steps)
        base = (prompt[j].ravel()[keep] - first).astype(np.float64)
        value = np.bincount(first, base, steps + 1) - np.bincount(last, base, steps + 1)
        loads = np.cumsum(value)[:steps] + BATCH * np.arange(steps)
        np.maximum(tau, ALPHA * loads + BETA, out=tau)
    np.maximum(tau, max(FFN, TRANSFER), out=tau)
    np.cumsum(tau)
    return int(np.count_nonzero(ends <= steps))


def rate(function: Callable[[int], int], requests: int, times: int) -> float:
    best = 0.0
    for _ in range(times):
        began = time.process_time()
        done = function(requests)
        best = max(best, done / (time.process_time() - began))
    return best


def alone(name: str, requests: int, times: int, **surroundings: str) -> float:
    """Return the rate of a baseline in a process of its own.

    Whether NumPy's memory goes back to the system between runs, and costs a fault per page when
    it comes again, else depends on what was allocated before.
    """
    words = f"from benchmarks.simulator import *; print(rate({name}, {requests}, {times}))"
    done = subprocess.run(
        [sys.executable, "-c", words],
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    scale = 4 if quick else 1
    fast, _, _ = ours(requests=PARTS * 400_000)
    print("| simulator | requests/s on one core | ours is faster by |\n|---|---|---|")
    print(f"| afdplan, m = 2 pipelined, percentiles on | {fast:,.0f} | |")
    for name, surroundings in (("as it comes", {}), ("its memory kept", KEPT)):
        found = alone("numpy_renewal", 400_000, PARTS // scale * 3, **surroundings)
        print(f"| NumPy renewal, unpipelined, {name} | {found:,.0f} | {fast / found:,.1f} |")
    for name, function, count in (
        ("NumPy per slot and step, unpipelined", numpy_per_slot_and_step, 30_000),
        ("heap per slot, unpipelined", heap_per_slot, 20_000),
        ("SimPy, m = 2 pipelined", simpy_model, 15_000),
    ):
        found = rate(function, count // scale + 1000, 5)
        print(f"| {name} | {found:,.0f} | {fast / found:,.1f} |", flush=True)

    print("\n| mean output | layers | ns per request | A m L steps per request |")
    print("|---|---|---|---|")
    rows = []
    for decode, layers, count in (
        (50, 1, 8_000_000), (150, 1, 8_000_000), (500, 1, 8_000_000), (1500, 1, 4_000_000),
        (5000, 1, 2_000_000), (500, 4, 4_000_000), (500, 16, 2_000_000), (500, 61, 1_000_000),
    ):  # fmt: skip
        _, steps, cost = ours(decode=f"geometric:{decode}", layers=layers, requests=count // scale)
        cells = steps * WORKERS * 2
        rows.append((1.0, cells, cells * layers, cost))
        print(f"| {decode} | {layers} | {cost:.0f} | {cells * layers:.2f} |", flush=True)
    table = np.array(rows)
    weight = 1 / table[:, 3]
    fit, *_ = np.linalg.lstsq(table[:, :3] * weight[:, None], np.ones(len(rows)), rcond=None)
    print(
        f"\ncost = {fit[0]:.0f} ns * requests + {fit[1]:.1f} ns * steps * A * m "
        f"+ {fit[2]:.1f} ns * steps * A * m * L"
    )
    open_rate, _, _ = ours(
        requests=4_000_000,  # fewer are the start of a run
        start="fresh",
        arrivals=Arrivals(process="poisson", rate=0.010),
        kv_capacity=400_000,
        memory="preempt",
        placement="least-tokens",
    )
    print(f"\nOpen, KV capacity with preemption, least-tokens: {open_rate:,.0f} requests/s")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        gains = [gain_of_two(crew, 40_000_000 // scale) for crew in (threads, processes)]
    print(
        "Two replications at once: {:.2f} times one by threads, {:.2f} by processes".format(*gains)
    )
    print(f"First simulate, nothing compiled: {first_use():.1f} s of processor time")
    print(f"Load of the machine: {os.getloadavg()[0]:.1f} processes on {os.cpu_count()} cores")
    if not quick:
        huge = Engine(
            Scenario(
                bundle=Bundle(attention_workers=1000, batch_size=256),
                latency=LatencyModel.linear(attention=(ALPHA, BETA), ffn=(0.0001, 100)),
                lengths=IndependentLengths(prompt="geometric:100", decode="uniform:1..1000000"),
                start="fresh",
            )
        )
        huge.run(stop_completed=20_000)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"1,000 workers of 2 x 256 slots, outputs up to 1,000,000 tokens: peak {peak:.2f} GiB"
        )


if __name__ == "__main__":
    main()
