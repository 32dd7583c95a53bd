"""What may be asked? Every parameter once, for Python, study files, the command line and JSON.

A name here is the only place of its domain, default, choices and help; `afdplan.model.parameter`
says what a record holds. Letters of the papers stand in `metavar`.
"""

from __future__ import annotations

from typing import Literal

from afdplan.model.parameter import Parameter, choice, count, number, text

# Requests: a trace, or laws of lengths.
_LAW = "100, fixed:100, geometric:500, uniform:512..1536, lognormal:mean=1200,cv=1.3"
TRACE = text("trace", "Request trace; its format is detected.", metavar="FILE")
FORMAT = text(
    "format",
    "Force a trace format; prometheus: lengths from a snapshot of /metrics.",
    metavar="NAME",
)
COLUMNS = text(
    "columns",
    "Columns of any other table: prompt=NAME,decode=NAME,arrival=NAME; run=N of several.",
    metavar="MAP",
)
TIME_FORMAT = text(
    "time_format",
    "How arrivals are written, in letters of strptime: %d/%m/%Y %H:%M:%S.",
    metavar="FORM",
)
PROMPT = text("prompt", f"Law of prompt lengths: {_LAW}.", metavar="LAW")
DECODE = text("decode", "Law of output lengths, likewise.", metavar="LAW")
OF_TRACE = (FORMAT, COLUMNS, TIME_FORMAT)
WORKLOAD = (TRACE, *OF_TRACE, PROMPT, DECODE)

# Times: a latency model, or a model on hardware.
LinkKind = Literal["scale-up", "scale-out"]
LATENCY = text(
    "latency",
    "Latency model: a built-in name (deepseek-v3-ascend-910c) or a TOML/JSON file.",
    metavar="NAME|FILE",
)
MODEL = text(
    "model",
    "Derive the latency model: a name of `afdplan models` or a config.json.",
    metavar="NAME|FILE",
)
HARDWARE = text(
    "hardware",
    "Device of the attention workers: a name of `afdplan hardware` or a file.",
    metavar="NAME|FILE",
)
FFN_HARDWARE = text("ffn_hardware", "Device of the FFN workers.", metavar="NAME|FILE")
WEIGHT_PRECISION = text(
    "weight_precision",
    "Format of the weights, for example fp8, int4:4.85 (bits) or int8a16; by default the "
    "checkpoint's.",
    field="precision",
    metavar="NAME",
)
KV_PRECISION = text(
    "kv_precision",
    "Format of the KV cache, for example fp8; by default bf16.",
    field="cache_precision",
    metavar="NAME",
)
LINK = choice(
    "link", "Which link joins both sides; by default what the hardware suggests.", LinkKind
)
SystemName = Literal[
    "any", "fastafd", "stepmesh", "vllm-afd-plugin", "vllm-afd-ascend", "xdeepserve"
]
TransferPlace = Literal["overlapped", "in-stage", "fused"]
SERVING_SYSTEM = choice(
    "serving_system",
    "Whose habits hold: where transfers and router run.",
    SystemName,
    default="any",
)
TRANSFERS = choice(
    "transfers", "Where transfers run; by default as the serving system does.", TransferPlace
)
Side = Literal["attention", "ffn"]
ROUTER_SIDE = choice(
    "router_side",
    "Side that chooses the experts; by default as the serving system does.",
    Side,
)
SHARED_EXPERTS_SIDE = choice(
    "shared_experts_side", "Side of the shared experts; by default the FFN.", Side
)
SPECULATIVE_TOKENS = count(
    "speculative_tokens", "Draft tokens per step.", default=0, minimum=0, maximum=16, metavar="K"
)
ACCEPTANCE = number(
    "acceptance",
    "With --speculative-tokens: chance of each draft.",
    default=0.85,
    maximum=1,
    metavar="P",
)
ATTENTION_DEVICES = count(
    "attention_devices", "Devices per attention worker (TP).", maximum=100_000, metavar="N"
)
FFN_DEVICES = count("ffn_devices", "Devices per FFN worker (TP/EP).", maximum=100_000, metavar="N")
NAMED = (MODEL, HARDWARE, FFN_HARDWARE)
REFINED = (
    WEIGHT_PRECISION,
    KV_PRECISION,
    LINK,
    SERVING_SYSTEM,
    TRANSFERS,
    ROUTER_SIDE,
    SHARED_EXPERTS_SIDE,
    SPECULATIVE_TOKENS,
    ACCEPTANCE,
)
DERIVED = (*NAMED, *REFINED)
DEVICES_PER_WORKER = (ATTENTION_DEVICES, FFN_DEVICES)
LATENCY_CHOICE = (LATENCY, *DERIVED, *DEVICES_PER_WORKER)

