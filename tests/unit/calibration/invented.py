"""An invented model on an invented device, and what its kernels take by hand.

Operators of sharpness 1 add up their parts, and every family has a factor of its own: a kernel,
byte, operation or call too many or too few shows in the time.
"""

from __future__ import annotations

from afdplan.calibration.architecture import Block, FeedForward, Mixer, ModelArchitecture
from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.calibration.efficiency import Efficiencies
from afdplan.calibration.hardware import Hardware, Link
from afdplan.calibration.operator import Operator
from afdplan.calibration.placement import place
from afdplan.calibration.precision import Precision

RATES = {"bf16": 1e14, "fp8": 3e14}
DEVICE = Hardware(
    name="Invented", unit="GPU", memory_bandwidth=1e12, memory_size=8e10, matrix_rates=RATES,
    matrix_tile_rows=16, scale_up=Link(bandwidth=4e11, latency=1e-6),
    scale_out=Link(bandwidth=5e10, latency=4e-6), scale_up_devices=8, devices_per_node=4,
    watts=500.0, price_per_hour=2.0,
)  # fmt: skip
OPERATOR = Operator(
    memory_share=0.5, matrix_share=0.25, fixed_time=3e-6, sharpness=1, depth_time=1e-10, error=0.1
)
FACTORS = {
    "attention": 2.0, "latent": 3.0, "gemm": 5.0, "experts": 7.0, "wide": 23.0,
    "elementwise": 11.0, "dispatch": 13.0, "combine": 17.0, "scheduling": 19.0, "imbalance": 0.5,
}  # fmt: skip
SHARES = Efficiencies(
    operator=OPERATOR, link=0.8, transfer_latency=5e-6, scheduling_time=1e-3, expert_imbalance=1.5,
    factors=tuple(FACTORS.items()),
)  # fmt: skip
HIDDEN, VOCABULARY = 1024, 1000

GROUPED = GroupedAttention(query_heads=8, kv_heads=2, head_size=32)
LATENT = LatentAttention(
    query_heads=8, query_rank=48, kv_rank=64, plain_key_size=16, rotary_key_size=8, value_size=24
)
ROUTED = FeedForward(dense_size=194, experts=16, experts_per_token=2, expert_size=96)
DENSE = FeedForward(dense_size=512)
FORMATS = Precision(
    attention_weights="fp8", feed_forward_weights="int4", dense_weights="fp8", cache="fp8",
    send="fp8",
)  # fmt: skip


def model(*mixers: Mixer, networks: tuple[FeedForward, ...] = (ROUTED,)) -> ModelArchitecture:
    """Return a model with these mixers in turn, each before the network of its place."""
    networks += networks[-1:] * (len(mixers) - len(networks))
    return ModelArchitecture(
        name="invented", hidden_size=HIDDEN, vocabulary_size=VOCABULARY, prediction_layers=1,
        blocks=tuple(
            Block(mixers=(one,), feed_forward=(two,))
            for one, two in zip(mixers, networks, strict=True)
        ),
    )  # fmt: skip


def placed(architecture, **options):
    options = {"precision": FORMATS, "efficiencies": SHARES, "ffn_devices": 6} | options
    return place(architecture, DEVICE, **options)


def work(family, moved=0.0, operations=0.0, depth=0.0, rate="bf16"):
    """Half of the bandwidth, a quarter of the rate, 0.1 ns per unit of depth."""
    parts = moved / 0.5e12 + operations / (0.25 * RATES[rate]) + depth * 1e-10
    return FACTORS[family] * parts


def call(family, *parts, **named):
    return FACTORS[family] * 3e-6 + work(family, *parts, **named)


def product(depth, width, tokens, number="fp8"):
    size = {"fp8": 1, "bf16": 2}[number]
    moved = size * depth * (width + tokens) + 2 * tokens * width
    return call("gemm", moved, 2 * depth * width * tokens, depth, rate=number)


def sweep_of_states(tokens):
    """Read and write 1,024 numbers of 2 bytes each."""
    return call("elementwise", 4 * HIDDEN * tokens)


def reduction(tokens, devices, *, calls=True):
    """Both ways of an all-reduce of bf16, and the kernel that adds up."""
    fixed = 2e-6 + call("elementwise") if calls else 0.0
    return fixed + 2 * (devices - 1) / devices * 2 * HIDDEN * tokens / (0.8 * 4e11)
