"""How are the options of a command grouped in its help?"""

from __future__ import annotations

import click

from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan

__all__ = ["GroupedCommand"]

GROUPS = {
    "Requests": (*ask.WORKLOAD, of_plan.PLANNED_WINDOW, ask.BY, ask.CONFIDENCE),
    "Stage times and memory": (*ask.LATENCY_CHOICE, of_plan.KV_TOKENS, of_plan.COLOCATED_KV_TOKENS),
    "Limits": of_plan.LIMITS,
    "Bundle": (*ask.SLOTS, ask.ATTENTION_WORKERS),
}
KEYS = {one.key: title for title, parameters in GROUPS.items() for one in parameters}
KEYS |= dict.fromkeys(
    (
        *("output", "plot", "around", "report", "full", "as_json", "help", "timeline"),
        *("per_request", "per_step", "to_table", "to_trace", "markdown"),
    ),
    "Output",
)


class GroupedCommand(click.Command):
    """A command whose help puts options of one kind together."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of this command alone after those that many share."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS}
        sections |= {"Options": [], "Output": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[KEYS.get(str(parameter.name), "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
