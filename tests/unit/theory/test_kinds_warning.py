from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import AttentionLayers, LatencyModel
from afdplan.theory.validity import DECLARED_KIND_LAYERS, KINDS_ERROR, theory_warnings

LAW = IndependentLengths(prompt="geometric:100", decode="geometric:500")


@pytest.mark.parametrize(("half", "warned"), [(5, True), (10, False)])
def test_few_layers_of_several_kinds_are_warned_of(half, warned):
    plain = LatencyModel.linear(attention=(0.001, 5.0), ffn=(0.01, 2.0))
    curve = plain.attention[0].curve
    kinds = (
        AttentionLayers(curve=curve, layers=half),
        AttentionLayers(curve=curve, layers=half, context_window=64),
    )
    found = theory_warnings(
        LAW, replace(plain, attention=kinds), microbatches=3, attention_workers=8
    )
    assert any("several kinds" in text for text in found) == warned


def test_the_declared_layers_keep_the_stated_error_within_the_declared_one():
    assert KINDS_ERROR / DECLARED_KIND_LAYERS <= 0.01
