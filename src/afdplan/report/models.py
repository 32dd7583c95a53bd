"""How are the models that afdplan knows told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from afdplan.report.quantities import counted
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

if TYPE_CHECKING:
    from afdplan.calibration.architecture import ModelArchitecture

__all__ = ["model_answer", "model_told", "models_told"]


def model_answer(short: str, model: ModelArchitecture) -> dict[str, Any]:
    """Return what ``afdplan models --json`` says of a model."""
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
        "cache_bytes_per_token": _cache_bytes(model),
        "checkpoint_precision": model.precision,
        "source": model.source,
    }


def _cache_bytes(model: ModelArchitecture) -> float:
    from afdplan.calibration.memory import cache_kinds
    from afdplan.calibration.precision import Precision

    return sum(kind.bytes_per_token for kind in cache_kinds(model, Precision(), 1))


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


def models_told(models: Mapping[str, ModelArchitecture]) -> Telling:
    """Return all models in one table, by their short names."""
    rows = [
        (
            short,
            _attention(model, short=True),
            model.precision or "?",
            f"{model.total_parameters / 1e9:.1f}",
            f"{model.active_parameters / 1e9:.1f}",
            f"{model.layers}",
            f"{model.experts_per_token}/{model.experts}" if model.experts else "dense",
            f"{_cache_bytes(model) / 1024:.0f}",
        )
        for short, model in models.items()
    ]
    return Telling(
        tables=(
            TextTable(
                title="Models that ship with afdplan",
                columns=(
                    "name",
                    "attention",
                    "format",
                    "total 10^9",
                    "act. 10^9",
                    "layers",
                    "experts",
                    "KV KiB",
                ),
                rows=rows,
                left=3,
                note="total, act.: parameters, active ones. k: tokens that sparse attention "
                "selects, w: sliding window of some layers. KV: per token in bf16, all layers. "
                "Hugging Face ids and paths of a config.json work wherever a model is asked for.",
            ),
        )
    )


def model_told(model: ModelArchitecture) -> Telling:
    """Return one model, fact by fact."""
    return Telling(answer=model.name, words=tuple(_facts(model)))


def _facts(model: ModelArchitecture) -> Iterable[Fact]:
    published = model.published_parameters
    stated = f" (published {published / 1e9:.0f} B)" if published else ""
    yield Fact(name="parameters", value=f"{model.total_parameters / 1e9:.1f} B{stated}")
    yield Fact(
        name="active per token",
        value=f"{model.active_parameters / 1e9:.2f} B, embeddings included",
    )
    yield Fact(name="layers", value=f"{model.layers}, of which {model.dense_layers} dense")
    yield Fact(name="hidden size", value=f"{model.hidden_size:,}")
    yield Fact(name="attention", value=_attention(model))
    yield Fact(name="KV cache", value=f"{_cache_bytes(model):,.0f} bytes per token in bf16")
    if model.experts:
        yield Fact(
            name="experts",
            value=f"{model.experts_per_token} of {model.experts} per token, width "
            f"{model.expert_size:,}, shared width {model.shared_size:,}",
        )
    yield Fact(name="multi-token prediction", value=counted(model.prediction_layers, "layer"))
    yield Fact(
        name="checkpoint format",
        value=model.precision or "not recognised: give --weight-precision",
    )
    yield Fact(name="source", value=model.source)
