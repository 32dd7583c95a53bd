"""What may be asked of a plan? As `parameters.py`: limits, costs, prefill and failures."""

from __future__ import annotations

from typing import Literal

from afdplan.model.parameter import choice, count, number, text

Statistic = Literal["mean", "p50", "p95", "p99"]
STEP_PROBABILITIES = (0.5, 0.95, 0.99)
"""Of the percentiles that are told of a step; one of them may be limited."""
DEVICES = count("devices", "Most devices of both sides.", maximum=100_000, metavar="N")
REQUESTS_PER_SECOND = number(
    "requests_per_second",
    "Requests/s to reach with fewest devices: 20/s, 900/min.",
    option="--rate",
    strict=True,
    typed="rate",
    metavar="R",
)
TIME_PER_OUTPUT_TOKEN = number(
    "time_per_output_token",
    "Most time per output token: 50ms, 0.05s.",
    option="--tpot",
    strict=True,
    typed="duration",
    metavar="TIME",
)
STATISTIC = choice(
    "statistic",
    "Of the step-time law that is held against --tpot.",
    Statistic,
    option="--tpot-statistic",
    default="mean",
)
OVERFLOW_PROBABILITY = number(
    "overflow_probability",
    "Most chance per attention worker and step that the KV cache overflows.",
    option="--overflow",
    default=1e-3,
    maximum=1,
    metavar="P",
)
NODE_DEVICES = count(
    "node_devices",
    "Each side fills whole nodes of N devices; 1 shares nodes.",
    default=1,
    maximum=100_000,
    metavar="N",
)
OPTIONAL_DEVICES = count("optional_devices", default=0, minimum=0)
MARGIN = number(
    "margin",
    "Kept away from every limit: of the time, of the KV memory, and on top of the rate: 10%.",
    default=0.0,
    below=1,
    typed="share",
    metavar="SHARE",
)
LIMITS = (
    *(DEVICES, REQUESTS_PER_SECOND, TIME_PER_OUTPUT_TOKEN, STATISTIC, OVERFLOW_PROBABILITY),
    *(NODE_DEVICES, MARGIN),
)
PLANNED_WINDOW = text(
    "window",
    "Requests to plan for: all (the limits hold in every part of the trace), peak (the busiest "
    "hour), or HH:MM-HH:MM of every day.",
    default="all",
    metavar="WHEN",
)
TARGET = text(
    "target",
    "Serving system whose legal pairs are searched: vllm-afd-plugin, fastafd, ...",
    default="any",
    metavar="NAME",
)
TARGET_VERSION = text("target_version", "Of that system; the newest known otherwise.", metavar="V")
TARGETS = (TARGET, TARGET_VERSION)
LARGEST_BATCH_SIZE = count(
    "largest_batch_size",
    "Largest B tried, with every one below.",
    option="--max-batch-size",
    default=1024,
    maximum=1_000_000,
    metavar="B",
)
KV_TOKENS = number(
    "kv_tokens",
    "With --latency: KV tokens that fit on one attention worker.",
    strict=True,
    metavar="N",
)
COLOCATED_KV_TOKENS = KV_TOKENS.changed(
    name="colocated_kv_tokens",
    help="With --latency: the same on a worker that holds the FFN weights too.",
)
PER = text("per", "What throughput is divided by.", default="device")
ATTENTION_DEVICE_COST = number(
    "attention_device_cost",
    "Price or watts of an attention device (taken from the hardware otherwise).",
    field="attention",
    option="--attention-cost",
    default=1.0,
    strict=True,
    metavar="C",
)
FFN_DEVICE_COST = ATTENTION_DEVICE_COST.changed(
    name="ffn_device_cost", field="ffn", option="--ffn-cost", help="Likewise of an FFN device."
)
COST = (PER, ATTENTION_DEVICE_COST, FFN_DEVICE_COST)

# A service: prefill, arrivals, failures.
PrefillPolicy = Literal["first-come", "shortest-prompt"]
PrefixCache = Literal["none", "recorded", "session"]
PrefillArrivals = Literal["trace", "poisson"]
TIME_TO_FIRST_TOKEN = number(
    "time_to_first_token",
    "Most time to first token: then devices are shared between prefill, attention and FFN.",
    option="--ttft",
    strict=True,
    typed="duration",
    metavar="TIME",
)
FIRST_TOKEN_STATISTIC = STATISTIC.changed(
    name="first_token_statistic",
    option="--ttft-statistic",
    help="Of the requests' times that is held against --ttft.",
    default="p99",
)
PREFILL_HARDWARE = text(
    "prefill_hardware",
    "Device of the prefill workers; by default that of the attention workers.",
    metavar="NAME|FILE",
)
PREFILL_LATENCY = text(
    "prefill_latency",
    "Measured times of a prefill worker, as `calibrate --stage prefill` writes them.",
    metavar="FILE",
)
PREFILL_DEVICES = count(
    "prefill_devices",
    "Devices of one prefill worker; by default the best number.",
    maximum=100_000,
    metavar="N",
)
PREFILL_CHUNK = count(
    "prefill_chunk",
    "Most prompt tokens of one pass.",
    default=8192,
    maximum=10_000_000,
    metavar="TOKENS",
)
PREFILL_POLICY = choice(
    "prefill_policy", "Which waiting prompt is next.", PrefillPolicy, default="first-come"
)
PREFILL_ARRIVALS = choice(
    "prefill_arrivals",
    "Arrivals at the prefill workers: those of the trace, or Poisson where it has none.",
    PrefillArrivals,
    default="trace",
)
PREFIX_CACHE = choice(
    "prefix_cache",
    "Prompt tokens that need no computing: none; as the trace records them (block ids, cached "
    "tokens); or the session so far.",
    PrefixCache,
    default="none",
)
SERVICE = (
    *(TIME_TO_FIRST_TOKEN, FIRST_TOKEN_STATISTIC, PREFILL_HARDWARE, PREFILL_LATENCY),
    *(PREFILL_DEVICES, PREFILL_CHUNK, PREFILL_POLICY, PREFILL_ARRIVALS, PREFIX_CACHE),
)

DEVICE_MTBF = number(
    "device_mtbf",
    "Mean time between failures of a device; one stops its whole bundle: 10000h.",
    strict=True,
    typed="span",
    metavar="TIME",
)
RESTART = number(
    "restart",
    "With --device-mtbf: until a bundle works again: 5min.",
    default=300.0,
    typed="span",
    metavar="TIME",
)
REPAIR = number(
    "repair",
    "With --device-mtbf: mean time until a failed device is back; by default within --restart.",
    default=0.0,
    typed="span",
    metavar="TIME",
)
SPARE_DEVICES = count(
    "spare_devices",
    "With --repair: devices of the budget that stand by.",
    default=0,
    minimum=0,
    maximum=100_000,
    metavar="N",
)
MAX_BUNDLE_DEVICES = count(
    "max_bundle_devices", "Most devices of one bundle.", maximum=100_000, metavar="N"
)
FAILURES = (DEVICE_MTBF, RESTART, REPAIR, SPARE_DEVICES)
