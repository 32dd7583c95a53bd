"""What do the pages of a ratio and of a plan say of the bundle itself: what binds, what waits?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.bottleneck_figure import LETTERS
from afdplan.plotting.pipeline_figure import pipeline_figure
from afdplan.plotting.ratio_figures import BATCH_SIZE, MICROBATCHES
from afdplan.plotting.simulation_figures import causes_figure
from afdplan.report.page import Choice, Section
from afdplan.report.quantities import sentence, share
from afdplan.report.tables import TextTable

if TYPE_CHECKING:
    from afdplan.planning.bottleneck_map import BottleneckMap
    from afdplan.planning.played import PlayedBundle
    from afdplan.plotting.ratio_figures import BatchCase
    from afdplan.report.telling import Telling

__all__ = ["batch_choices", "map_tables", "placement_sections", "played_sections"]


def batch_choices(cases: Sequence[BatchCase], chosen: BatchCase, mark: str) -> tuple[Choice, ...]:
    """Return batch sizes and numbers of microbatches as what a reader can vary.

    Parameters
    ----------
    cases
        All combinations that were solved.
    chosen
        The one that is shown at first.
    mark
        What is said of it.
    """
    return tuple(
        Choice(
            name=name,
            values=tuple(map(str, sorted({getattr(case, key) for case in cases}))),
            chosen=str(getattr(chosen, key)),
            mark=mark,
        )
        for name, key in ((BATCH_SIZE, "batch_size"), (MICROBATCHES, "microbatches"))
    )


def map_tables(maps: Sequence[BottleneckMap]) -> tuple[TextTable, ...]:
    """Return the maps of bottlenecks as letters, for those who read rather than look."""
    return tuple(
        TextTable(
            title=f"The map in letters, m = {one.microbatches}: A attention, C communication, "
            "F FFN, L latency; * is framed",
            columns=("B", *(f"A = {count:,}" for count in one.workers)),
            rows=[
                (
                    f"{row.batch_size:,}",
                    *(
                        LETTERS[name] + ("*" if count == row.best else "")
                        for count, name in zip(one.workers, row.binding, strict=True)
                    ),
                )
                for row in one.rows
            ],
        )
        for one in maps
    )


def played_sections(
    played: PlayedBundle | None, attention_idle: float, ffn_idle: float, said_by: str = "theory"
) -> tuple[Section, ...]:
    """Return idle time by cause and the pipeline of a bundle, as the simulator saw them.

    Parameters
    ----------
    played
        The runs; None if they would have taken too long.
    attention_idle, ffn_idle
        What the answer says of the same bundle, to be compared.
    said_by
        Who says so: the theory, or a play of other requests.
    """
    title = "What does each side wait for?"
    if played is None:
        words = (
            "Causes of waiting and a timeline come from the simulator; for a bundle of this size "
            "it takes minutes: ask afdplan simulate --report.",
        )
        return (Section(title=title, words=words),)
    run = played.chosen
    bundle = run.scenario.bundle
    of = (
        f"A = {bundle.attention_workers:,}, F = {bundle.ffn_workers:,}, "
        f"B = {bundle.batch_size:,}, m = {run.scenario.microbatches}"
    )
    causes = causes_figure(played.results, title=f"Idle time by its cause, simulated at {of}")
    pipeline = pipeline_figure(
        played.timeline, title=f"The pipeline, stage by stage, simulated at {of}"
    )
    words = (
        "The answer knows how long each side waits, not for what. So the bundle was simulated, "
        f"{run.steps:,} steps in each of {run.replications} runs: attention waits "
        f"{share(run.attention_idle_fraction.value)} of the time "
        f"({said_by} {share(attention_idle)}), "
        f"the FFN {share(run.ffn_idle_fraction.value)} ({said_by} {share(ffn_idle)}).",
    )
    return (
        Section(title=title, words=words, figures=(causes,)),
        Section(title="How does the pipeline run?", figures=(pipeline,)),
    )


def placement_sections(told: Telling, before: str = "") -> tuple[Section, ...]:
    """Return what a text says of placement, as a section; nothing where it says nothing."""
    found = [fact for fact in told.words if fact.name.startswith("Placement")]
    return tuple(
        Section(
            title="What would placing requests give back?",
            words=(before + sentence("; ".join(filter(None, (fact.value, fact.remark)))),),
        )
        for fact in found
    )
