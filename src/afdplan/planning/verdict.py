"""Is a split worth it here, and which known regime is this?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.lengths.law import LengthLaw
from afdplan.model.latency import LatencyModel
from afdplan.model.words import counted
from afdplan.planning.colocated import Colocated, best_colocated
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import PlannedDesign
from afdplan.planning.limits import Limits
from afdplan.planning.source import LatencySource
from afdplan.planning.verdict_error import GainInterval, gain_interval

__all__ = ["Verdict", "judge"]

CLEAR = 0.05
"""Relative gain below which a measured model, which says nothing of other widths, cannot tell."""
SHORT_CONTEXT = 1024
FINE_GRAINED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Split or not.

    Attributes
    ----------
    split
        ``yes``, ``no`` or ``even`` (nobody can tell: the interval of the gain covers zero).
    gain
        Relative gain of the score over the best colocated deployment; None if there is none.
    narrow_gain
        The same over the narrowest feasible width: what a comparison with a narrow baseline
        would claim.
    interval
        Between which gains the truth is expected; None where the models are not derived.
    reasons
        One sentence each.
    """

    split: str
    gain: float | None
    narrow_gain: float | None
    interval: GainInterval | None
    reasons: tuple[str, ...]


def judge(
    law: LengthLaw,
    source: LatencySource,
    best: PlannedDesign,
    colocated: tuple[Colocated, ...],
    limits: Limits,
    latency: LatencyModel,
) -> Verdict:
    """Return whether to split, with the regimes in which splitting is known not to pay.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        Tells dense models from experts, and which link joins both sides.
    best
        The recommended bundle design.
    colocated
        The best deployment of every width.
    limits
        For which both were found.
    latency
        Stage times of `best`.
    """
    regimes = _regimes(law, source, best, latency)
    baseline = best_colocated(colocated)
    if baseline is None:
        return Verdict(
            split="yes",
            gain=None,
            narrow_gain=None,
            interval=None,
            reasons=("no un-split deployment meets the same limits on these devices", *regimes),
        )
    gain = best.score / baseline.score - 1
    narrow = best.score / colocated[0].score - 1
    shown = _percent(abs(gain))
    interval = None
    low, high = gain - CLEAR, gain + CLEAR
    if isinstance(source, DerivedSource):
        interval = gain_interval(law, source, best, baseline, gain)
        low, high = interval.low, interval.high

    def between(*ends: str) -> str:
        return "" if interval is None else f" (between {' and '.join(ends)})"

    if high < 0:
        split = "no"
        sure = between(_percent(-high), _percent(-low))
        reasons = [f"do not split: the best un-split deployment is {shown} cheaper per token{sure}"]
    elif low <= 0:
        split = "even"
        word = "better" if gain >= 0 else "worse"
        sure = between(f"{_percent(-low)} worse", f"{_percent(high)} better")
        reasons = [
            "do not split unless a measurement says otherwise: splitting is "
            f"{shown} {word} than the best un-split deployment{sure}, less than a model of this "
            "kind can tell"
        ]
    else:
        split = "yes"
        sure = between(_percent(low), _percent(high))
        reasons = [f"split: {shown} more than the best un-split deployment{sure}"]
    if interval is not None and interval.host_gap > 0.05 * baseline.step_time.mean:
        reasons.append(
            f"the upper end holds {interval.host_gap * 1e3:.0f} ms per step that a host may lose "
            "between un-split steps: systems that schedule ahead lose none"
        )
    if len(colocated) > 1 and narrow - gain > CLEAR:
        width = colocated[0].ranks * colocated[0].devices_per_rank
        word = "better" if narrow >= 0 else "worse"
        reasons.append(
            f"against a narrow baseline of {counted(width, 'device')} the split would seem "
            f"{abs(narrow):.0%} {word}: compare with the wide one".replace("%", " %")
        )
    return Verdict(
        split=split,
        gain=gain,
        narrow_gain=narrow,
        interval=interval,
        reasons=(*reasons, *regimes),
    )


def _percent(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995e-3 else 1}%}".replace("%", " %")


def _regimes(
    law: LengthLaw, source: LatencySource, best: PlannedDesign, latency: LatencyModel
) -> list[str]:
    """Name the regimes in which splitting is known to gain little."""
    found = []
    if isinstance(source, DerivedSource):
        architecture = source.placement.architecture
        if not architecture.experts:
            found.append(
                "dense model: every FFN worker reads all weights for every batch, there are no "
                "experts to fill; splitting seldom pays"
            )
        elif source.placement.link == "scale-out" and architecture.experts >= FINE_GRAINED:
            found.append(
                f"{architecture.experts} fine-grained experts over a scale-out network (RDMA): "
                "every token is copied to several nodes; transfers often eat the gain"
            )
    theta = law.token_load().mean
    if theta < SHORT_CONTEXT:
        found.append(
            f"short contexts ({theta:,.0f} tokens per slot): attention is light, so few "
            "attention workers feed an FFN worker and little is gained"
        )
    return found
