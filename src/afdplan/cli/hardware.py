"""Which devices does afdplan know, and how fast are they?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from afdplan.calibration.hardware import Hardware

__all__ = ["command"]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(name: str | None, as_json: bool) -> None:
    """List the devices whose facts ship with afdplan, or show one.

    NAME is a short name in any case, or the path of a TOML or JSON file with the same keys, such
    as what --json prints.
    """
    from afdplan.calibration.catalogue import find_hardware, shipped_hardware
    from afdplan.report.document import document, to_json

    devices = shipped_hardware() if name is None else {name: find_hardware(name)}
    if as_json:
        answer = {"hardware": [_facts(short, device) for short, device in devices.items()]}
        inputs = {"name": name}
        click.echo(to_json(document(time_unit="s", inputs=inputs, warnings=[], answer=answer)))
    elif name is None:
        _print_list(devices)
    else:
        _print_one(devices[name])


def _facts(short: str, device: Hardware) -> dict[str, Any]:
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
        "sources": list(device.sources),
        "assumptions": list(device.assumptions),
    }


def _rate(device: Hardware, *formats: str) -> str:
    rate = max(device.matrix_rates.get(arithmetic, 0.0) for arithmetic in formats)
    return "-" if not rate else f"{rate / 1e12:.0f}"


def _print_list(devices: dict[str, Hardware]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="Devices that ship with afdplan",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("name", no_wrap=True)
    for column in (
        "mem.\nGB",
        "mem.\nTB/s",
        "bf16\nT/s",
        "8 bit\nT/s",
        "fp4\nT/s",
        "link\nGB/s",
        "dom-\nain",
        "net\nGB/s",
        "power\nW",
        "price\nUSD/h",
    ):
        table.add_column(column, justify="right")
    for short, device in devices.items():
        table.add_row(
            short,
            f"{device.memory_size / 1e9:.0f}",
            f"{device.memory_bandwidth / 1e12:.2f}",
            _rate(device, "bf16"),
            _rate(device, "fp8", "int8"),
            _rate(device, "fp4"),
            f"{device.scale_up.bandwidth / 1e9:.0f}",
            str(device.scale_up_devices),
            f"{device.scale_out.bandwidth / 1e9:.0f}",
            f"{device.watts:.0f}",
            f"{device.price_per_hour:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(
        "Matrix rates are dense peaks in 10^12 operations/s (8 bit: fp8 or int8), links are per "
        "device and direction, prices are assumptions; ascend-910c is one die of a chip. "
        "`afdplan hardware NAME` shows the sources.",
        style="dim",
    )


def _print_one(device: Hardware) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=device.name, title_justify="left", show_header=False)
    table.add_column("fact")
    table.add_column("value", overflow="fold")
    rates = ", ".join(f"{k} {v / 1e12:.0f} TFLOPS" for k, v in device.matrix_rates.items())
    up, out = device.scale_up, device.scale_out
    rows = [
        ("unit", device.unit),
        (
            "memory",
            f"{device.memory_size / 1e9:.0f} GB at {device.memory_bandwidth / 1e12:.3f} TB/s",
        ),
        ("dense matrix rates", rates),
        ("query rows per tile", str(device.matrix_tile_rows)),
        (
            "scale-up link",
            f"{up.bandwidth / 1e9:.0f} GB/s each way, {up.latency * 1e6:g} us, "
            f"{device.scale_up_devices} devices",
        ),
        ("network link", f"{out.bandwidth / 1e9:.0f} GB/s each way, {out.latency * 1e6:g} us"),
        ("devices per node", str(device.devices_per_node)),
        ("power", f"{device.watts:.0f} W"),
        ("price", f"{device.price_per_hour:.2f} {device.currency} per hour (assumption)"),
        ("sources", "\n".join(device.sources)),
        ("assumptions", "\n".join(device.assumptions)),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
