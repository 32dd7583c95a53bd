"""How are forward passes of running ranks told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.quantities import number, stated_time
from afdplan.report.telling import Fact, Telling

if TYPE_CHECKING:
    from afdplan.workload.passes import PassReport

__all__ = ["passes_answer", "passes_told"]


def passes_answer(report: PassReport) -> dict[str, Any]:
    """Return what ``--json`` says of forward passes; times in seconds."""
    load, barrier = report.token_load, report.barrier
    return {
        **chosen(report, "passes ranks"),
        "mean_token_load": load.value,
        "token_load": chosen(load, "value low high confidence method"),
        "mean_requests": report.mean_requests,
        "mean_pass_time": report.mean_time,
        **chosen(report, "duration drift mean_prompt_tokens"),
        "barrier": None
        if barrier is None
        else {
            "passes": barrier.passes,
            "slowest_over_mean_time": barrier.time,
            "fullest_over_mean_tokens": barrier.tokens,
            "busiest_over_mean_requests": barrier.requests,
            "step_time": barrier.step_time,
        },
    }


def passes_told(report: PassReport, source: str) -> Telling:
    """Return what is said of forward passes.

    Parameters
    ----------
    report
        What `describe_passes` found.
    source
        The file.
    """
    return Telling(
        subject=f"{source}: {report.passes:,} decoding passes of {report.ranks} ranks",
        answer=f"A decoding request holds {number(report.token_load.value)} KV tokens on average.",
        facts=tuple(_facts(report)),
        warnings=report.warnings,
    )


def _facts(report: PassReport) -> Iterable[Fact]:
    load = report.token_load
    yield Fact(
        "Mean token load",
        number(load.value),
        f"{number(load.low)} to {number(load.high)} at {load.confidence:.0%}".replace("%", " %"),
    )
    yield Fact("Requests per pass and rank", number(report.mean_requests))
    yield Fact("Time of a pass", stated_time(report.mean_time, "s"))
    if report.barrier is not None:
        barrier = report.barrier
        yield Fact(
            "Slowest over mean rank",
            f"{barrier.time:.3f}",
            f"{stated_time(barrier.step_time, 's')}, {barrier.passes:,} passes of all ranks",
        )
        yield Fact(
            "Fullest over mean rank",
            f"{barrier.tokens:.3f}",
            f"KV tokens; requests {barrier.requests:.3f}",
        )
    if report.mean_prompt_tokens is not None:
        yield Fact("Mean prompt", number(report.mean_prompt_tokens), "tokens, where prefill showed")
