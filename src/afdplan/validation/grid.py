"""On which bundles is the theory held against simulation?"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np

from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.curve import RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.validation.cell import Cell, CellGroup
from afdplan.validation.laws import LAWS, shaped_law
from afdplan.validation.regimes import REGIMES, Regime, latency_for

__all__ = ["enough_layers", "feature_cells", "grid_cells", "short_cells", "steps_for"]

_PROMPT = 1000
_DEFAULT_PRECISION = 0.005
_FULL_PRECISION = 0.002
_ENOUGH_ROUNDS = 210
_LIFETIMES = 60
"""Steps of a run over E[D^2]/E[D]: what batch means need (50), and some."""

# Output tokens and layers of requests that live 200, 400 and 1,000 rounds; the first number of
# each pair says how often loads change, the second how often they are read before they do.
_LIVES = ((200, 1), (50, 4), (10, 20), (400, 1), (20, 20), (100, 4), (4, 50))
_LONG_LIVES = ((1000, 1), (250, 4), (50, 20))


def steps_for(law: LengthLaw, tokens_per_step: float = 1.0) -> int:
    """Return the output steps after which a run may be judged by batch means."""
    lifetimes = law.mean_squared_decode_tokens / law.mean_decode_tokens / tokens_per_step
    return ceil(_LIFETIMES * lifetimes) + 100


def enough_layers(law: LengthLaw) -> int:
    """Return as many layers as the declared validity asks for: short outputs need them."""
    return max(1, -(-_ENOUGH_ROUNDS // max(int(law.mean_decode_tokens), 1)))


def grid_cells(*, full: bool = False) -> list[Cell]:
    """Return cells over laws, regimes, batch sizes, microbatches and workers.

    Parameters
    ----------
    full
        Every law, regime and number of microbatches at several sizes; else each law in each
        regime once, sizes taken in turn.
    """
    cells = []
    sizes = list(product((8, 2, 32, 16, 64, 4), (64, 256, 16)))
    counts = (1, 2, 3, 4)
    k = 0
    for law, regime in product(LAWS, REGIMES):
        for repeat in range(3 if full else 1):
            for m in counts if full else (counts[(k % 5 + k // 5) % 4],):
                workers, batch = sizes[(5 * k + 7 * repeat) % len(sizes)]
                lives = _LIVES + _LONG_LIVES if full else _LIVES
                decode, layers = lives[k % len(lives)]
                cells.append(
                    _cell("grid", law, regime, workers, batch, m, decode, layers, full=full)
                )
                k += 1
    return cells


def short_cells(*, full: bool = False) -> list[Cell]:
    """Return cells whose requests live fewer rounds than the declared validity asks for."""
    laws = ("geometric", "heavy-tailed", "bimodal", "light") if full else ("geometric", "bimodal")
    cells = []
    for k, (law, (decode, layers)) in enumerate(
        product(laws, ((1, 1), (5, 1), (30, 1), (100, 1), (3, 10)))
    ):
        for regime in ("balanced", "attention", "latency") if full else ("balanced",):
            for m in (1, 2, 3, 4) if full else (2 + k % 2,):
                cells.append(_cell("short", law, regime, 8, 16, m, decode, layers, full=full))
    return cells


def _cell(
    group: CellGroup,
    law_name: str,
    regime: Regime,
    workers: int,
    batch_size: int,
    microbatches: int,
    decode: int,
    layers: int,
    *,
    full: bool,
) -> Cell:
    law = shaped_law(law_name, _PROMPT, decode)
    bundle = Bundle(attention_workers=workers, batch_size=batch_size, microbatches=microbatches)
    return Cell(
        name=f"{law_name}, {regime}-bound, A={workers} B={batch_size} m={microbatches} "
        f"D={decode} L={layers}",
        group=group,
        law=law,
        latency=latency_for(regime, law, bundle, layers=layers),
        bundle=bundle,
        steps=steps_for(law),
        precision=_FULL_PRECISION if full else _DEFAULT_PRECISION,
    )


def feature_cells() -> list[Cell]:
    """Return one cell for each thing a latency model or a bundle may have beyond the plain one."""
    law = shaped_law("geometric", _PROMPT, 300)
    few = shaped_law("geometric", _PROMPT, 20)
    bundle = Bundle(attention_workers=8, batch_size=64)
    plain = latency_for("balanced", law, bundle)
    layered = latency_for("balanced", few, bundle, layers=20)
    (attention,) = layered.attention
    windowed = (
        replace(attention, layers=10),
        AttentionLayers(curve=attention.curve, layers=10, context_window=512),
    )
    coupled = Bundle(attention_workers=16, ffn_workers=4, batch_size=64)
    shared = latency_for("balanced", law, coupled)
    aggregate = Transfer(curve=RooflineCurve(floor=5.0, slope=0.08), load="aggregate")
    table = TabulatedCurve(
        loads=np.array([0.0, 256.0, 512.0, 1024.0, 2048.0]),
        times=np.array([60.0, 62.0, 100.0, 190.0, 380.0]),
    )
    three = replace(bundle, microbatches=3)
    rows: list[tuple[str, LengthLaw, LatencyModel, Bundle]] = [
        ("drain, 2 microbatches", few, replace(layered, drain=True), bundle),
        ("drain, 3 microbatches", few, replace(layered, drain=True), three),
        (
            "drain, 5 layers",
            shaped_law("geometric", _PROMPT, 40),
            latency_for(
                "balanced", shaped_law("geometric", _PROMPT, 40), bundle, layers=5, drain=True
            ),
            bundle,
        ),
        ("half of the layers read 512 tokens", few, replace(layered, attention=windowed), bundle),
        (
            "1.9 tokens per step",
            shaped_law("geometric", _PROMPT, 400),
            replace(plain, tokens_per_step=1.9),
            bundle,
        ),
        ("overhead of a step", few, replace(layered, step_overhead=500.0), bundle),
        ("4 FFN workers, transfers aggregate", law, replace(shared, send=aggregate), coupled),
        ("FFN as a table", law, replace(plain, ffn=table), bundle),
        (
            "attention as a roofline, time per request",
            law,
            replace(
                plain,
                attention=(
                    AttentionLayers(
                        curve=RooflineCurve(floor=75.0, slope=0.00095, intercept=5.0),
                        time_per_request=0.3,
                    ),
                ),
            ),
            bundle,
        ),
    ]
    four = Bundle(attention_workers=16, batch_size=8, microbatches=4)
    deep = latency_for("balanced", few, four, layers=10)
    (attention,) = deep.attention
    for share, text in ((3, "7 of 10 layers"), (8, "2 of 10 layers")):
        kinds = (
            replace(attention, layers=share),
            AttentionLayers(curve=attention.curve, layers=10 - share, context_window=512),
        )
        rows.append((f"{text} read 512 tokens", few, replace(deep, attention=kinds), four))
    cells = [
        Cell(
            name=f"{name}, A={size.attention_workers} B={size.batch_size} m={size.microbatches}",
            group="feature",
            law=requests,
            latency=latency,
            bundle=size,
            steps=steps_for(requests, latency.tokens_per_step),
            precision=_DEFAULT_PRECISION,
        )
        for name, requests, latency, size in rows
    ]
    for regime in ("attention", "balanced"):
        cells.append(
            Cell(
                name=f"ideal overlap, {regime}-bound, A=16 B=64",
                group="feature",
                law=law,
                latency=latency_for(regime, law, replace(bundle, attention_workers=16)),
                bundle=replace(bundle, attention_workers=16),
                overlap="ideal",
                steps=steps_for(law),
                precision=_DEFAULT_PRECISION,
            )
        )
    alike = IndependentLengths(prompt="1000", decode="400")
    for m in (2, 3):
        size = replace(bundle, microbatches=m)
        cells.append(
            Cell(
                name=f"equal lengths, started together, A=8 B=64 m={m}",
                group="feature",
                law=alike,
                latency=latency_for("balanced", alike, size),
                bundle=size,
                phase="aligned",
                start="fresh",
                window="all",
                steps=400 * 20,
            )
        )
    cells.append(
        Cell(
            name="equal lengths, random ages, A=8 B=64 m=2",
            group="feature",
            law=alike,
            latency=latency_for("attention", alike, bundle),
            bundle=bundle,
            steps=400 * 2,
            replications=60,
        )
    )
    return cells
