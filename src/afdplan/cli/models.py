"""Which models does afdplan know, and what are their sizes?"""

from __future__ import annotations

from collections import Counter
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
    from afdplan.calibration.attention import CompressedAttention, LatentAttention
    from afdplan.calibration.recurrent import DeltaAttention, StateSpace

    words = []
    for mixer in dict.fromkeys(model.mixers):
        heads = mixer.heads
        match heads:
            case LatentAttention():
                text = f"MLA {heads.query_heads}"
            case CompressedAttention():
                text = f"CSA {heads.query_heads}" + ("" if short else f" 1/{mixer.compression}")
            case DeltaAttention():
                text = f"delta {heads.query_heads}"
            case StateSpace():
                text = f"Mamba-2 {heads.query_heads}"
            case _:
                kind = "MFA" if getattr(heads, "query_rank", None) else "GQA"
                text = f"{kind} {heads.query_heads}/{getattr(heads, 'kv_heads', 0)}"
        if mixer.selected_tokens is not None:
            text += f" {'k' if short else 'top '}{mixer.selected_tokens}"
        if mixer.window is not None:
            text += f" {'w' if short else 'window '}{mixer.window}"
        words.append(text)
    if not short:
        return ", ".join(dict.fromkeys(words))
    # A line of the list has room for one kind: the commonest that has a cache.
    more = len(set(words)) - 1
    first = words[list(dict.fromkeys(model.mixers)).index(model.mixer)]
    windows = [f" w{m.window}" for m in dict.fromkeys(model.mixers) if m.window is not None]
    if more == 1 and windows and first.split(" w")[0] == words[0].split(" w")[0]:
        return first.split(" w")[0] + windows[0]
    return first.split(" w")[0] + (f" +{more}" if more else "")


def _windows(model: ModelArchitecture) -> list[list[int | None]]:
    """Return (layers, window) of the layers with a cache, whole contexts first."""
    counts = Counter(mixer.window for mixer in model.mixers if mixer.heads.cached_values)
    return [[counts[w], w] for w in sorted(counts, key=lambda w: (w is not None, w or 0))]


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
        "attention_windows": _windows(model),
        "experts": model.experts,
        "experts_per_token": model.experts_per_token,
        "expert_size": model.network.expert_size,
        "shared_size": model.network.dense_size if model.experts else 0,
        "cache_bytes_per_token": sum(k.bytes_per_token for k in kinds if k.window != 1),
        "state_bytes_per_request": model.state_bytes,
        "checkpoint_precision": model.precision,
        "cache_precision": model.cache_precision,
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
            _billions(model.total_parameters),
            _billions(model.active_parameters),
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
        "window of some layers, +1: one more kind of layers. KV: per token in bf16, all layers. "
        "Hugging Face ids and paths of a config.json work wherever a model is asked for.",
        style="dim",
    )


def _billions(count: float) -> str:
    return f"{count / 1e9:.0f}" if count >= 1e11 else f"{count / 1e9:.1f}"


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
    if model.state_bytes:
        rows.append(("state", f"{model.state_bytes / 2**20:,.1f} MiB per request"))
    if model.experts:
        rows.append(
            (
                "experts",
                f"{model.experts_per_token} of {model.experts} per token, width "
                f"{facts['expert_size']}, shared width {facts['shared_size']}",
            )
        )
    rows += [
        ("multi-token prediction", f"{model.prediction_layers} layers"),
        *(("read as", note) for note in model.notes),
        ("checkpoint format", model.precision or "not recognised: give --weight-precision"),
        ("source", model.source),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
