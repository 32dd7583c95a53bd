from dataclasses import replace

import pytest

from afdplan.errors import LatencyModelError
from afdplan.model.latency import LatencyModel

PLAIN = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0))
KINDS = tuple(replace(PLAIN.attention[0], layers=layers) for layers in (2, 4))


@pytest.mark.parametrize(
    ("order", "kinds"),
    [
        ("blocks", (0, 0, 1, 1, 1, 1)),
        ("alternating", (1, 0, 1, 1, 0, 1)),
        ([1, 2, 2], (0, 1, 1, 0, 1, 1)),
        ([2, 2, 1, 2, 1, 2], (1, 1, 0, 1, 0, 1)),
    ],
)
def test_each_layer_has_its_kind(order, kinds):
    assert replace(PLAIN, attention=KINDS, layer_order=order).kind_of_layer == kinds


def test_an_order_is_written_as_short_as_it_can_be():
    def stored(order):
        return replace(PLAIN, attention=KINDS, layer_order=order).layer_order

    assert stored([1, 1, 2, 2, 2, 2]) == "blocks"
    assert stored([2, 1, 2]) == "alternating"
    assert stored([1, 2, 2, 1, 2, 2]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("mixed", "layer_order must be one of"),
        ([1, 2], r"\[2, 4\], got \[3, 3\]"),
        ([0, 1], "layer_order must be"),
        ([3], "layer_order must be"),
        ([], "1 to 6 kinds"),
        (2, "1 to 6 kinds"),
    ],
)
def test_an_order_of_other_layers_is_refused(order, said):
    with pytest.raises(LatencyModelError, match=said):
        replace(PLAIN, attention=KINDS, layer_order=order)
