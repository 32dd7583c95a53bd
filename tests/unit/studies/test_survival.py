from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import polars as pl
import pytest

from afdplan.files.results.dataset import ResultsDataset
from tests.running import started
from tests.unit.studies.declare import LATENCY, write

CASES = 1500
STUDY = f"""
compute = "ratio"
[fixed]
latency = "{LATENCY}"
prompt = "10"
decode = "geometric:20"
method = "mean-field"
max_attention_workers = 8
[sample]
cases = {CASES}
batch_size = {{ low = 1, high = 64 }}
microbatches = [1, 2]
"""

# Kill -9 at a random moment, twenty times. Every run is a fork of one warm process, so that no
# time is lost with imports; polars starts its threads in the forks only. Another fork reads by the
# documented pattern all the time, as a notebook would: no row doubled, none gone that was there.
TWENTY_KILLS = """
import glob, os, polars, random, signal, sys, time
from afdplan.studies.definition import load_study
from afdplan.studies.engine import SerialEngine
from afdplan.studies.run import new_results, resume_results, run_study
study, folder = load_study(sys.argv[1]), sys.argv[2]
SerialEngine(study)._runner.row(0)
new_results(study, folder, {}).close()
generator = random.Random(int(sys.argv[3]))
reader = os.fork()
if reader == 0:
    seen, reads, ends = set(), 0, False
    signal.signal(signal.SIGTERM, lambda *_: globals().update(ends=True))
    while not ends or not reads:
        if glob.glob(f"{folder}/part-*.parquet"):
            found = polars.scan_parquet(f"{folder}/part-*.parquet").collect()["case"].to_list()
            if len(set(found)) < len(found) or not seen <= set(found):
                os._exit(1)
            seen, reads = set(found), reads + 1
    os._exit(0 if seen else 2)
progress = []
for kill in range(20):
    child = os.fork()
    if child == 0:
        results, done, tally = resume_results(study, folder)
        run_study(study, SerialEngine(study), results, done=done, tally=tally, part_seconds=0.01)
        os._exit(0)
    time.sleep(generator.uniform(0.005, 0.1) * (1 + kill / 10))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    progress.append(len(list(os.scandir(folder))))
os.kill(reader, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0
print(progress)
"""


def run_python(code, *arguments):
    # POLARS_MAX_THREADS as the command sets it.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    limits = dict.fromkeys(names, "1")
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, env={**os.environ, **limits}, **pipes) as run:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
    return out


def sweep(*arguments):
    command = [sys.executable, "-c", "from afdplan.cli import main; main()", "sweep", *arguments]
    return started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def table(folder) -> pl.DataFrame:
    return ResultsDataset.open(folder).scan().collect().sort("case")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    study = write(folder, STUDY)
    with sweep(study, "-o", folder / "r") as run:
        out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert f"{CASES:,} of {CASES:,} cases done" in out
    return study, table(folder / "r")


def test_twenty_kills_change_nothing(undisturbed, tmp_path):
    study, expected = undisturbed
    seed = random.SystemRandom().randrange(2**32)
    run_python(TWENTY_KILLS, study, tmp_path / "r", seed)
    before = table(tmp_path / "r")
    assert before["case"].is_unique().all(), seed
    assert before.height > 0, seed
    with sweep(study, "-o", tmp_path / "r", "--resume") as run:
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert table(tmp_path / "r").equals(expected), seed


def children(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_command_killed_or_interrupted(undisturbed, tmp_path, how):
    study, expected = undisturbed
    with sweep(study, "-o", tmp_path / "r", "--workers", 2) as run:
        assert wait_for(lambda: list(tmp_path.glob("r/part-*")))
        workers = children(run.pid)
        run.send_signal(how)
        _, err = run.communicate(timeout=20)
        assert len(workers) >= 2
        # No worker outlives the command, even if it could not say goodbye.
        alive = [pid for pid in workers if wait_for(lambda p=pid: not Path(f"/proc/{p}").exists())]
    assert alive == workers
    if how == signal.SIGINT:
        assert run.returncode == 130
        assert "cases are kept: continue with --resume" in err
        assert "Traceback" not in err
    with sweep(study, "-o", tmp_path / "r", "--resume") as again:
        _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert table(tmp_path / "r").equals(expected)


MEMORY = """
import resource, sys
from afdplan.files.results.rows import encode_rows
from afdplan.studies.definition import load_study
from afdplan.studies.engine import Outcome, SerialEngine
from afdplan.studies.run import new_results, run_study
class Instant(SerialEngine):
    row = None
    def collect(self, timeout):
        chunk = self._waiting.pop(0)
        self.row = self.row or self._runner.row(0)
        rows = encode_rows([{**self.row, "case": i} for i in chunk], self._runner._columns)
        return [Outcome(chunk=chunk, rows=rows, seconds=1e-6 * len(chunk))]
study = load_study(sys.argv[1])
results = new_results(study, sys.argv[2], {})
run_study(study, Instant(study), results)
height = results.scan().select("case").collect().height
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, height)
"""


def test_memory_does_not_grow_with_the_cases(tmp_path):
    peaks = []
    for cases in (3_000, 60_000):
        study = write(
            tmp_path, STUDY.replace(f"cases = {CASES}", f"cases = {cases}"), f"{cases}.toml"
        )
        told = run_python(MEMORY, study, tmp_path / f"r{cases}").split()
        assert int(told[1]) == cases
        peaks.append(int(told[0]) / 1024)
    assert peaks[1] < peaks[0] + 10, peaks  # MB; all rows kept until the end are 20 more
