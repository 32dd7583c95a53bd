import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.model.bundle import Bundle
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.validation.laws import LAWS, shaped_law
from afdplan.validation.regimes import REGIMES, latency_for


@pytest.mark.parametrize("name", LAWS)
def test_laws_have_about_the_means_that_were_asked_for(name):
    law = shaped_law(name, 1000, 200)
    assert law.mean_prompt_tokens == pytest.approx(1000, rel=0.05)
    assert law.mean_decode_tokens == pytest.approx(200, rel=0.05)


def test_correlated_laws_differ_in_the_sign_of_their_covariance():
    signs = {}
    for name in ("correlated", "anticorrelated"):
        law = shaped_law(name, 1000, 200)
        signs[name] = np.corrcoef(np.log(law.prompt_tokens), np.log(law.decode_tokens))[0, 1]
    assert signs["correlated"] > 0.5
    assert signs["anticorrelated"] < -0.5


def test_heavy_tail_spreads_more_than_a_light_one():
    heavy, light = (shaped_law(n, 1000, 200).token_load() for n in ("heavy-tailed", "light"))
    assert heavy.std / heavy.mean > 2 * light.std / light.mean


def test_unknown_law_and_regime_are_refused_in_one_line():
    law = shaped_law("geometric", 1000, 200)
    with pytest.raises(InvalidInputError, match="law must be one of"):
        shaped_law("normal", 1000, 200)
    with pytest.raises(InvalidInputError, match="regime must be one of"):
        latency_for("memory", law, Bundle(attention_workers=2, batch_size=4))


@pytest.mark.parametrize("microbatches", [1, 2, 3, 4])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_regime_is_bound_by_what_its_name_says(regime, microbatches):
    law = shaped_law("geometric", 1000, 200)
    bundle = Bundle(attention_workers=8, batch_size=64, microbatches=microbatches)
    latency = latency_for(regime, law, bundle, layers=3)
    assert latency.layers == 3
    problem = RatioProblem(
        law=law,
        latency=latency,
        batch_size=64,
        microbatches=microbatches,
        method="mean-field",
    )
    resources = CycleModel(problem, problem.slot_loads()).resources(8)
    assert resources["attention"] == pytest.approx(100)
    if microbatches == 1:
        assert max(resources, key=resources.get) == "latency"  # nothing overlaps
    elif regime == "balanced":
        assert resources["ffn"] == pytest.approx(100)
    elif (regime, microbatches) == ("latency", 4):
        assert list(resources.values()) == [pytest.approx(100)] * 4
    elif (regime, microbatches) != ("communication", 2):  # there its trip is longer still
        assert max(resources, key=resources.get) == regime
