"""On which bundles is the theory held against simulation where every effect is there at once?"""

from __future__ import annotations

import random
from dataclasses import replace

from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.validation.cell import Cell
from afdplan.validation.grid import steps_for

__all__ = ["balanced_times", "effect_cells", "random_bundle"]

RATIOS = ((1, 4), (2, 4), (3, 4), (5, 4), (8, 1), (7, 2), (13, 4), (16, 2), (17, 4), (64, 1))
SCATTERS, LARGEST = (0.0, 0.05, 0.1, 0.2, 0.3), (1.05, 1.1, 1.3, 1.6)
RANKS, SHARES = (1, 2, 8, 32), (0.0, 0.25, 0.5, 1.0)
STRICT_SCATTER, STRICT_IMBALANCE = 0.1, 1.3
BATCH, LAYERS, PRECISION = 32, 20, 0.005
FEW, MANY = 24, 120
"""Cells of a selection, and of everything."""


def balanced_times(
    law: LengthLaw, tokens: float, balance: float = 1.0, transfer: float = 20.0
) -> LatencyModel:
    """Return times in which attention takes 200 at its mean load, the FFN 200 for `tokens`.

    Parameters
    ----------
    law
        Of the requests.
    tokens
        n of an FFN worker.
    balance
        Factor of the FFN's times.
    transfer
        Of each way [time].
    """
    load = BATCH * law.token_load().mean
    return LatencyModel.linear(
        attention=(140.0 / load, 60.0),
        ffn=(140.0 * balance / tokens, 60.0 * balance),
        transfer=(0.0, transfer),
        layers=LAYERS,
    )


def random_bundle(r: random.Random, law: LengthLaw) -> tuple[LatencyModel, Bundle, bool]:
    """Return times with every effect, a bundle, and whether it is within the stricter bar."""
    workers, ffn_workers = r.choice(RATIOS)
    scatter, imbalance = r.choice(SCATTERS), r.choice(LARGEST)
    if r.random() < 0.5:
        experts = ExpertLoad(imbalance=imbalance, imbalance_cv=0.3, share=0.6)
    else:
        imbalance = 1.0
        ranks = max(r.choice(RANKS) // ffn_workers, 1)
        experts = ExpertLoad(experts=256, experts_per_token=8, ranks_per_worker=ranks, share=0.6)
    shares = [r.choice(SHARES) for _ in range(4)]
    coupling = Coupling(
        send_attention=shares[0],
        send_ffn=shares[1],
        receive_attention=shares[2],
        receive_ffn=shares[3],
        one_by_one=r.random() < 0.3 and workers < 20,
        launch=r.choice([0.0, 10.0]),
        fan_in="whole",
        dense_share=r.choice([0.0, 0.4]),
    )
    tokens = workers * BATCH / ffn_workers
    latency = replace(
        balanced_times(law, tokens, r.choice([0.5, 0.8, 1.0, 1.3]), r.choice([5.0, 20.0, 60.0])),
        experts=experts,
        scatter=Scatter(attention=scatter, ffn=scatter),
        coupling=coupling,
    )
    bundle = Bundle(
        attention_workers=workers,
        ffn_workers=ffn_workers,
        batch_size=BATCH,
        microbatches=r.choice([1, 2, 2, 3, 4]),
    )
    return latency, bundle, scatter <= STRICT_SCATTER and imbalance <= STRICT_IMBALANCE


def effect_cells(*, full: bool = False) -> list[Cell]:
    """Return random bundles with every effect: 24, or 120.

    Scatter 0 to 30 %, a busiest rank 1.05 to 1.6 times the mean or by chance on 1 to 32 ranks,
    transfers that occupy each side by 0 to 100 %, A / F from 1/4 to 64.
    """
    r = random.Random(16)
    law = IndependentLengths(prompt="geometric:300", decode="geometric:20")
    cells = []
    for number in range(1, (MANY if full else FEW) + 1):
        latency, bundle, _ = random_bundle(r, law)
        experts = latency.experts
        assert experts is not None
        ranks = f"{experts.ranks(bundle.ffn_workers)} ranks"
        busiest = ranks if experts.imbalance is None else f"max/mean {experts.imbalance:g}"
        pair = f"A={bundle.attention_workers} F={bundle.ffn_workers} m={bundle.microbatches}"
        cell = Cell(
            name=f"{number}: scatter {latency.scatter.ffn:.0%}, {busiest}, {pair}",
            group="effect",
            law=law,
            latency=latency,
            bundle=bundle,
            steps=steps_for(law),
            precision=PRECISION,
        )
        cells.append(cell)
    return cells
