"""How are the lengths of independent requests drawn? Compiled.

Numbers come from two streams at a time, so that neither waits for the other's last one; then as
many as stay at hand are looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afdplan.arrays import IntArray
from afdplan.compile import ZERO, U, Whole, compiled, inlined, intrinsic, signature, window
from afdplan.simulation.alias import AliasTable, find_places, length_at

__all__ = ["LengthStreams"]

MULTIPLIER: Any = U(0xDA942042E4DD58B5)
PER_NUMBER = 2.0**-53
BLOCK = 512


class LengthStreams:
    """Prompt and output lengths, each from a stream of its own.

    Parameters
    ----------
    generators
        Streams of `PCG64DXSM`, whose numbers these are, as `Generator.random` gives them.
    tables
        Laws of prompt and output.
    """

    def __init__(
        self, generators: tuple[np.random.Generator, ...], tables: tuple[AliasTable, ...]
    ) -> None:
        self._state = np.array([_words(generator) for generator in generators], dtype=np.uint64)
        self._space = np.empty(4 * BLOCK, dtype=np.int64)
        self._tables = [(table.columns, table.lowest) for table in tables]

    def fill(self, rows: IntArray) -> None:
        """Fill the first two columns of `rows` with the next lengths [tokens]."""
        (prompts, shortest_prompt), (decodes, shortest_decode) = self._tables
        laws = prompts, shortest_prompt, decodes, shortest_decode
        _fill(self._state, *laws, rows, self._space)


def _words(generator: np.random.Generator) -> list[int]:
    """Return state and increment of a stream, low words first."""
    said: Any = generator.bit_generator.state
    numbers = said["state"]["state"], said["state"]["inc"]
    return [word for number in numbers for word in (number & (2**64 - 1), number >> 64)]


def _high_product(context: Any, one: Any, other: Any) -> Any:
    """Return the upper 64 bits of a product of two words."""

    def lower(target: Any, builder: Any, sig: Any, values: Any) -> Any:
        wide = [builder.zext(value, type(value.type)(128)) for value in values]
        product = builder.mul(*wide)
        return builder.trunc(builder.lshr(product, product.type(64)), values[0].type)

    return signature(one, one, other), lower


high_product: Any = intrinsic(_high_product)


@inlined
def _number(low: Any, high: Any) -> Whole:
    """Return the number below 2^53 that a state stands for."""
    word = U(high)
    word ^= word >> U(32)
    word *= MULTIPLIER
    word ^= word >> U(48)
    return np.int64(word * (U(low) | U(1)) >> U(11))


@compiled
def _fill(
    state: Any, prompts: Any, shortest_prompt: Any, decodes: Any, shortest_decode: Any, rows: Any,
    space: Any,
) -> None:  # fmt: skip
    """Draw a prompt and an output per row: numbers first, as many as stay at hand, then lengths."""
    low, high, more_low, more_high = state[0, 0], state[0, 1], state[0, 2], state[0, 3]
    low_2, high_2, more_low_2, more_high_2 = state[1, 0], state[1, 1], state[1, 2], state[1, 3]
    for first in range(0, len(rows), BLOCK):
        count = min(BLOCK, len(rows) - first)
        numbers = window(space, ZERO, count)
        numbers_2 = window(space, ZERO + BLOCK, count)
        for k in range(count):
            numbers[k] = _number(low, high)
            numbers_2[k] = _number(low_2, high_2)
            high = high * MULTIPLIER + high_product(low, MULTIPLIER) + more_high
            low = low * MULTIPLIER + more_low
            high += U(low < more_low)
            high_2 = high_2 * MULTIPLIER + high_product(low_2, MULTIPLIER) + more_high_2
            low_2 = low_2 * MULTIPLIER + more_low_2
            high_2 += U(low_2 < more_low_2)
        columns = window(space, ZERO + 2 * BLOCK, count)
        parts = window(space, ZERO + 3 * BLOCK, count)
        find_places(numbers, PER_NUMBER * float(prompts.size), columns, parts)
        for k in range(count):
            length = shortest_prompt + length_at(prompts, columns[k], parts[k])
            rows[U(first + k), 0] = length
        find_places(numbers_2, PER_NUMBER * float(decodes.size), columns, parts)
        for k in range(count):
            length = shortest_decode + length_at(decodes, columns[k], parts[k])
            rows[U(first + k), 1] = length
    state[0, 0], state[0, 1] = low, high
    state[1, 0], state[1, 1] = low_2, high_2
