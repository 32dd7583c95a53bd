from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.expert_load import fit_expert_load, with_expert_load
from afdplan.errors import LatencyModelError
from afdplan.files.measurements.expert_load import ExpertRecord
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.variation import ExpertLoad


def test_ranks_by_hand():
    # Layer 1: pairs hold 8 and 2 of 10; layer 2: 4 and 6. Anew: 5 + 1 and 3 + 1; 4 + 1 and 3 + 2.
    counts = np.array([[5.0, 3.0, 1.0, 1.0], [1.0, 3.0, 4.0, 2.0]])
    fit = fit_expert_load(ExpertRecord(counts=counts))
    two, four = fit.balances
    assert (two.ranks, four.ranks) == (2, 4)
    assert two.as_it_is == pytest.approx((1.6 + 1.2) / 2)
    assert two.placed_anew == pytest.approx((1.2 + 1.0) / 2)
    assert four.as_it_is == four.placed_anew == pytest.approx((2.0 + 1.6) / 2)
    assert fit.load.popularity[0] == (0.5, 0.3, 0.1, 0.1)


def test_placing_anew_is_near_the_best_of_all_placements():
    rng = np.random.default_rng(2)
    for _ in range(20):
        shares = rng.dirichlet(np.ones(8))
        fit = fit_expert_load(ExpertRecord(counts=shares[None, :]))
        (two,) = (b for b in fit.balances if b.ranks == 2)
        best = min(
            2 * max(shares[list(half)].sum(), 1 - shares[list(half)].sum())
            for half in itertools.combinations(range(8), 4)
        )
        assert best <= two.placed_anew + 1e-12
        assert two.placed_anew <= two.as_it_is + 1e-12 or two.placed_anew <= best * 1.1


def test_compared_ranks_become_the_imbalance():
    record = ExpertRecord(busiest=np.array([1.1, 1.3]), rebalanced=np.array([1.0, 1.1]), ranks=8)
    fit = fit_expert_load(record, ExpertLoad(experts=64, experts_per_token=6, share=0.9))
    assert fit.load.imbalance == pytest.approx(1.2)
    assert fit.load.imbalance_cv == pytest.approx(0.5)
    assert (fit.load.experts, fit.load.share, fit.load.popularity) == (64, 0.9, ())
    told = (fit.balances[0].as_it_is, fit.balances[0].placed_anew)
    assert told == pytest.approx((1.2, 1.05))


def test_a_dump_of_another_model():
    record = ExpertRecord(counts=np.ones((2, 128)), source="dump.json")
    with pytest.raises(LatencyModelError, match=r"dump.json counts 128 experts.*has 256"):
        fit_expert_load(record, ExpertLoad(experts=256))


def test_layers_that_were_counted_stand_for_all():
    line = LinearCurve(slope=1.0, intercept=0.0)
    model = LatencyModel(
        name="m",
        time_unit="abstract",
        attention=(AttentionLayers(layers=5, curve=line),),
        ffn=line,
        send=Transfer(curve=line),
        receive=Transfer(curve=line),
    )
    counts = np.array([[3.0, 1.0], [1.0, 1.0]])
    assert "ranks_per_worker" in with_expert_load(
        model, fit_expert_load(ExpertRecord(counts=counts))
    ).assumptions[0]  # fmt: skip
    model = replace(model, experts=ExpertLoad(experts=2, ranks_per_worker=2))
    made = with_expert_load(model, fit_expert_load(ExpertRecord(counts=counts), model.experts))
    assert made.experts.popularity == ((0.75, 0.25),) * 3 + ((0.5, 0.5),) * 2
    assert made.assumptions == ("the 2 layers that the dump counts stand for the 5 of the model",)
    record = ExpertRecord(counts=np.repeat(counts[:1], 5, axis=0))
    assert with_expert_load(model, fit_expert_load(record)).assumptions == ()
