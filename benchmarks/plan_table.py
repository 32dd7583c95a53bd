"""How long does `plan` take for every shipped model on every device, 32 devices, 50 ms?"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterable
from types import FrameType

from afdplan.calibration.catalogue import shipped_hardware, shipped_models
from afdplan.calibration.placement import place
from afdplan.errors import AfdplanError
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.limits import Limits
from afdplan.planning.plan import make_plan
from benchmarks.machine import describe_machine, load_warning

LAW = IndependentLengths(prompt="geometric:2000", decode="geometric:500")
LIMITS = Limits(devices=32, time_per_output_token=0.05)
BAR = 5.0  # processor seconds


class _TooLongError(Exception):
    """The bar was passed several times over."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLongError


def timed_plan(model: str, hardware: str, most: float) -> tuple[float, str]:
    """Return the processor time of a plan [s] and what it recommends, or why there is none."""
    start = time.process_time()
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, most)
    try:
        placement = place(shipped_models()[model], shipped_hardware()[hardware])
        answer = str(make_plan(LAW, DerivedSource(placement), LIMITS).recommended)
    except AfdplanError as error:
        answer = f"none: {str(error).partition(':')[0]}"
    except _TooLongError:
        answer = f"stopped after {most:g} s"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return time.process_time() - start, answer


def rows(models: Iterable[str], hardware: Iterable[str], most: float) -> list[tuple[float, str]]:
    """Print a row for each pair as soon as it is known; return time and name of each."""
    found = []
    for model in models:
        for device in hardware:
            spent, answer = timed_plan(model, device, most)
            found.append((spent, f"{model} on {device}"))
            print(f"| {model} | {device} | {spent:.2f} | {answer} |", flush=True)
    return found


def main() -> None:
    """Print the table in Markdown, machine and load first, the slowest last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=sorted(shipped_models()))
    parser.add_argument("--hardware", action="append", choices=sorted(shipped_hardware()))
    parser.add_argument("--most", type=float, default=60.0, help="stop a plan after so many s")
    parser.add_argument(
        "--quick", action="store_true", help="every eighth model, every fourth device"
    )
    options = parser.parse_args()
    models = options.model or sorted(shipped_models())[:: 8 if options.quick else 1]
    hardware = options.hardware or sorted(shipped_hardware())[:: 4 if options.quick else 1]
    print(describe_machine())
    print(load_warning() or "idle machine")
    print("\n| model | device | processor time [s] | recommended |\n|---|---|---:|---|")
    found = sorted(rows(models, hardware, options.most), reverse=True)
    slow = [one for one in found if one[0] > BAR]
    most, name = found[0]
    print(f"\n{len(found)} plans, {len(slow)} over {BAR:g} s; slowest {name}: {most:.2f} s")


if __name__ == "__main__":
    main()
