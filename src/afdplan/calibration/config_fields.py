"""Which fields does a model's config state, and are they in their domain?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from afdplan.errors import InvalidInputError

__all__ = ["ConfigFields"]

LARGEST_SIZE = 100_000_000
MOST_LAYERS = 10_000


class ConfigFields:
    """A config whose fields are named when they are missing or wrong.

    Parameters
    ----------
    values
        The object of the text model.
    origin
        What messages call the file.
    """

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        self.values = values
        self.origin = origin

    def fail(self, rule: str) -> InvalidInputError:
        """Return the error that names the file and the rule."""
        return InvalidInputError(f"{self.origin}: {rule}")

    def count(self, *names: str, minimum: int = 1, default: int | None = None) -> int:
        """Return the first of several integer fields that is stated, or `default`."""
        for name in names:
            value = self.values.get(name)
            if value is not None:
                return self._checked(name, value, minimum)
        if default is not None:
            return default
        raise self.fail(
            f"{names[0]} is missing; a config of model_type "
            f"{self.values.get('model_type')!r} must state it"
        )

    def optional(self, *names: str) -> int | None:
        """Return an integer field, or None where it is absent or null."""
        stated = [name for name in names if self.values.get(name) is not None]
        return self.count(*stated) if stated else None

    def flag(self, name: str) -> bool:
        """Return whether a field is stated as true."""
        return self.values.get(name) is True

    def listed(self, name: str, entries: int) -> list[Any] | None:
        """Return a field that lists one entry per layer (more are cut off), None if absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < entries:
            raise self.fail(f"{name} must list one entry for each of {entries} layers")
        return value[:entries]

    def number(self, name: str, value: Any) -> float:
        """Return a finite number >= 0, or raise naming the field."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(f"{name} must be a number, got {value!r:.80}")
        if isinstance(value, int) and value.bit_length() > 200:
            raise self.fail(f"{name} must be finite and >= 0, got {_shorten(value)}")
        if not math.isfinite(value) or value < 0:
            raise self.fail(f"{name} must be finite and >= 0, got {value!r}")
        return float(value)

    def _checked(self, name: str, value: Any, minimum: int) -> int:
        is_listed = isinstance(value, list) and len(value) == self.values.get("num_hidden_layers")
        if is_listed and len(value) > 1 and all(one == value[0] for one in value):
            value = value[0]  # the same in every layer
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(f"{name} must be an integer, got {value!r:.80}")
        if not minimum <= value <= LARGEST_SIZE:
            raise self.fail(
                f"{name} must be from {minimum} to {LARGEST_SIZE}, got {_shorten(value)}"
            )
        return value

    @property
    def layers(self) -> int:
        """num_hidden_layers, within reason."""
        layers = self.count("num_hidden_layers")
        if layers > MOST_LAYERS:
            raise self.fail(f"num_hidden_layers must be <= {MOST_LAYERS}, got {layers}")
        return layers


def _shorten(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "a number of more than 18 digits"
