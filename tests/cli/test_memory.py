"""Commands keep to the memory that docs/limits.md states, under a limit of addresses, too."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

ADDRESSES = 1_400_000_000  # what the libraries need at least, stated as well
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are counted in kB on Linux")


def peak(*arguments, addresses):
    """Run a command under a limit of addresses; return the most memory that it held [bytes].

    It says so itself: what the system counts of a child begins with what its parent held.
    """
    script = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({addresses}, {addresses}))
sys.argv = ["afdplan", *{[str(one) for one in arguments]!r}]
from afdplan.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text(), file=sys.stderr)
"""
    # The tests' own setting keeps what is freed: pages would be counted that nobody needs.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", done.stderr)[1])


def test_simulate_holds_a_kilobyte_per_slot():
    slots = 2 * 50 * 1000
    question = ("--prompt", "geometric:100", "--decode", "geometric:10", "--requests", 2000)
    question += ("--latency", "deepseek-v3-ascend-910c", "--batch-size", 1000)
    held = peak(
        "simulate", *question, "--attention-workers", 50, addresses=ADDRESSES + 1000 * slots
    )
    assert held < 250e6 + 1000 * slots


def test_workload_holds_a_fifth_of_a_kilobyte_per_request(tmp_path):
    rng, requests = np.random.default_rng(1), 100_000
    columns = np.cumsum(rng.exponential(0.1, requests)), *rng.integers(1, 3000, (2, requests))
    trace = tmp_path / "trace.csv"
    header = "arrival,prompt_tokens,output_tokens"
    np.savetxt(trace, np.stack(columns, axis=1), "%.3f,%d,%d", header=header, comments="")
    held = peak("workload", "--trace", trace, addresses=ADDRESSES + 200 * requests)
    assert held < 200e6 + 200 * requests


def test_sweep_holds_no_more_for_more_cases(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "many"\ncompute = "ratio"\n[fixed]\nprompt = "geometric:100"\nbatch_size = 16\n'
        'decode = "geometric:50"\nlatency = "deepseek-v3-ascend-910c"\nmethod = "mean-field"\n'
        "[sample]\ncases = 120\nseed = 1\nffn_weight = { low = 0.5, high = 2.0 }\n"
    )
    out = tmp_path / "out"
    held = peak("sweep", study, "-o", out, "--workers", 1, addresses=ADDRESSES)
    assert held < 200e6
    stored = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert stored < 100e3 + 1500 * 120