# What transfers, launches and uneven ratios cost; shares of the latency model's `coupling`.
FanIn = Literal["even", "whole"]
SEND_ATTENTION, SEND_FFN, RECEIVE_ATTENTION, RECEIVE_FFN = (
    number(
        f"{way}_{worker}",
        f"Share of the transfer {where} that keeps the {name} worker busy.",
        default=0.0,
        maximum=1,
    )
    for way, where in (("send", "to the FFN"), ("receive", "back"))
    for worker, name in (("attention", "attention"), ("ffn", "FFN"))
)
ONE_BY_ONE = Parameter(
    name="one_by_one",
    data="flag",
    default=False,
    help="Peers occupy the FFN worker one after another.",
)
LAUNCH = number("launch", "Constant time of an FFN launch.", default=0.0)
FAN_IN = choice(
    "fan_in",
    "Tokens spread evenly over FFN workers, or each attention worker has one FFN worker.",
    FanIn,
    default="even",
)
DENSE_SHARE = number(
    "dense_share",
    "Share of the FFN's load that a worker does alone for its peers.",
    default=0.0,
    maximum=1,
)
COUPLING = (
    *(SEND_ATTENTION, SEND_FFN, RECEIVE_ATTENTION, RECEIVE_FFN),
    *(ONE_BY_ONE, LAUNCH, FAN_IN, DENSE_SHARE),
)

# One bundle.
Overlap = Literal["pipelined", "ideal"]
Execution = Literal["synchronous", "barrier-free"]
EXECUTION = choice(
    "execution",
    "All attention workers meet at a barrier, or each calls the FFN pool when it is ready.",
    Execution,
    default="synchronous",
)
LEAST_CALLS = count(
    "least_calls",
    "Barrier-free: calls that wait before the FFN pool departs.",
    default=1,
    maximum=1_000_000,
    metavar="K",
)
LONGEST_WAIT = number(
    "longest_wait",
    "Barrier-free: depart with fewer once a call has waited so long (in the model's time unit).",
    metavar="TIME",
)
MOST_TOKENS = count(
    "most_tokens",
    "Barrier-free: most tokens of one departure; by default all that wait.",
    metavar="N",
)
BOARDING = (LEAST_CALLS, LONGEST_WAIT, MOST_TOKENS)
MODE = (EXECUTION, *BOARDING)
ATTENTION_WORKERS = count(
    "attention_workers", "A of one bundle.", maximum=1_000_000, metavar="A", is_required=True
)
FFN_WORKERS = count("ffn_workers", "F of one bundle.", default=1, maximum=1_000_000)
BATCH_SIZE = count(
    "batch_size",
    "Request slots per attention worker and microbatch.",
    maximum=1_000_000,
    metavar="B",
)
REQUESTS_PER_WORKER = count(
    "requests_per_worker",
    "Request slots per attention worker, all microbatches (S = m B).",
    metavar="S",
)
MICROBATCHES = count("microbatches", "In flight, 1 to 8.", default=2, maximum=8)
OVERLAP = choice(
    "overlap",
    "What systems do, or the paper's perfect overlap (ignores microbatches).",
    Overlap,
    default="pipelined",
)
LAYERS = count("layers", "Layers per step.", default=1, maximum=10_000)
STEP_OVERHEAD = number("step_overhead", "Time per step outside the layers.", default=0.0)
# The simulator counts in whole parts of a token.
TOKENS_PER_STEP = number(
    "tokens_per_step", "Above 1 with MTP.", default=1.0, minimum=1, maximum=1000
)
BUNDLE = (ATTENTION_WORKERS, FFN_WORKERS, BATCH_SIZE, MICROBATCHES)
SLOTS = (BATCH_SIZE, REQUESTS_PER_WORKER, MICROBATCHES, OVERLAP, FFN_WORKERS)

