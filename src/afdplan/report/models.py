"""How are the models that afdplan knows told to a person and to a machine?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
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
        **chosen(model, "layers dense_layers prediction_layers hidden_size"),
        "attention": _attention(model),
        "attention_windows": _windows(model),
        **chosen(model, "experts experts_per_token"),
        "expert_size": model.network.expert_size,
        "shared_size": model.network.dense_size if model.experts else 0,
        "cache_bytes_per_token": _cache_bytes(model),
        "state_bytes_per_request": model.state_bytes,
        "checkpoint_precision": model.precision,
        **chosen(model, "attention_precision cache_precision"),
        "formats": _formats(model),
        "weight_bytes": _weight_bytes(model),
        "source": model.source,
    }


def _formats(model: ModelArchitecture) -> dict[str, str] | None:
    """Return the format of every part of the weights; None if it is not recognised."""
    stored = model.stored
    if stored is None:
        return None
    return {
        "experts": stored.feed_forward_weights,
        "dense": stored.common_weights,
        "attention": stored.attention_weights,
        "embeddings": stored.embedding_weights,
        "head": stored.head_weights,
    }


def _weight_bytes(model: ModelArchitecture) -> float | None:
    from afdplan.calibration.memory import attention_weight_bytes, ffn_weight_bytes

    if model.stored is None:
        return None
    return attention_weight_bytes(model, model.stored, 1) + ffn_weight_bytes(model, model.stored, 1)


def _cache_bytes(model: ModelArchitecture) -> float:
    from afdplan.calibration.memory import cache_kinds
    from afdplan.calibration.precision import Precision

    kinds = cache_kinds(model, Precision(), 1)
    return sum(kind.bytes_per_token for kind in kinds if kind.window != 1)


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


def _billions(count: float) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e11 else f"{count / 1e9:,.1f}"


def models_told(models: Mapping[str, ModelArchitecture]) -> Telling:
    """Return all models in one table, by their short names."""

    def experts(model: ModelArchitecture) -> str:
        return f"{model.experts_per_token}/{model.experts}" if model.experts else "dense"

    return Telling(
        brief=tuple(_families(models)),
        following="afdplan models deepseek-v3",
        tables=(
            TextTable.of(
                "Models that ship with afdplan",
                models.items(),
                {
                    "name": lambda named: named[0],
                    "attention": lambda named: _attention(named[1], short=True),
                    "format": lambda named: named[1].precision or "?",
                    "total 10^9": lambda named: _billions(named[1].total_parameters),
                    "act. 10^9": lambda named: _billions(named[1].active_parameters),
                    "layers": lambda named: f"{named[1].layers}",
                    "experts": lambda named: experts(named[1]),
                    "KV KiB": lambda named: f"{_cache_bytes(named[1]) / 1024:.0f}",
                },
                left=3,
                note="total, act.: parameters, active ones. k: tokens that sparse attention "
                "selects, w: sliding window of some layers, +1: one more kind of layers. "
                "KV: per token in bf16, all layers. "
                "Hugging Face ids and paths of a config.json work wherever a model is asked for.",
            ),
        ),
    )


def _families(models: Mapping[str, ModelArchitecture]) -> Iterable[Fact]:
    """Yield the short names by family: what stands before the first digit or dash."""
    families: dict[str, list[str]] = {}
    for short in models:
        families.setdefault(re.split("[^a-z]", short, maxsplit=1)[0] or short, []).append(short)
    for family, names in families.items():
        yield Fact(family, ", ".join(names))


def model_told(model: ModelArchitecture) -> Telling:
    """Return one model, fact by fact."""
    return Telling(answer=model.name, words=tuple(_facts(model)))


def _facts(model: ModelArchitecture) -> Iterable[Fact]:
    published = model.published_parameters
    stated = f" (published {published / 1e9:,.0f} B)" if published else ""
    yield Fact("parameters", f"{model.total_parameters / 1e9:,.1f} B{stated}")
    yield Fact("active per token", f"{model.active_parameters / 1e9:.2f} B, embeddings included")
    yield Fact("layers", f"{model.layers}, of which {model.dense_layers} dense")
    yield Fact("hidden size", f"{model.hidden_size:,}")
    yield Fact("attention", _attention(model))
    yield Fact("KV cache", f"{_cache_bytes(model):,.0f} bytes per token in bf16")
    if model.state_bytes:
        yield Fact("state", f"{model.state_bytes / 2**20:,.1f} MiB per request")
    if model.experts:
        yield Fact(
            "experts",
            f"{model.experts_per_token} of {model.experts} per token, width "
            f"{model.network.expert_size:,}, shared width {model.network.dense_size:,}",
        )
    yield Fact("multi-token prediction", counted(model.prediction_layers, "layer"))
    if model.stored is None:
        unread = f"{model.precision_source} cannot be read as one format: give --weight-precision"
        yield Fact("checkpoint format", unread)
    else:
        parts = ", ".join(f"{part} {form}" for part, form in (_formats(model) or {}).items())
        yield Fact("checkpoint format", f"{model.precision}, from {model.precision_source}")
        yield Fact("weights", f"{(_weight_bytes(model) or 0) / 1e9:,.1f} GB: {parts}")
    if model.cache_precision or model.cache_unread:
        unread = f"{model.cache_unread} cannot be read: give --kv-precision"
        yield Fact("KV cache asked for", model.cache_precision or unread)
    for note in model.notes:
        yield Fact("read as", note)
    yield Fact("source", model.source)
