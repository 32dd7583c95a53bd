"""How fast is a device: its memory, its matrix units, its links?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice, check_count, check_number

__all__ = ["MATRIX_FORMATS", "Hardware", "Link", "hardware_from_table"]

MATRIX_FORMATS = ("bf16", "fp8", "int8", "fp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One device's connection.

    Attributes
    ----------
    bandwidth
        In each direction [bytes/s], > 0.
    latency
        Of an empty message [s], >= 0.
    """

    bandwidth: float
    latency: float

    def __post_init__(self) -> None:
        check_number("link bandwidth", self.bandwidth, strict=True)
        check_number("link latency", self.latency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The facts of one device that set its time per token.

    Attributes
    ----------
    name
        For people and look-up.
    unit
        What one device is: a GPU, a die.
    memory_bandwidth
        Peak of the device memory [bytes/s].
    memory_size
        Usable device memory [bytes].
    matrix_rates
        Peak dense rate by arithmetic (``bf16``, ``fp8``, ``int8``, ``fp4``), without structured
        sparsity [operations/s].
    matrix_tile_rows
        Fewest query rows that the decode-attention kernels compute at once; fewer are padded.
    processors
        Multiprocessors, where attention's kernels compute one block of threads on each at a time
        (Blackwell's); None where that is not known: then no rounds are counted.
    scale_up, scale_out
        Link inside the scale-up domain, and network link.
    scale_up_devices
        Devices of one scale-up domain.
    devices_per_node
        Devices of one host.
    watts
        Design power of one device [W].
    price_per_hour
        Assumed rent of one device; always an assumption.
    like
        Name of the measured device whose operators this one has, where it was not measured itself.
    maker
        Of the device: operators were measured on NVIDIA's.
    currency
        Of the price.
    sources
        Where each group of numbers comes from.
    assumptions
        Which numbers no publisher states.
    """

    name: str
    unit: str
    memory_bandwidth: float
    memory_size: float
    matrix_rates: Mapping[str, float]
    matrix_tile_rows: int
    scale_up: Link
    scale_out: Link
    scale_up_devices: int
    devices_per_node: int
    watts: float
    price_per_hour: float
    processors: int | None = None
    like: str | None = None
    maker: str = "NVIDIA"
    currency: str = "USD"
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("memory_bandwidth", "memory_size", "watts"):
            check_number(name, getattr(self, name), strict=True)
        check_number("price_per_hour", self.price_per_hour)
        for name in ("matrix_tile_rows", "scale_up_devices", "devices_per_node"):
            check_count(name, getattr(self, name), 1, 1_000_000)
        if self.processors is not None:
            check_count("processors", self.processors, 1, 1_000_000)
        if "bf16" not in self.matrix_rates:
            raise InvalidInputError("matrix_rates must state bf16, the rate that all others need")
        object.__setattr__(self, "matrix_rates", dict(self.matrix_rates))
        for arithmetic, rate in self.matrix_rates.items():
            check_choice("matrix_rates", arithmetic, MATRIX_FORMATS)
            check_number(f"matrix_rates.{arithmetic}", rate, strict=True)

    def arithmetic(self, wanted: str) -> str:
        """Return `wanted` if the matrix units know it, else ``bf16`` (weights are unpacked)."""
        return wanted if wanted in self.matrix_rates else "bf16"

    def matrix_rate(self, wanted: str) -> float:
        """Return the peak rate of `wanted`, or of bf16 if the device does not know it."""
        return self.matrix_rates[self.arithmetic(wanted)]


_NUMBERS = ("memory_bandwidth", "memory_size", "watts", "price_per_hour")
_COUNTS = ("matrix_tile_rows", "scale_up_devices", "devices_per_node")
_TEXTS = ("name", "unit")
_LISTS = ("sources", "assumptions")
_TABLES = ("matrix_rates", "scale_up", "scale_out")
_TOLD = ("short_name", "price_is_assumption")
"""What `afdplan hardware --json` prints beside the facts."""
_OPTIONAL = ("processors", "like", "maker", "currency", "aliases", *_TOLD, *_LISTS)
_KEYS = (*_TEXTS, *_NUMBERS, *_COUNTS, *_TABLES, *_OPTIONAL)


def hardware_from_table(table: Mapping[str, Any], origin: str = "hardware file") -> Hardware:
    """Return the hardware that a TOML table describes.

    Parameters
    ----------
    table
        Keys as the attributes of `Hardware`; links are tables with ``bandwidth``, ``latency``.
        ``power`` is another name of ``watts``, as printed by ``afdplan hardware --json``;
        ``aliases`` and what else that prints are allowed and ignored here.
    origin
        What to call the table in messages, usually its path.

    Raises
    ------
    InvalidInputError
        If a key is unknown (the known ones are listed), missing, or out of its domain.
    """
    if "power" in table:
        if "watts" in table:
            raise InvalidInputError(f"{origin}: watts and power are the same: give one of them")
        table = {"watts" if key == "power" else key: value for key, value in table.items()}
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise InvalidInputError(
            f"{origin}: unknown key {unknown[0]!r:.80}; the keys are {', '.join(_KEYS)}"
        )
    missing = [key for key in _KEYS if key not in table and key not in _OPTIONAL]
    if missing:
        raise InvalidInputError(f"{origin}: {missing[0]} is missing; a hardware file must state it")
    for key in _TEXTS:
        if not isinstance(table[key], str) or not table[key].strip():
            raise InvalidInputError(f"{origin}: {key} must be text, got {table[key]!r:.80}")
    for key in _TABLES:
        if not isinstance(table[key], Mapping):
            raise InvalidInputError(f"{origin}: {key} must be a table, got {table[key]!r:.80}")
    for key in _LISTS:
        lines = table.get(key, [])
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise InvalidInputError(f"{origin}: {key} must be a list of texts, got {lines!r:.80}")
    try:
        return Hardware(
            **{key: table[key] for key in (*_TEXTS, *_NUMBERS, *_COUNTS)},
            matrix_rates=dict(table["matrix_rates"]),
            scale_up=_link(table["scale_up"], "scale_up"),
            scale_out=_link(table["scale_out"], "scale_out"),
            processors=table.get("processors"),
            like=None if table.get("like") is None else str(table["like"]),
            maker=str(table.get("maker", "NVIDIA")),
            currency=str(table.get("currency", "USD")),
            sources=tuple(table.get("sources", ())),
            assumptions=tuple(table.get("assumptions", ())),
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"{origin}: {error}") from None


def _link(table: Mapping[str, Any], name: str) -> Link:
    for key in ("bandwidth", "latency"):
        if key not in table:
            raise InvalidInputError(f"{name}.{key} is missing")
    unknown = [key for key in table if key not in ("bandwidth", "latency")]
    if unknown:
        raise InvalidInputError(
            f"{name} has the unknown key {unknown[0]!r:.80}; the keys are bandwidth, latency"
        )
    return Link(bandwidth=table["bandwidth"], latency=table["latency"])
