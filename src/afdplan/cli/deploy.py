"""Which configuration files does my serving system need?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from afdplan.cli.options import options
from afdplan.cli.report import documented, json_option, print_json, tell
from afdplan.model import deploy_parameters as ask

if TYPE_CHECKING:
    from afdplan.model.parameters import Execution

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
@click.option("--target", required=True, metavar="NAME", help="vllm-afd-plugin, fastafd, ...")
@click.option("--target-version", metavar="V", help="Of that system; that of the plan otherwise.")
@click.option(
    "--execution",
    type=click.Choice(["synchronous", "barrier-free"]),
    help="With a barrier or without; else what the plan found better.",
)
@click.option("-o", "--output", required=True, metavar="DIR", help="New folder for the files.")
@click.option("--model", metavar="NAME|PATH", help="What the system loads; else that of the plan.")
@options(ask.NODE_DEVICES)
@click.option("--ffn-host", metavar="HOSTS", help="First FFN host of each bundle, with commas.")
@click.option("--attention-host", metavar="HOSTS", help="First attention host of each bundle.")
@click.option(
    "--deployment",
    type=click.Choice(["recommended", "split", "un-split"]),
    default="recommended",
    show_default=True,
    help="What the plan recommends, or one of both.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["scripts", "slurm", "compose", "kubernetes"]),
    default="scripts",
    show_default=True,
    help="How it is started.",
)
@click.option("--image", metavar="NAME", help="Container image; compose and kubernetes need it.")
@click.option("--device", metavar="KIND", help="nvidia, amd or ascend; else by the plan's devices.")
@click.option("--checklist", is_flag=True, help="Also write what to look at first, once it runs.")
@options(ask.MAX_MODEL_LEN)
@click.option("--kv-transfer", metavar="NAME", help="KV connector; prompts come from elsewhere.")
@click.option("--quantization", metavar="NAME", help="Weight format by the system's name.")
@options(ask.PORT)
@json_option
def command(
    plan_file: str,
    target: str,
    target_version: str | None,
    execution: Execution | None,
    output: str,
    model: str | None,
    node_devices: int,
    ffn_host: str | None,
    attention_host: str | None,
    deployment: str,
    form: str,
    image: str | None,
    device: str | None,
    checklist: bool,
    max_model_len: int | None,
    kv_transfer: str | None,
    quantization: str | None,
    port: int,
    as_json: bool,
) -> None:
    """Write the launch scripts of a plan, all coupled settings consistent, and how to check it."""
    import hashlib
    from pathlib import Path

    from afdplan.calibration.catalogue import known_type, served_name
    from afdplan.deploy.emit import deployment_files, ports_of
    from afdplan.deploy.modes import in_mode
    from afdplan.deploy.request import DeployRequest
    from afdplan.files.atomic import write_folder
    from afdplan.files.document import LARGEST_DOCUMENT, open_source
    from afdplan.files.plan_file import read_plan
    from afdplan.report.deploy import deployment_told

    with open_source(plan_file, "a plan", limit=LARGEST_DOCUMENT) as source:
        plan, text = read_plan(source), source.text()
    unsplit = deployment == "un-split" or (deployment == "recommended" and plan.recommends_unsplit)
    if unsplit and target_version is None and execution is None:
        execution = "synchronous"  # without a split there is no mode to choose
    architecture = known_type(plan.model) or known_type(model or "")
    plan, system = in_mode(plan, target, target_version, execution, architecture)
    request = DeployRequest(
        plan=plan,
        model=served_name(plan.model) if model is None else model,
        node_devices=node_devices,
        ffn_hosts=_hosts(ffn_host),
        attention_hosts=_hosts(attention_host),
        unsplit=unsplit,
        one_machine=form == "compose",
        per_pod=form == "kubernetes",
        image=image,
        device=device,
        plan_digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        max_model_len=max_model_len,
        kv_transfer=kv_transfer,
        architecture=architecture,
        quantization=quantization,
        port=port,
        plan_name=Path(plan_file).name,
    )
    files = deployment_files(request, system, form, with_checklist=checklist)
    named = click.get_current_context().get_parameter_source("port")
    if named is ParameterSource.COMMANDLINE and port not in ports_of(request, system):
        raise click.UsageError(f"--port is of a rendezvous, which {target} has none of: leave it")
    files["plan.json"] = text
    write_folder(output, files)
    if as_json:
        print_json(
            documented(
                time_unit=plan.latency.time_unit,
                inputs={
                    "plan": plan_file,
                    "target": target,
                    "target_version": system.version,
                    "execution": system.execution,
                    "format": form,
                    "deployment": "un-split" if request.unsplit else "split",
                    "model": request.model,
                },
                warnings=(),
                answer={"folder": output, "files": sorted(files)},
            )
        )
        return
    tell(deployment_told(plan, system, files, output, execution))
