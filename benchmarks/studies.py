"""How fast, how lean and how unkillable are studies?"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LATENCY = "deepseek-v3-ascend-910c"
SEEDS = ", ".join(map(str, range(1, 101)))
RATIO = f"""
compute = "ratio"
[fixed]
latency = "{LATENCY}"
method = "mean-field"
prompt = "20"
decode = "geometric:20"
max_attention_workers = 16
[sample]
cases = {{cases}}
batch_size = {{{{ low = 1, high = 512 }}}}
microbatches = [1, 2, 3]
ffn_workers = [1, 2, 4]
"""
SIMULATE = f"""
compute = "simulate"
[fixed]
latency = "{LATENCY}"
prompt = "geometric:50"
decode = "geometric:20"
simulated_requests = 100
replications = 2
batch_size = 16
[grid]
attention_workers = [2, 4, 6, 8, 10]
seed = [{SEEDS}]
"""
FEW = SIMULATE.replace(SEEDS, "1, 2, 3, 4")
ONE_RUN = """
import multiprocessing, os, resource, sys, time
os.environ["POLARS_MAX_THREADS"] = "1"  # as the command does
from afdplan.studies.definition import load_study
from afdplan.studies.local_engine import LocalEngine
from afdplan.studies.run import new_results, run_study

class Measured(LocalEngine):
    computing = 0.0
    def collect(self, timeout):
        outcomes = super().collect(timeout)
        self.computing += sum(outcome.seconds for outcome in outcomes)
        return outcomes

if __name__ == "__main__":
    study = load_study(sys.argv[1])
    results = new_results(study, sys.argv[2], {})
    engine = Measured(study, int(sys.argv[3]))
    start, first = time.perf_counter(), []
    own = time.process_time()
    tally = run_study(study, engine, results,
        report=lambda tally: first or first.append((time.perf_counter(), tally.finished)))
    end = time.perf_counter()
    own = time.process_time() - own
    engine.close()
    while multiprocessing.active_children():
        time.sleep(0.01)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(tally.finished, end - start, first[0][0] - start, engine.computing, own, results.size,
        peak, used.ru_utime + used.ru_stime)
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def run_once(script: Path, study: Path, workers: int) -> list[float]:
    """Return cases, wall, start-up, worker wall, parent CPU, bytes, peak memory and worker CPU."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(script), str(study), f"{folder}/r", str(workers)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


def speed(script: Path, name: str, text: str, few: str, pairs: int) -> None:
    """Print the speed-up of two workers over one, in interleaved pairs.

    On a machine that others use too, wall times say little. CPU times say what two free cores
    would give: one worker has a core for itself, two share both cores with the parent.
    """
    walls, cpus, overheads = [], [], []
    for _ in range(pairs):
        rates, used = {}, {}
        for workers in (1, 2):
            idle = run_once(script, write(script.parent, few), workers)
            run = run_once(script, write(script.parent, text), workers)
            cases, wall, start, computing, own, size, peak, children = run
            # From the first rows on: starting Python and its libraries is not a matter of cases.
            rates[workers] = cases / (wall - start)
            used[workers] = ((children - idle[7]) / cases, max(own - idle[4], 0.0) / cases)
            print(
                f"{name}, {workers} worker(s): {cases:.0f} cases in {wall:.1f} s (first rows after "
                f"{start:.1f} s); CPU per case: {1e3 * used[workers][0]:.2f} ms of workers, "
                f"{1e3 * used[workers][1]:.3f} ms of the parent; {size / cases:.0f} bytes per "
                f"case, parent's peak {peak / 1024:.0f} MB",
                flush=True,
            )
            if workers == 1:
                overheads.append(1e3 * (wall - start - computing) / cases)
        walls.append(rates[2] / rates[1])
        cpus.append(2 * used[1][0] / sum(used[2]))
    print(
        f"{name}: speed-up by wall time {', '.join(f'{s:.2f}' for s in walls)} (median "
        f"{statistics.median(walls):.2f}), by CPU time {', '.join(f'{s:.2f}' for s in cpus)} "
        f"(median {statistics.median(cpus):.2f}); wall time not computing, one worker: "
        f"{', '.join(f'{o:.2f}' for o in overheads)} ms per case",
        flush=True,
    )


def memory(script: Path, counts: tuple[int, ...]) -> None:
    """Print the parent's peak memory for more and more cases."""
    for cases in counts:
        study = write(script.parent, RATIO.format(cases=cases))
        peak = run_once(script, study, 2)[6]
        print(f"memory: {cases:,} cases, parent's peak {peak / 1024:.0f} MB", flush=True)


def kills(folder: Path, times: int) -> None:
    """Kill -9 the command at random moments, resume, and compare with an undisturbed run."""
    import polars as pl

    study = write(folder, RATIO.format(cases=3000))

    def sweep(output: Path, *more: str) -> subprocess.Popen[bytes]:
        code = "from afdplan.cli import main; main()"
        command = [sys.executable, "-c", code, "sweep", str(study), "-o", str(output), *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rows(output: Path) -> pl.DataFrame:
        return pl.concat([pl.read_parquet(p) for p in output.glob("part-*")]).sort("case")

    assert sweep(folder / "calm").wait() == 0
    kept = []
    for _ in range(times):
        run = sweep(folder / "r", "--resume")
        time.sleep(random.uniform(0.5, 3.0))
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        parts = list((folder / "r").glob("part-*"))
        kept.append(sum(pl.read_parquet(p, columns=["case"]).height for p in parts))
    assert sweep(folder / "r", "--resume").wait() == 0
    same = rows(folder / "r").equals(rows(folder / "calm"))
    print(f"{times} kills, rows kept after each: {kept}; equal to an undisturbed run: {same}")


def main() -> None:
    """Print what studies.md records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=int, default=3, help="runs of one and two workers")
    parser.add_argument("--quick", action="store_true", help="a tenth of the cases, three kills")
    options = parser.parse_args()
    quick, pairs = options.quick, 1 if options.quick else options.pairs
    cases = 1_000 if quick else 10_000
    simulate = SIMULATE.replace(SEEDS, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10") if quick else SIMULATE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "one_run.py"
        script.write_text(ONE_RUN)
        ratio, few = RATIO.format(cases=cases), RATIO.format(cases=20)
        speed(script, f"{cases:,} ratio cases", ratio, few, pairs)
        speed(script, f"{50 if quick else 500} simulations", simulate, FEW, max(1, pairs // 2))
        memory(script, (300, 1_000) if quick else (3_000, 15_000, 100_000))
        kills(folder, 3 if quick else 20)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU time of all: {usage.ru_utime + usage.ru_stime:.0f} s")


if __name__ == "__main__":
    main()
