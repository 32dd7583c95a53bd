"""Which models does afdplan know, and what are their sizes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from afdplan.calibration.architecture import ModelArchitecture

__all__ = ["command"]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(name: str | None, as_json: bool) -> None:
    """List the models whose sizes ship with afdplan, or show one.

    NAME is a short name, a Hugging Face id in any case, or the path of a config.json.
    """
    from afdplan.calibration.catalogue import find_model, shipped_models
    from afdplan.report.document import document, to_json

    models = shipped_models() if name is None else {name: find_model(name)}
    if as_json:
        answer = {"models": [_facts(short, model) for short, model in models.items()]}
        inputs = {"name": name}
        click.echo(to_json(document(time_unit="s", inputs=inputs, warnings=[], answer=answer)))
    elif name is None:
        _print_list(models)
    else:
        _print_one(name, models[name])


def _attention(model: ModelArchitecture, short: bool = False) -> str:
    """Return the attention in words."""
    from afdplan.calibration.architecture import LatentAttention

    attention = model.attention
    if isinstance(attention, LatentAttention):
        text = f"MLA {attention.query_heads}"
    else:
        heads = getattr(attention, "kv_heads", 0)
        kind = "MFA" if getattr(attention, "query_rank", None) else "GQA"
        text = f"{kind} {attention.query_heads}/{heads}"
    if model.indexer is not None:
        text += f" {'k' if short else 'top '}{model.indexer.selected_tokens}"
    windows = [window for _, window in model.attention_windows if window is not None]
    return text + "".join(f" {'w' if short else 'window '}{window}" for window in windows)


def _facts(short: str, model: ModelArchitecture) -> dict[str, Any]:
    from afdplan.calibration.memory import cache_kinds
    from afdplan.calibration.precision import Precision

    kinds = cache_kinds(model, Precision(), 1)
    return {
        "short_name": short,
        "name": model.name,
        "parameters": model.total_parameters,
        "active_parameters": model.active_parameters,
        "published_parameters": model.published_parameters or None,
        "layers": model.layers,
        "dense_layers": model.dense_layers,
        "prediction_layers": model.prediction_layers,
        "hidden_size": model.hidden_size,
        "attention": _attention(model),
        "attention_windows": [list(pair) for pair in model.attention_windows],
        "experts": model.experts,
        "experts_per_token": model.experts_per_token,
        "expert_size": model.expert_size,
        "shared_size": model.shared_size,
        "cache_bytes_per_token": sum(kind.bytes_per_token for kind in kinds),
        "checkpoint_precision": model.precision,
        "source": model.source,
    }


def _print_list(models: dict[str, ModelArchitecture]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="Models that ship with afdplan",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("name", no_wrap=True)
    for column in ("total\n10^9", "act.\n10^9", "lay-\ners"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("attention\n", no_wrap=True)
    for column in ("ex-\nperts", "KV\nKiB", "format\n"):
        table.add_column(column, justify="right", no_wrap=True)
    for short, model in models.items():
        facts = _facts(short, model)
        table.add_row(
            short,
            f"{model.total_parameters / 1e9:.1f}",
            f"{model.active_parameters / 1e9:.1f}",
            str(model.layers),
            _attention(model, short=True),
            f"{model.experts_per_token}/{model.experts}" if model.experts else "dense",
            f"{facts['cache_bytes_per_token'] / 1024:.0f}",
            model.precision or "?",
        )
    console = Console()
    console.print(table)
    console.print(
        "total, act.: parameters, active ones. k: tokens that sparse attention selects, w: sliding "
        "window of some layers. KV: per token in bf16, all layers. Hugging Face ids and paths of "
        "a config.json work wherever a model is asked for.",
        style="dim",
    )


def _print_one(name: str, model: ModelArchitecture) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = _facts(name, model)
    table = Table(title=model.name, title_justify="left", show_header=False)
    table.add_column("fact")
    table.add_column("value", overflow="fold")
    published = model.published_parameters
    stated = f" (published {published / 1e9:.0f} B)" if published else ""
    rows = [
        ("parameters", f"{model.total_parameters / 1e9:.1f} B{stated}"),
        ("active per token", f"{model.active_parameters / 1e9:.2f} B, embeddings included"),
        ("layers", f"{model.layers}, of which {model.dense_layers} without experts"),
        ("hidden size", f"{model.hidden_size}"),
        ("attention", facts["attention"]),
        ("KV cache", f"{facts['cache_bytes_per_token']:,.0f} bytes per token in bf16"),
    ]
    if model.experts:
        rows.append(
            (
                "experts",
                f"{model.experts_per_token} of {model.experts} per token, width "
                f"{model.expert_size}, shared width {model.shared_size}",
            )
        )
    rows += [
        ("multi-token prediction", f"{model.prediction_layers} layers"),
        ("checkpoint format", model.precision or "not recognised: give --weight-precision"),
        ("source", model.source),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