# A ratio.
Method = Literal["exact", "gaussian", "mean-field"]
Phase = Literal["random", "aligned"]
METHOD = choice(
    "method",
    "The barrier: exact law, normal approximation, or none.",
    Method,
    default="exact",
)
FFN_WEIGHT = number(
    "ffn_weight",
    "Cost of an FFN worker over that of an attention worker; by default by devices, 1 if the "
    "latency model names none.",
    strict=True,
    metavar="W",
)
MAX_ATTENTION_WORKERS = count(
    "max_attention_workers",
    "Largest number considered; by default 64 per FFN worker, more where needed.",
    metavar="R",
)
HORIZON = count(
    "horizon",
    "Average over N requests per worker from a fresh start (needs --method mean-field).",
    metavar="N",
)
PHASE = choice(
    "phase",
    "Ages of requests that are all alike: random, or one age as in fixed-length benchmarks.",
    Phase,
    default="random",
)
BY = text(
    "by",
    "Also the ratio over the clock, window by window, and what one fixed ratio costs: 1h, 30min, "
    "day.",
    typed="span",
    metavar="TIME",
)
Placement = Literal[
    "round-robin",
    "fewest-requests",
    "fewest-tokens",
    "longest-prompt",
    "longest-prompt-rank",
    "longest-request",
]
PLACEMENT = choice(
    "placement",
    "Which free slot an admitted request gets.",
    Placement,
    former=(("least-requests", "fewest-requests"), ("least-tokens", "fewest-tokens")),
    default="round-robin",
)
PLACEMENT_WINDOW = count(
    "placement_window",
    "With longest-*: choose among K - 1 more waiting requests than there are free slots.",
    default=1,
    maximum=64,
    metavar="K",
)
RATIO = (METHOD, FFN_WEIGHT, MAX_ATTENTION_WORKERS, HORIZON, PHASE, PLACEMENT, *MODE)
PROBLEM = (FFN_WORKERS, MICROBATCHES, OVERLAP, METHOD, PHASE, FFN_WEIGHT, HORIZON, *MODE, PLACEMENT)

# A simulation.
Start = Literal["stationary", "fresh"]
Window = Literal["steady", "all", "first-80"]
Memory = Literal["reserve", "preempt"]
FfnTokens = Literal["padded", "active"]
ArrivalProcess = Literal["trace", "poisson", "gamma"]
SIMULATED_REQUESTS = count(
    "simulated_requests",
    "Finished requests to wait for, per attention worker.",
    field="requests_per_worker",
    option="--requests",
    default=10_000,
    maximum=10**12,
    metavar="N",
)
SEED = count("seed", "Of all that is random.", default=0, minimum=0)
START = choice(
    "start",
    "Slots as an observer finds them (default), or all requests begin at time zero (default with "
    "arrivals).",
    Start,
    default="stationary",
)
MEASURED = choice(
    "measured",
    "Leave the warm-up out, keep all, or the first 80 % of completions.",
    Window,
    field="window",
    option="--window",
    default="steady",
)
ARRIVALS = choice(
    "arrivals",
    "When requests come; gamma gaps need --arrival-cv.",
    ArrivalProcess,
    field="process",
)
ARRIVAL_RATE = number(
    "arrival_rate",
    "Mean arrivals, scales a trace's: 20/s, 900/min; per time unit if abstract: 0.01.",
    field="rate",
    option="--rate",
    strict=True,
    typed="model rate",
    metavar="R",
)
ARRIVAL_CV = number(
    "arrival_cv",
    "Of the gaps of gamma.",
    field="cv",
    default=1.0,
    strict=True,
    maximum=20,
    metavar="CV",
)
KV_CAPACITY = count("kv_capacity", "KV memory of one attention worker.", metavar="TOKENS")
MEMORY = choice(
    "memory",
    "Admit when the largest size fits, or the present one (and preempt).",
    Memory,
    default="reserve",
)
FFN_TOKENS = choice(
    "ffn_tokens",
    "Whether FFN and transfers work on empty slots too.",
    FfnTokens,
    default="padded",
)
EXPERT_IMBALANCE = number(
    "expert_imbalance",
    "Mean factor (>= 1) on the FFN time because the busiest expert decides.",
    default=1.0,
    minimum=1,
)
SCATTER = number("expert_imbalance_cv", "How it scatters beyond 1.", default=0.0, maximum=3)
VARIATION = (
    *(
        SCATTER.changed(name=f"{stage}_variation", field=stage, help=f"Of the {stage} time.")
        for stage in ("attention", "send", "ffn", "receive")
    ),
    EXPERT_IMBALANCE,
    SCATTER,
)
REPLICATIONS = count(
    "replications", "Independent runs; by default as needed.", maximum=100_000, metavar="R"
)
PRECISION = number(
    "precision",
    "Run until the throughput's interval is this narrow (half-width), e.g. 0.5%.",
    strict=True,
    below=1,
    typed="share",
    metavar="SHARE",
)
P99_PRECISION = PRECISION.changed(
    name="p99_precision", help="The same for the 99th percentile of the step time."
)
CONFIDENCE = number("confidence", "Of all intervals.", default=0.95, strict=True, below=1)
ONLY_SIMULATED = (PLACEMENT_WINDOW, KV_CAPACITY, MEMORY, FFN_TOKENS)
"""What of a ratio no formula knows."""
PLAYED = (*ONLY_SIMULATED, SEED)
SCENARIO = (
    *(SIMULATED_REQUESTS, SEED, START, MEASURED, PLACEMENT, PLACEMENT_WINDOW),
    *(KV_CAPACITY, MEMORY, FFN_TOKENS),
    *(REPLICATIONS, PRECISION, P99_PRECISION, CONFIDENCE),
    *MODE,
)
