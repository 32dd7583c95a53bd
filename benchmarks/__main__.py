"""Run the benchmarks one after another: python -m benchmarks [NAME ...] [--quick]."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.machine import describe_machine, load_warning

# Name: (question, whether `make bench` runs it, whether it knows --quick).
BENCHMARKS = {
    "ratio": ("How long does a ratio take?", True, False),
    "sweep": ("What does `ratio` save against a sweep with the simulator?", True, True),
    "planner": ("What does `plan` save against simulating every design?", True, True),
    "aiconfigurator_search": (
        "What do the AFD search of aiconfigurator and afdplan recommend and deliver?",
        True,
        True,
    ),
    "plan_table": ("How long does `plan` take for every shipped model and device?", False, True),
    "simulator": ("How fast is the simulator against SimPy, a heap and NumPy?", True, True),
    "trace_reading": ("How many rows per second are read?", True, True),
    "placement": ("What does placing requests by load give back?", False, True),
    "modes": ("With or without the barrier: is theory right, and which pays?", False, True),
    "effects": ("What do experts, occupancy and uneven ratios move?", False, True),
    "studies": ("How fast, lean and unkillable are studies?", False, True),
    "derived_models": ("How far are derived times from published ones?", False, False),
    "operator_fits": ("How far are fitted operators from tables held out?", False, False),
    "ratio_sweeps": ("Do fitted sweeps keep their points, and their intervals?", False, True),
    "real_parts": ("Is read what vLLM and its clients write and say?", False, False),
    "mutate": ("Would a test notice a planted fault?", False, True),
    "model_table": ("What is read from every config of a public package?", False, False),
}


def main() -> int:
    """Run what was named, or all that `make bench` runs; print the machine first."""
    listing = "\n".join(
        f"  {name:22} {question}{'' if default else ' (only when named)'}"
        for name, (question, default, _) in BENCHMARKS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, where known")
    options = parser.parse_args()
    names = options.names or [name for name, (_, default, _) in BENCHMARKS.items() if default]
    print(describe_machine())
    failed = []
    for name in names:
        question, _, knows_quick = BENCHMARKS[name]
        print(f"\n== {name}: {question}", flush=True)
        if warning := load_warning():
            print(f"warning: {warning}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        start = time.perf_counter()
        code = subprocess.run(
            command + ["--quick"] * (options.quick and knows_quick), check=False
        ).returncode
        print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)
        if code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
