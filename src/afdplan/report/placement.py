"""How is told what placing requests by load gives back, in words and in JSON?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.quantities import change, share, time
from afdplan.report.telling import Fact

if TYPE_CHECKING:
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.placement_gain import PlacementGain
    from afdplan.planning.simulated_ratio import SimulatedRatio

__all__ = ["BARRIER", "gain_answer", "gain_fact", "objectives_answer", "with_gain"]

BARRIER = "Cost of the barrier"
FEW = 0.75
"""Given back by known outputs, below which it is choice that lacks, not knowledge."""
NEGLIGIBLE = 0.001
"""A barrier that costs less than this share of the throughput is not worth a policy."""


def gain_fact(gain: PlacementGain, unit: TimeUnit, *, is_used: bool = False) -> Fact:
    """Return what the barrier costs, what the policy gives back, and with which ratio.

    Parameters
    ----------
    gain
        By formula or played.
    unit
        Of its times.
    is_used
        Whether the answer is that with the policy, else what it would be.
    """
    name = "Placement"
    if gain.barrier_cost.value < NEGLIGIBLE:
        return Fact(name, f"the barrier costs {share(gain.barrier_cost.value)}: nothing to balance")
    gives = "gives back" if is_used else "would give back"
    policy: str = gain.placement
    if gain.placement_window > 1:
        policy += f" of {gain.placement_window} waiting requests"
    here, there = gain.blind_attention_workers, gain.attention_workers
    ratio = f"best A stays {here:,}"
    if there != here:
        ratio = f"best A {there:,} in place of {here:,}"
    words = (
        f"the barrier costs {share(gain.barrier_cost.value)}; placement {policy} {gives} "
        f"{_points(gain.given_back)}, {ratio}, time per output token "
        f"{time(gain.time_per_output_token, unit)} in place of "
        f"{time(gain.blind_time_per_output_token, unit)}, throughput per cost "
        f"{change(gain.gain.value)}"
    )
    return Fact(name, words, _unknown_outputs(gain))


def _unknown_outputs(gain: PlacementGain) -> str:
    """Return what it matters that outputs are unknown, and what else would help."""
    found = gain.recovered
    if found is None:
        compares = gain.placement.startswith("longest-prompt")
        is_played = gain.given_back.method != "theory"
        if is_played or not compares:  # nothing more is known, or no prompt is compared
            return ""
        return "by prompts alone; played, it is told what known outputs would add"
    words = (
        f"of the barrier's cost that is {_points(found.prompts_only)} % by prompts alone, "
        f"{_points(found.outputs_known)} % if outputs were known"
    )
    if gain.placement_window == 1 and found.outputs_known.value < FEW:
        words += "; few requests enter together, so --placement-window 4 gives more choice"
    return words


def with_gain(
    facts: Sequence[Fact], gain: PlacementGain, *, is_used: bool = False
) -> tuple[Fact, ...]:
    """Return short facts in which the cost of the barrier says what the policy gives back."""
    if gain.barrier_cost.value < NEGLIGIBLE:
        return tuple(facts)
    back = (
        f"{gain.placement} {'gives' if is_used else 'would give'} back "
        f"{100 * gain.given_back.value:.1f} of {share(gain.barrier_cost.value)}, best A "
        f"{gain.attention_workers:,}"
    )
    return tuple(fact._replace(remark=back) if fact.name == BARRIER else fact for fact in facts)


def gain_answer(gain: PlacementGain | None) -> dict[str, Any] | None:
    """Return what `--json` says under ``placement_gain``; null where nothing is known."""
    if gain is None:
        return None
    known = gain.recovered
    return {
        **chosen(gain, "placement placement_window blind_attention_workers attention_workers"),
        **{
            name: chosen(value, "value low high")
            for name, value in chosen(gain, "barrier_cost given_back gain regret_of_blind").items()
        },
        "method": gain.given_back.method,
        **chosen(gain, "blind_time_per_output_token time_per_output_token"),
        "recovered": None
        if known is None
        else {
            "prompts_only": chosen(known.prompts_only, "value low high"),
            "outputs_known": chosen(known.outputs_known, "value low high"),
        },
    }


def objectives_answer(played: SimulatedRatio) -> list[dict[str, float]]:
    """Return what `--json` says under ``objectives``: those of the ratios played."""
    return [
        {"attention_workers": count, **chosen(one, "value low high")}
        for count, one in played.objectives.items()
    ]


def _points(value: Estimate) -> str:
    """Return a share with its interval, "13.1 (12.7 to 13.5)"."""
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"
