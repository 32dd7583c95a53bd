"""What does measuring a layer on the device at hand ask for?"""

from __future__ import annotations

from afdplan.model import parameters as ask
from afdplan.model.parameter import count

__all__ = ["FFN_DEVICES", "PROFILE", "REPEATS", "SEED", "THREADS", "WARMUPS"]

FFN_DEVICES = ask.FFN_DEVICES.changed(
    help="Devices of the FFN worker; this one holds its share of the experts.",
    default=1,
    metavar="",
)
REPEATS = count(
    "repeats", "Timed runs per point, after a warm-up.", default=9, minimum=3, maximum=10_000
)
WARMUPS = count("warmups", default=2, maximum=10_000)
SEED = ask.SEED.changed(help="Of weights, inputs and routing.", maximum=2**63 - 1)
THREADS = count(
    "threads", "CPU threads; 0 for half of the cores.", default=0, minimum=0, maximum=4096
)
PROFILE = (FFN_DEVICES, REPEATS, WARMUPS, SEED, THREADS)
