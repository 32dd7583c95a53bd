"""How are the devices that afdplan knows told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

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
        "name": device.name,
        "unit": device.unit,
        "memory_bandwidth": device.memory_bandwidth,
        "memory_size": device.memory_size,
        "matrix_rates": dict(device.matrix_rates),
        "matrix_tile_rows": device.matrix_tile_rows,
        "scale_up": {"bandwidth": device.scale_up.bandwidth, "latency": device.scale_up.latency},
        "scale_out": {"bandwidth": device.scale_out.bandwidth, "latency": device.scale_out.latency},
        "scale_up_devices": device.scale_up_devices,
        "devices_per_node": device.devices_per_node,
        "power": device.watts,
        "price_per_hour": device.price_per_hour,
        "price_is_assumption": True,
        "currency": device.currency,
        **({} if device.like is None else {"like": device.like}),
        "sources": list(device.sources),
        "assumptions": list(device.assumptions),
    }


def _rate(device: Hardware, *formats: str) -> str:
    rate = max(device.matrix_rates.get(arithmetic, 0.0) for arithmetic in formats)
    return "-" if not rate else f"{rate / 1e12:,.0f}"


def devices_told(devices: Mapping[str, Hardware]) -> Telling:
    """Return all devices in one table, by their short names."""
    rows = [
        (
            short,
            f"{device.memory_size / 1e9:,.0f}",
            f"{device.memory_bandwidth / 1e12:.2f}",
            _rate(device, "bf16"),
            _rate(device, "fp8", "int8"),
            _rate(device, "fp4"),
            f"{device.scale_up.bandwidth / 1e9:,.0f}",
            f"{device.scale_up_devices:,}",
            f"{device.scale_out.bandwidth / 1e9:,.0f}",
            f"{device.watts:,.0f}",
            f"{device.price_per_hour:,.2f}",
        )
        for short, device in devices.items()
    ]
    return Telling(
        tables=(
            TextTable(
                title="Devices that ship with afdplan",
                columns=(
                    "name",
                    "mem. GB",
                    "mem. TB/s",
                    "bf16 T/s",
                    "8 bit T/s",
                    "fp4 T/s",
                    "link GB/s",
                    "of",
                    "net GB/s",
                    "power W",
                    "USD /h",
                ),
                rows=rows,
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
