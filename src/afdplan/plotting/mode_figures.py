"""What does a report page show of the verdict which way to run a bundle pays?"""

from __future__ import annotations

from collections.abc import Sequence

from afdplan.plotting.figure import Axis, Figure, layer, single
from afdplan.validation.bands import VERDICT_REGRET
from afdplan.validation.mode_regret import ModeResult

__all__ = ["gain_figure"]


def gain_figure(results: Sequence[ModeResult]) -> Figure:
    """Return what going without the barrier gains, by theory and by simulation."""
    names = [one.name for one in results]
    layers = [
        layer(
            "range",
            name=f"{100 * VERDICT_REGRET:.0f} %: either will do",
            role="latency",
            low=[-100 * VERDICT_REGRET],
            high=[100 * VERDICT_REGRET],
        ),
        layer("rule_x", role="neutral", x=[0]),
        layer(
            "span",
            name="simulation's interval",
            role="neutral",
            y=names,
            low=[100 * (one.gain - one.gain_half_width) for one in results],
            high=[100 * (one.gain + one.gain_half_width) for one in results],
        ),
        layer(
            "dot",
            name="theory",
            role="main",
            y=names,
            x=[100 * one.expected_gain for one in results],
            words=[
                f"{one.name}: said to pay: {one.said}, {100 * one.expected_gain:+.1f} %\n"
                f"simulated {100 * one.gain:+.1f} % +- {100 * one.gain_half_width:.1f} %, of "
                f"{one.simulated} bundles"
                for one in results
            ],
        ),
    ]
    ends = [100 * value for one in results for value in (one.gain, one.expected_gain)]
    pad = 0.05 * (max(*ends, 2.0) - min(*ends, -2.0))
    return single(
        "mode-gain",
        "What going without the barrier gains",
        "Throughput per instance of the best bundle without the barrier over that with it, "
        "minus 1: left of zero the barrier pays.",
        x=Axis(label="gain [%]", includes=(min(*ends, -2.0) - pad, max(*ends, 2.0) + pad)),
        y=Axis(label="", scale="category", limits=tuple(names)),
        layers=layers,
        height=90 + 30 * len(names),
    )
