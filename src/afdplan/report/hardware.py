"""How are the devices that afdplan knows told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.quantities import given_time, number
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

if TYPE_CHECKING:
    from afdplan.calibration.hardware import Hardware, Link

__all__ = ["device_answer", "device_told", "devices_told"]


def device_answer(short: str, device: Hardware) -> dict[str, Any]:
    """Return what ``afdplan hardware --json`` says of a device."""
    return {
        "short_name": short,
        **chosen(device, "name unit memory_bandwidth memory_size"),
        "matrix_rates": dict(device.matrix_rates),
        **chosen(device, "matrix_tile_rows scale_up scale_out scale_up_devices devices_per_node"),
        **({} if device.processors is None else {"processors": device.processors}),
        "power": device.watts,
        "price_per_hour": device.price_per_hour,
        "price_is_assumption": True,
        "currency": device.currency,
        **({} if device.like is None else {"like": device.like}),
        "maker": device.maker,
        **chosen(device, "sources assumptions"),
    }


def _rate(device: Hardware, *formats: str) -> str:
    rate = max(device.matrix_rates.get(arithmetic, 0.0) for arithmetic in formats)
    return "-" if not rate else f"{rate / 1e12:,.0f}"


def devices_told(devices: Mapping[str, Hardware]) -> Telling:
    """Return all devices in one table, by their short names."""
    return Telling(
        tables=(
            TextTable.of(
                "Devices that ship with afdplan",
                devices.items(),
                {
                    "name": lambda named: named[0],
                    "mem. GB": lambda named: f"{named[1].memory_size / 1e9:,.0f}",
                    "mem. TB/s": lambda named: f"{named[1].memory_bandwidth / 1e12:.2f}",
                    "bf16 T/s": lambda named: _rate(named[1], "bf16"),
                    "8 bit T/s": lambda named: _rate(named[1], "fp8", "int8"),
                    "fp4 T/s": lambda named: _rate(named[1], "fp4"),
                    "link GB/s": lambda named: f"{named[1].scale_up.bandwidth / 1e9:,.0f}",
                    "of": lambda named: f"{named[1].scale_up_devices:,}",
                    "net GB/s": lambda named: f"{named[1].scale_out.bandwidth / 1e9:,.0f}",
                    "power W": lambda named: f"{named[1].watts:,.0f}",
                    "USD /h": lambda named: f"{named[1].price_per_hour:,.2f}",
                },
                note="Matrix rates are dense peaks in 10^12 operations/s (8 bit: fp8 or int8), "
                "links are per device and direction, of: devices that one joins; prices are "
                "assumptions; ascend-910c is one die of a chip. `afdplan hardware NAME` shows "
                "the sources.",
            ),
        )
    )


def device_told(device: Hardware) -> Telling:
    """Return one device, fact by fact."""
    return Telling(
        answer=device.name, words=tuple(_facts(device)), assumptions=tuple(device.assumptions)
    )


def _facts(device: Hardware) -> Iterable[Fact]:
    yield Fact("unit", device.unit)
    yield Fact(
        "memory",
        f"{device.memory_size / 1e9:,.0f} GB at {number(device.memory_bandwidth / 1e12)} TB/s",
    )
    rates = ", ".join(f"{k} {v / 1e12:,.0f} TFLOPS" for k, v in device.matrix_rates.items())
    yield Fact("dense matrix rates", rates)
    yield Fact("query rows per tile", f"{device.matrix_tile_rows}")
    if device.processors is not None:
        yield Fact("processors", f"{device.processors}")
    joined = f"{device.scale_up_devices:,} devices"
    yield Fact("scale-up link", f"{_link(device.scale_up)}, {joined}")
    yield Fact("network link", _link(device.scale_out))
    yield Fact("devices per node", f"{device.devices_per_node}")
    yield Fact("power", f"{device.watts:,.0f} W")
    yield Fact("price", f"{device.price_per_hour:,.2f} {device.currency} per hour (assumption)")
    for k, source in enumerate(device.sources):
        yield Fact("" if k else "sources", source)


def _link(link: Link) -> str:
    return f"{link.bandwidth / 1e9:,.0f} GB/s each way, {given_time(link.latency, 's')}"
