"""Which operations does one decode layer run, written in torch with the model's shapes?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from afdplan.calibration.architecture import ModelArchitecture
from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.errors import UnsupportedError

__all__ = ["Kernels", "build_kernels"]

# Share of the most popular expert over the next under skewed routing: popularity 1 / rank.
SKEW_EXPONENT = 1.0


def build_kernels(
    architecture: ModelArchitecture, device: str, dtype: str, seed: int, ffn_devices: int
) -> Kernels:
    """Return the operations of one layer, with random weights on `device`."""
    import torch

    held = math.ceil(architecture.experts / ffn_devices) if architecture.experts else 0
    return Kernels(
        torch=torch,
        architecture=architecture,
        device=device,
        dtype=getattr(torch, dtype),
        seed=seed,
        experts_held=held,
    )


@dataclass(kw_only=True)
class Kernels:
    """Builds the callables that the timer runs.

    Attributes
    ----------
    experts_held
        Routed experts on this device, the first ones.
    choices
        How operations were carried out, for the record.
    """

    torch: Any
    architecture: ModelArchitecture
    device: str
    dtype: Any
    seed: int
    experts_held: int
    choices: dict[str, Any] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict)

    def _random(self, *shape: int) -> Any:
        """Return small random weights; the same seed gives the same ones."""
        generator = self.torch.Generator(device=self.device).manual_seed(self.seed)
        values = self.torch.randn(
            *shape, generator=generator, device=self.device, dtype=self.torch.float32
        )
        return (values * 0.02).to(self.dtype)

    def _weight(self, name: str, *shape: int) -> Any:
        """Return the random weights called `name`, made once."""
        if name not in self._kept:
            self._kept[name] = self._random(*shape)
        return self._kept[name]

    def bytes_needed(self, stage: str, load: int) -> float:
        """Return the memory that one point takes, roughly [bytes]."""
        size = self.torch.empty(0, dtype=self.dtype).element_size()
        architecture = self.architecture
        if stage == "attention":
            return float(load * architecture.attention.cached_values * size)
        if stage == "ffn":
            network, hidden = architecture.network, architecture.hidden_size
            weights = self.experts_held * network.expert_parameters(hidden)
            return float((weights or network.dense_parameters(hidden)) * size)
        return float(load * architecture.hidden_size * size)

    def prepare(self, stage: str, load: int, requests: int, routing: str) -> Callable[[], Any]:
        """Return the operation of one point, its inputs made."""
        if stage == "attention":
            return self.attention(requests, load // requests)
        if stage == "ffn":
            if self.experts_held:
                return self.experts(load, routing)
            return self.dense(load)
        return self.copy(load)

    def attention(self, requests: int, context: int) -> Callable[[], Any]:
        """Return one decode step of one attention layer, projections included."""
        attention = self.architecture.attention
        if isinstance(attention, LatentAttention):
            return self._latent(attention, requests, context)
        if isinstance(attention, GroupedAttention):
            return self._grouped(attention, requests, context)
        raise UnsupportedError(f"profile knows no {type(attention).__name__}")

    def _grouped(self, a: GroupedAttention, requests: int, context: int) -> Callable[[], Any]:
        torch, hidden = self.torch, self.architecture.hidden_size
        group, size = a.query_heads // a.kv_heads, a.head_size
        state = self._random(requests, hidden)
        query_rank = a.query_rank
        low = self._weight("low", hidden, query_rank) if query_rank else None
        query = self._weight("query", query_rank or hidden, a.query_heads * size)
        keys_values = self._weight("keys_values", hidden, 2 * a.kv_heads * size)
        out = self._weight("out", a.query_heads * size, hidden)
        cache = self._random(2, requests, a.kv_heads, context, size)

        def run() -> Any:
            q = (state if low is None else state @ low) @ query
            new = (state @ keys_values).view(requests, 2, a.kv_heads, size)
            cache[:, :, :, -1] = new.transpose(0, 1)
            # The heads that share a KV head are the rows of one product: nothing is repeated.
            rows = q.view(requests, a.kv_heads, group, size)
            mixed = torch.nn.functional.scaled_dot_product_attention(rows, cache[0], cache[1])
            return mixed.reshape(requests, -1) @ out

        self.choices["attention_kernel"] = "torch scaled_dot_product_attention, grouped rows"
        return run

    def _latent(self, a: LatentAttention, requests: int, context: int) -> Callable[[], Any]:
        torch, hidden, heads = self.torch, self.architecture.hidden_size, a.query_heads
        key = a.plain_key_size + a.rotary_key_size
        state = self._random(requests, hidden)
        low = self._weight("low", hidden, a.query_rank) if a.query_rank else None
        query = self._weight("query", a.query_rank or hidden, heads * key)
        latent = self._weight("latent", hidden, a.cached_values)
        absorb_key = self._weight("absorb_key", heads, a.plain_key_size, a.kv_rank)
        absorb_value = self._weight("absorb_value", heads, a.kv_rank, a.value_size)
        out = self._weight("out", heads * a.value_size, hidden)
        cache = self._random(requests, 1, context, a.cached_values)
        scale = key**-0.5

        def run() -> Any:
            q = ((state if low is None else state @ low) @ query).view(requests, heads, key)
            cache[:, 0, -1] = state @ latent
            plain = torch.einsum("bhd,hdr->bhr", q[..., : a.plain_key_size], absorb_key)
            rows = torch.cat([plain, q[..., a.plain_key_size :]], dim=-1).unsqueeze(1)
            mixed = torch.nn.functional.scaled_dot_product_attention(
                rows, cache, cache[..., : a.kv_rank], scale=scale
            )
            values = torch.einsum("bhr,hrv->bhv", mixed.squeeze(1), absorb_value)
            return values.reshape(requests, -1) @ out

        self.choices["attention_kernel"] = "torch scaled_dot_product_attention, absorbed latent"
        return run

    def experts(self, tokens: int, routing: str) -> Callable[[], Any]:
        """Return one layer of routed experts on `tokens` tokens, router included."""
        torch, architecture = self.torch, self.architecture
        state = self._random(tokens, architecture.hidden_size)
        hidden, width, held = (
            architecture.hidden_size,
            architecture.network.expert_size,
            self.experts_held,
        )
        router = self._weight("router", hidden, architecture.experts)
        gate_up = self._weight("gate_up", held, hidden, 2 * width)
        down = self._weight("down", held, width, hidden)
        chosen = self._routes(tokens, routing)

        # How many rows are ours is known here, so that nothing waits for the device while timed.
        local = int((chosen < held).sum())
        numbers = torch.arange(held, device=self.device)
        product = torch.nn.functional.grouped_mm

        def run() -> Any:
            weights = torch.softmax((state @ router).float(), dim=-1).gather(1, chosen)
            result = torch.zeros_like(state)
            experts, order = chosen.reshape(-1).sort()
            mine = order[:local]
            if local:
                ends = torch.searchsorted(experts, numbers, right=True).to(torch.int32)
                rows = mine // architecture.experts_per_token
                gate, up = product(state[rows], gate_up, offs=ends).chunk(2, dim=-1)
                outputs = product(torch.nn.functional.silu(gate) * up, down, offs=ends)
                share = weights.reshape(-1)[mine].unsqueeze(1)
                result.index_add_(0, rows, (outputs * share).to(result.dtype))
            return result

        self.choices["expert_kernel"] = "torch grouped_mm over the touched experts, sorted rows"
        self.choices["ffn_device"] = "the one with the most rows of the worker's devices"
        self.choices["skew"] = f"skewed routing: popularity 1 / rank^{SKEW_EXPONENT:g}"
        return run

    def _routes(self, tokens: int, routing: str) -> Any:
        """Return k different experts for every token, alike or by popularity 1 / rank.

        Experts are numbered from those of the busiest device on: it holds the first ones.

        The k largest of log-popularity plus Gumbel noise are a draw without replacement. The
        most popular experts are strewn over all devices, as a placement by load would do.
        """
        torch, architecture = self.torch, self.architecture
        generator = torch.Generator(device="cpu").manual_seed(self.seed + tokens)
        count = architecture.experts
        uniform = torch.rand(tokens, count, generator=generator).clamp_(1e-12, 1 - 1e-7)
        scores = -torch.log(-torch.log(uniform))
        if routing == "skewed":
            ranks = 1 + torch.randperm(count, generator=generator)
            scores = scores - SKEW_EXPONENT * torch.log(ranks.float())
        chosen = scores.topk(architecture.experts_per_token, dim=1).indices
        # An FFN worker is as slow as its busiest device: this device plays that one.
        rows = torch.bincount(chosen.reshape(-1) // self.experts_held)
        offset = int(rows.argmax()) * self.experts_held
        return ((chosen - offset) % count).to(self.device)

    def dense(self, tokens: int) -> Callable[[], Any]:
        """Return one dense feed-forward network on `tokens` tokens."""
        torch, architecture = self.torch, self.architecture
        state = self._random(tokens, architecture.hidden_size)
        width = architecture.network.dense_size
        gate_up = self._weight("gate_up", architecture.hidden_size, 2 * width)
        down = self._weight("down", width, architecture.hidden_size)

        def run() -> Any:
            gate, up = (state @ gate_up).chunk(2, dim=-1)
            return (torch.nn.functional.silu(gate) * up) @ down

        return run

    def copy(self, tokens: int) -> Callable[[], Any]:
        """Return a copy of hidden states, to a second device if there is one."""
        source = self._random(tokens, self.architecture.hidden_size)
        target_device = self.device
        if self.device == "cuda" and self.torch.cuda.device_count() > 1:
            target_device = "cuda:1"
        target = self.torch.empty_like(source, device=target_device)
        self.choices["copy"] = (
            "inside one device: a lower bound of any transfer"
            if target_device == self.device
            else f"to {target_device}"
        )
        return lambda: target.copy_(source)
