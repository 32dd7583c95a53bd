"""On which bundles without the barrier is the theory held against simulation?"""

from __future__ import annotations

from itertools import product

from afdplan.lengths.law import LengthLaw
from afdplan.model.boarding import Boarding
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.validation.cell import Cell
from afdplan.validation.grid import steps_for
from afdplan.validation.laws import LAWS, shaped_law

__all__ = ["FLOORS", "RULES", "boarding_rule", "floored_latency", "pool_cells"]

FLOORS = (0.0, 0.2, 0.5, 0.8)
"""Shares of the FFN's time at all calls that a departure pays however few are on board."""
RULES = ("leaves at once", "waits for a quarter", "waits for half", "waits a while", "takes half")
"""Boarding rules: calls waited for, a longest wait, most calls on board."""
_WORKERS = (8, 2, 32, 4, 64, 16, 3)
_QUICK_WORKERS = 16
_BATCHES = (64, 16, 256)
_FFN_SHARES = (1.0, 0.5, 2.0)
"""FFN time with all calls on board over the mean attention time."""
_ATTENTION = 100.0
_LOAD_SHARE = 0.7
_DELAYS = (5.0, 0.0, 20.0)
_LIVES = ((200, 1), (50, 4), (300, 1))
"""Output tokens and layers of requests that live 200 rounds or more."""


def floored_latency(
    law: LengthLaw,
    bundle: Bundle,
    floor: float,
    ffn_share: float = 1.0,
    *,
    layers: int = 1,
    delay: float = _DELAYS[0],
) -> LatencyModel:
    """Return straight-line latencies whose FFN time has a floor.

    Parameters
    ----------
    law
        Whose mean token load makes attention take 100 time units.
    bundle
        At which this holds.
    floor
        Share of the FFN time of a full departure (all calls of an m) that its weights take.
    ffn_share
        FFN time of a full departure over the mean attention time.
    layers, delay
        Of the latency model, the time of a transfer.
    """
    load, full = bundle.batch_size * law.token_load().mean, ffn_share * _ATTENTION
    return LatencyModel.linear(
        attention=(_LOAD_SHARE * _ATTENTION / load, (1 - _LOAD_SHARE) * _ATTENTION),
        ffn=((1 - floor) * full / bundle.ffn_tokens, floor * full),
        transfer=(0.0, delay),
        layers=layers,
        name=f"floor {floor:.0%}",
    )


def boarding_rule(name: str, bundle: Bundle) -> Boarding:
    """Return one of `RULES` at the size of a bundle."""
    calls = bundle.attention_workers * bundle.microbatches
    if name == "waits for a quarter":
        return Boarding(least_calls=max(calls // 4, 1))
    if name == "waits for half":
        return Boarding(least_calls=max(calls // 2, 1))
    if name == "waits a while":
        return Boarding(least_calls=max(calls // 2, 1), longest_wait=_ATTENTION / 5)
    if name == "takes half":
        return Boarding(most_tokens=max(calls // 2, 1) * bundle.batch_size)
    return Boarding()


def pool_cells(*, full: bool = False) -> list[Cell]:
    """Return cells over laws, floors, rules, microbatches and workers.

    Parameters
    ----------
    full
        Every law, floor and rule with every number of microbatches; else each law with two of the
        floors, the others taken in turn, and at most 16 workers.
    """
    cells = []
    pairs = list(product(LAWS, FLOORS))
    if full:
        every = list(product(pairs, RULES, (1, 2, 3)))
    else:
        every = [
            (pair, RULES[(2 * k) % len(RULES)], (1, 2, 3)[(k + k // 4) % 3])
            for k, pair in enumerate(pairs[k] for k in range(len(pairs)) if (k + k // 4) % 2 == 0)
        ]
    for k, ((law_name, floor), rule, m) in enumerate(every):
        batch = _BATCHES[(k + k // 3) % 3]
        workers = _WORKERS[(3 * k + k // 7) % len(_WORKERS)]
        workers = workers if full else min(workers, _QUICK_WORKERS)
        decode, layers = _LIVES[(k + k // 9) % 3]
        law = shaped_law(law_name, 1000, decode)
        bundle = Bundle(attention_workers=workers, batch_size=batch, microbatches=m)
        share, delay = _FFN_SHARES[(k // 2) % 3], _DELAYS[(k // 5) % 3]
        boarding = boarding_rule(rule, bundle)
        told = rule if boarding != Boarding() else RULES[0]
        cells.append(
            Cell(
                name=f"{law_name}, floor {floor:.0%}, {told}, A={workers} B={batch} m={m} "
                f"L={layers}, FFN x{share:g}",
                group="grid",
                law=law,
                latency=floored_latency(law, bundle, floor, share, layers=layers, delay=delay),
                bundle=bundle,
                execution="barrier-free",
                boarding=boarding,
                steps=steps_for(law),
                precision=0.005 if full else 0.015,
            )
        )
    return cells
