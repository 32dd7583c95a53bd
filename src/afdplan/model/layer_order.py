"""In which order do the kinds of attention layers follow each other in one step?"""

from __future__ import annotations

from typing import Any, Literal, cast

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_choice, check_count

__all__ = ["LayerOrder", "named_order", "order_of_layers", "repeated"]

LayerOrder = Literal["blocks", "alternating"] | tuple[int, ...]


def order_of_layers(name: str, layers: list[int]) -> tuple[int, ...]:
    """Return the kind of each layer, from 0, for so many layers of each kind."""
    if name == "blocks":
        return tuple(kind for kind, count in enumerate(layers) for _ in range(count))
    total, passed = sum(layers), [0] * len(layers)
    order = []
    for layer in range(1, total + 1):
        behind = [count * layer - done * total for count, done in zip(layers, passed, strict=True)]
        kind = behind.index(max(behind))
        passed[kind] += 1
        order.append(kind)
    return tuple(order)


def repeated(numbers: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Return `numbers` again and again, `layers` of them."""
    return (numbers * (-(-layers // len(numbers))))[:layers]


def named_order(order: Any, layers: list[int]) -> LayerOrder:
    """Return the order of so many layers of each kind as it is written shortest, or raise."""
    if isinstance(order, str):
        check_choice("layer_order", order, ("blocks", "alternating"), LatencyModelError)
        numbers = tuple(kind + 1 for kind in order_of_layers(order, layers))
    else:
        if not isinstance(order, tuple | list) or not 1 <= len(order) <= sum(layers):
            raise LatencyModelError(
                f"layer_order must be blocks, alternating or 1 to {sum(layers)} kinds of layers, "
                f"got {order!r:.60}"
            )
        for number in order:
            check_count("layer_order", number, 1, len(layers), LatencyModelError)
        numbers = repeated(tuple(order), sum(layers))
        counted = [numbers.count(kind + 1) for kind in range(len(layers))]
        if counted != layers:
            raise LatencyModelError(
                f"layer_order must name each kind of attention layers as often as it has layers, "
                f"{layers}, got {counted}"
            )
    for name in ("blocks", "alternating"):
        if numbers == tuple(kind + 1 for kind in order_of_layers(name, layers)):
            return cast(LayerOrder, name)
    shortest = next(
        n for n in range(1, len(numbers) + 1) if repeated(numbers[:n], len(numbers)) == numbers
    )
    return numbers[:shortest]
