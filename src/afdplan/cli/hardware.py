"""Which devices does afdplan know, and how fast are they?"""

from __future__ import annotations

import click

from afdplan.cli.report import documented, json_option, print_json, tell

__all__ = ["command"]


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the devices whose facts ship with afdplan, or show one.

    NAME is a short name in any case, or the path of a TOML or JSON file with the same keys, such
    as what --json prints.
    """
    from afdplan.calibration.catalogue import find_hardware, shipped_hardware
    from afdplan.report.hardware import device_answer, device_told, devices_told

    devices = shipped_hardware() if name is None else {name: find_hardware(name)}
    if as_json:
        answer = {"hardware": [device_answer(short, device) for short, device in devices.items()]}
        inputs = {"name": name}
        print_json(documented(time_unit="s", inputs=inputs, warnings=[], answer=answer))
    elif name is None:
        tell(devices_told(devices))
    else:
        tell(device_told(devices[name]))
