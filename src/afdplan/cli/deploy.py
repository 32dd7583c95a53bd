"""Which configuration files does my serving system need?"""

from __future__ import annotations

import click

from afdplan.cli.options import json_option

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan plan --model deepseek-v3 --hardware h200 --trace requests.csv --tpot 50ms \\
      --devices 64 --target vllm-afd-plugin --json > plan.json
  afdplan deploy plan.json --target vllm-afd-plugin -o deployment
"""


def _hosts(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(host.strip() for host in text.split(","))


@click.command("deploy", epilog=EXAMPLES)
@click.argument("plan_file", metavar="PLAN.json")
@click.option("--target", required=True, metavar="NAME", help="vllm-afd-plugin or fastafd.")
@click.option("-o", "--output", required=True, metavar="DIR", help="New folder for the files.")
@click.option("--model", metavar="NAME|PATH", help="What the system loads; else that of the plan.")
@click.option("--node-devices", type=int, default=8, show_default=True, help="Devices of one host.")
@click.option("--ffn-host", metavar="HOSTS", help="First FFN host of each bundle, with commas.")
@click.option("--attention-host", metavar="HOSTS", help="First attention host of each bundle.")
@click.option("--port", type=int, default=6239, show_default=True, help="First rendezvous port.")
@json_option
def command(
    plan_file: str,
    target: str,
    output: str,
    model: str | None,
    node_devices: int,
    ffn_host: str | None,
    attention_host: str | None,
    port: int,
    as_json: bool,
) -> None:
    """Write the launch scripts of a plan, all coupled settings consistent, and how to check it."""
    from pathlib import Path

    from afdplan.deploy.emit import deployment_files
    from afdplan.deploy.request import DeployRequest
    from afdplan.files.atomic import write_folder
    from afdplan.files.document import LARGEST_DOCUMENT, open_source
    from afdplan.files.plan_file import read_plan

    with open_source(plan_file, "a plan", limit=LARGEST_DOCUMENT) as source:
        plan, text = read_plan(source), source.text()
    request = DeployRequest(
        plan=plan,
        model=_served_name(plan.model) if model is None else model,
        node_devices=node_devices,
        ffn_hosts=_hosts(ffn_host),
        attention_hosts=_hosts(attention_host),
        port=port,
        plan_name=Path(plan_file).name,
    )
    files = deployment_files(request, target)
    files["plan.json"] = text
    write_folder(output, files)
    if as_json:
        from afdplan.report.document import document, to_json

        click.echo(
            to_json(
                document(
                    time_unit=plan.latency.time_unit,
                    inputs={"plan": plan_file, "target": target, "model": request.model},
                    warnings=(),
                    answer={"folder": output, "files": sorted(files)},
                )
            )
        )
        return
    click.echo(f"{output}: {len(files)} files for {target}; start with {output}/README.md")
    if not request.ffn_hosts and target == "vllm-afd-plugin":
        click.echo("set the hosts in bundle-*/cluster.env first: the scripts refuse placeholders")


def _served_name(model: str) -> str:
    """Return what a serving system calls a shipped model; paths stay as they are."""
    from afdplan.calibration.catalogue import find_model, shipped_models
    from afdplan.errors import InvalidInputError

    if not model:
        return ""
    try:
        found = find_model(model)
    except InvalidInputError:
        return model
    return found.name if any(m.name == found.name for m in shipped_models().values()) else model
