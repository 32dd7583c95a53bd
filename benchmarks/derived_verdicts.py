"""Does the derived verdict, split or not, agree with what was measured of both?

Every published pair of a split and an un-split deployment of one model on devices of one kind,
asked by names alone at the published sizes; `python -m benchmarks.derived_models` writes the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.space import SearchSpace
from afdplan.planning.verdict_error import gain_interval
from benchmarks.published_steps import (
    ASCEND_TOKENS,
    ASCEND_UNSPLIT_TOKENS,
    FASTAFD_REPRODUCED,
    FASTAFD_STEP_MS,
    FASTAFD_TOKENS,
    WIDE_EP_TOKENS,
    WIDE_EP_WALL_TOKENS,
    XDEEPSERVE_TOKENS,
)

QWEN = "qwen3-235b-a22b-fp8"
SHORT = {QWEN: "Qwen3-235B", "minimax-m2.5": "MiniMax-M2.5"}


@dataclass(frozen=True)
class Verdict:
    """What was measured of a split over an un-split deployment, and what is derived of both."""

    what: str
    measured: float
    gain: float
    low: float
    high: float

    @property
    def told(self) -> str:
        """What the product answers: it splits where the whole interval is above zero."""
        return "yes" if self.low > 0 else "no" if self.high < 0 else "cannot tell"

    @property
    def is_within(self) -> bool:
        return self.low <= self.measured <= self.high

    @property
    def is_right(self) -> bool:
        return self.told == "cannot tell" or (self.measured > 0) == (self.told == "yes")


@dataclass(frozen=True)
class Pair:
    """Sizes of both: workers and requests per microbatch, and groups of the split."""

    attention: int
    ffn: int
    requests: int
    ranks: int
    rank_requests: int
    groups: int = 1
    shared_ffn: bool = False
    """Whether all groups take turns on one set of FFN devices."""

    @property
    def devices(self) -> int:
        return self.groups * self.attention + (1 if self.shared_ffn else self.groups) * self.ffn


def verdict(
    what: str,
    measured: float,
    pair: Pair,
    names: tuple[str, str],
    law: IndependentLengths,
    **options: Any,
) -> Verdict:
    """Return both at the published sizes, two microbatches split and one batch un-split."""
    placement = place(find_model(names[0]), find_hardware(names[1]), **options)
    source = DerivedSource(placement, attention_devices=(1,))
    sizes = tuple(sorted({pair.requests, pair.rank_requests}))
    space = SearchSpace(batch_sizes=sizes, microbatches=(2,), ffn_workers=(pair.ffn,))
    search = DesignSearch(law, source, space, DeviceCost())
    design = Design(
        bundles=1,
        attention_workers=pair.attention,
        ffn_workers=pair.ffn,
        batch_size=pair.requests,
        microbatches=2,
        ffn_devices=1,
    )
    limits = Limits(devices=max(pair.devices, pair.ranks))
    split = search.describe(design, limits)
    unsplit = ColocatedSearch.of(search).deployed(
        replicas=1,
        ranks=pair.ranks,
        devices_per_rank=1,
        batch_size=pair.rank_requests,
        two_batch_overlap=False,
        limits=limits,
    )
    per_device = pair.groups * split.tokens_per_second / pair.devices
    gain = per_device / unsplit.tokens_per_second_per_device - 1
    interval = gain_interval(law, source, split, unsplit, gain)
    return Verdict(what, measured, gain, interval.low, interval.high)


def verdicts() -> list[Verdict]:
    """Return all of them."""
    return [*_fastafd(), *_ascend(), *_xdeepserve()]


def _fastafd() -> Iterator[Verdict]:
    """FastAFD against vLLM's wide expert parallelism on GB200, within CUDA spans but for one."""

    def one(model, context, nodes, requests, rate, width, clock="") -> Verdict:
        points = {key[:2]: key[2] for key in WIDE_EP_TOKENS[model]}
        ranks = points[context, width]
        base = WIDE_EP_WALL_TOKENS if clock else WIDE_EP_TOKENS[model]
        return verdict(
            f"FastAFD, {SHORT[model]} {context}K, {nodes}:1 against EP{width}{clock}",
            rate / base[context, width, ranks] - 1,
            Pair(4 * nodes, 4, requests, width, ranks),
            (model, "gb200"),
            IndependentLengths(prompt=f"fixed:{1024 * context}", decode="fixed:1"),
            serving_system="fastafd",
        )

    for nodes, step in FASTAFD_STEP_MS.items():
        rate = FASTAFD_REPRODUCED.get(nodes, nodes / (nodes + 1) * 96 / step * 1e3)
        yield one(QWEN, 8, nodes, 48, rate, 16)
    yield one(QWEN, 8, 7, 48, FASTAFD_REPRODUCED[7], 4)
    yield one(QWEN, 8, 7, 48, FASTAFD_REPRODUCED[7], 8, ", wall clock")
    for (model, context), (nodes, requests, rate) in FASTAFD_TOKENS.items():
        for width in (16, 4):
            yield one(model, context, nodes, requests, rate, width)


def _ascend() -> Iterator[Verdict]:
    """vLLM's plugin on dies of Ascend 910C; 64 dies un-split."""
    for (context, attention), rate in ASCEND_TOKENS.items():
        yield verdict(
            f"vLLM AFD plugin, DeepSeek-V3.2 {context}K, {attention}:64 against EP64",
            rate / ASCEND_UNSPLIT_TOKENS[context] - 1,
            Pair(attention, 64, 224 // context, 64, 256 // context),
            ("deepseek-v3.2", "ascend-910c"),
            IndependentLengths(prompt=f"fixed:{1024 * context}", decode="uniform:512..1536"),
            precision="int8",
            serving_system="vllm-afd-ascend",
        )


def _xdeepserve() -> Iterator[Verdict]:
    """Three domains of 160 dies that take turns on 288, against 288 dies."""
    yield verdict(
        "xDeepServe, DeepSeek-R1, 480:288 against EP288",
        XDEEPSERVE_TOKENS["split"] / XDEEPSERVE_TOKENS["unsplit"] - 1,
        Pair(160, 288, 48, 288, 60, groups=3, shared_ffn=True),
        ("deepseek-r1", "ascend-910c"),
        IndependentLengths(prompt="fixed:3072", decode="fixed:1"),
        precision="int8",
        speculative_tokens=1,
        serving_system="xdeepserve",
    )


def table(rows: list[Verdict]) -> str:
    """Markdown of all verdicts, and how many are right below."""
    lines = [
        "| what | measured | derived | between | split? | measured within |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        ends = f"{row.low:+.0%} and {row.high:+.0%}"
        within = "yes" if row.is_within else "no"
        cells = (row.what, f"{row.measured:+.1%}", f"{row.gain:+.1%}", ends, row.told, within)
        lines.append(f"| {' | '.join(cells)} |".replace("%", " %"))
    sure = [row for row in rows if row.told != "cannot tell"]
    right, within = sum(row.is_right for row in sure), sum(row.is_within for row in rows)
    lines.append("")
    lines.append(
        f"Of {len(rows)}, {len(sure)} are told yes or no, {right} of them rightly; "
        f"{within} were measured within the interval."
    )
    return "\n".join(lines)
