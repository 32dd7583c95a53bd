"""How are a study's cost, its end and its results told to a person and to a machine?"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from afdplan.model.chosen import chosen
from afdplan.report.quantities import counted, number, sentence, share, size, spark, time
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling
from afdplan.studies.forecast import Forecast
from afdplan.studies.run import Tally
from afdplan.studies.study import Study
from afdplan.studies.summary import StudySummary, WindowSeries

__all__ = [
    "best_fixed",
    "best_table",
    "cost_line",
    "duration",
    "forecast_told",
    "rate",
    "reason_table",
    "regret_table",
    "setting_words",
    "summary_answer",
    "summary_told",
    "tally_told",
    "trouble",
    "window_facts",
    "window_table",
]

TABLE_ROWS = 15
TEXT_WIDTH = 28
SPARK_WIDTH = 48
UNKNOWN = "cost unknown, a worker died on a case tried"
_SHORT = {
    "microbatches": "m",
    "bottleneck": "binds",
    "optimal_attention_workers": "best A",
    "planned_attention_workers": "best A",
    "planned_ffn_workers": "best F",
    "planned_batch_size": "best batch",
    "planned_bundles": "bundles",
    "gain_over_colocated": "gain over colocated",
}
_RATES = ("objective", "throughput_per_instance", "tokens_per_second_per_device")


def duration(seconds: float) -> str:
    """Return a span of time for people, two digits.

    Examples
    --------
    >>> [duration(s) for s in (0.4, 83, 6000, 200_000)]
    ['1 s', '83 s', '1.7 h', '2.3 days']
    """
    if seconds < 1:
        return "1 s"
    for unit, name, largest in ((1, "s", 120), (60, "min", 90), (3600, "h", 48)):
        if seconds < unit * largest:
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.2g} {name}"
    return f"{seconds / 86400:.2g} days"


def cost_line(cases: int, cost: Forecast | None, workers: int) -> str:
    """Return one line on what a run will take; `cost` is None if trying killed a worker."""
    taken = UNKNOWN
    if cost is not None:
        taken = f"about {duration(cost.seconds)}, about {size(cost.size)}"
    return f"{counted(cases, 'case')} on {counted(workers, 'worker')}: {taken}"


def rate(speed: float) -> str:
    """Return a speed in cases per second, or per minute or hour where a case takes longer.

    Examples
    --------
    >>> [rate(s) for s in (1593.2, 12.34, 0.5, 0.01)]
    ['1,593 cases/s', '12.3 cases/s', '30 cases/min', '36 cases/h']
    """
    units = ((1, "s"), (60, "min"), (3600, "h"))
    seconds, name = next((unit for unit in units if speed * unit[0] >= 1), units[-1])
    number = speed * seconds
    return f"{number:,.0f} cases/{name}" if number >= 100 else f"{number:.3g} cases/{name}"


def trouble(tally: Tally) -> str:
    """Return refused and failed cases and deaths for the progress bar; empty if none."""
    counts = (
        (tally.refused, "refused"),
        (tally.failed, "failed"),
        (tally.deaths, "dead workers replaced"),
    )
    return ", ".join(f"{count:,} {name}" for count, name in counts if count)


def tally_told(tally: Tally, folder: str, written: int, warnings: Sequence[str]) -> Telling:
    """Return what became of a study."""
    done = tally.finished - tally.refused - tally.failed
    facts = []
    if tally.refused:
        reason = tally.reasons.get("refused") or "see the column reason"
        said = f"{tally.refused:,} refused, their inputs have no answer"
        facts.append(Fact("Refused", said, f"the first: {reason}"))
    if tally.deaths:
        died = f"{counted(tally.deaths, 'worker')} died"
        facts.append(Fact("Computed again", "cases in flight", died))
    return Telling(
        answer=f"{done:,} of {counted(tally.cases, 'case')} done, {size(written)} in {folder}",
        facts=tuple(facts),
        warnings=tuple(warnings),
        following=shlex.join(["afdplan", "sweep", "--summary", folder]),
    )


def forecast_told(study: Study, cost: Forecast | None, workers: int) -> Telling:
    """Return what a dry run tells; `cost` is None if trying killed a worker."""
    sizes = " x ".join(f"{'+'.join(a.names)} {a.size:,}" for a in study.axes) or "one case"
    unit = "seconds" if study.time_unit == "s" else "abstract units"
    facts = [
        Fact("Computes", f"{study.compute}, time in {unit}"),
        Fact("Cases", f"{study.cases:,} = {sizes}"),
    ]
    if cost is None:
        facts.append(Fact("Time", UNKNOWN))
    else:
        took = f"about {duration(cost.seconds)} on {counted(workers, 'worker')}"
        facts += [
            Fact("Per case", f"{time(cost.seconds_per_case, 's')} on one core"),
            Fact("Time", took),
            Fact("Results", f"about {size(cost.size)}"),
        ]
    return Telling(
        answer=f"{study.name}: checked, nothing run",
        facts=tuple(facts),
        warnings=tuple(study.warnings),
    )


def summary_answer(summary: StudySummary) -> dict[str, Any]:
    """Return the names that ``afdplan sweep --summary --json`` promises."""
    return {
        **chosen(summary, "name compute measure cases done refused failed"),
        "missing": summary.cases - summary.done - summary.refused - summary.failed,
        "reasons": [
            {"status": status, "reason": reason, "cases": count}
            for status, reason, count in summary.reasons
        ],
        **chosen(summary, "groups choices group_count best regrets"),
        "windows": summary.series,
    }


def summary_told(summary: StudySummary) -> Telling:
    """Return what is said of results: counts, windows, best per group, regrets, warnings."""
    missing = summary.cases - summary.done - summary.refused - summary.failed
    counts = [f"{summary.done:,} of {summary.cases:,} cases done"]
    rest = ((summary.refused, "refused"), (summary.failed, "failed"), (missing, "missing"))
    counts += [f"{count:,} {name}" for count, name in rest if count]
    facts, tables = [*best_fixed(summary)], []
    for one in summary.series:
        facts += [*window_facts(one), _workers_over_time(one)]
    claims: Counter[tuple[str, str]] = Counter()
    for status, reason, count in summary.reasons:
        claims[status, reason.partition(": ")[0]] += count
    facts += [Fact(f"{count:,} {was}", why) for (was, why), count in claims.most_common(3)]
    # A study of windows and nothing else is told by its series.
    if summary.best and (summary.choices or not summary.series):
        tables.append(best_table(summary))
    if summary.regrets:
        tables.append(regret_table(summary))
    if summary.reasons:
        tables.append(reason_table(summary))
    return Telling(
        answer=_said_first(summary) or f"{summary.name}: {', '.join(counts)}",
        subject=f"{summary.name}: {', '.join(counts)}" if summary.best else "",
        facts=tuple(facts),
        tables=tuple(tables),
        warnings=tuple(summary.warnings),
    )


def _said_first(summary: StudySummary) -> str:
    """Return what the results say in a sentence; empty if no case is done."""
    if not summary.best:
        return ""
    if summary.series:
        verdicts = dict.fromkeys(next(window_facts(one)).value for one in summary.series)
        return sentence(f"Over time, {'; elsewhere '.join(verdicts)}")
    fixed = list(best_fixed(summary))
    if fixed:
        # "Best fixed batch size", "16" and "gives up 1 % on average"
        return sentence("; ".join(f"{one.name}: {one.value}, {one.remark}" for one in fixed[:2]))
    best = summary.best[0]
    chosen_values = [
        f"{_SHORT.get(name, _word(name))} {_cell(name, best[name])}"
        for name in dict.fromkeys((*summary.groups, *summary.choices))
        if best.get(name) is not None
    ]
    where = f" with {', '.join(chosen_values)}" if chosen_values else ""
    return sentence(
        f"Best {_word(summary.measure)} {_cell(summary.measure, best[summary.measure])}{where}"
    )


def best_fixed(summary: StudySummary) -> Iterator[Fact]:
    """Yield the value of each choice that gives up least on average, where worlds differ."""
    names = dict.fromkeys(regret.variable for regret in summary.regrets)
    for name in names if summary.group_count > 1 else ():
        known = [regret for regret in summary.regrets if regret.variable == name]
        best = min(known, key=lambda regret: (regret.missing, regret.mean, regret.worst))
        lost = f"gives up {share(best.mean)} on average, {share(best.worst)} at worst"
        missing = f", not there in {counted(best.missing, 'group')}" if best.missing else ""
        yield Fact(f"Best fixed {_word(name)}", _cell(name, best.value), lost + missing)


def window_facts(series: WindowSeries) -> Iterator[Fact]:
    """Yield whether the windows of one setting want ratios of their own, and what one costs."""
    answer, fixed = series.answer, series.answer.best_fixed
    low, high = min(answer.adaptive), max(answer.adaptive)
    verdict = (
        "re-provisioning during the period saves under 1 %: keep one ratio"
        if fixed.total_regret < 0.01
        else f"re-provisioning saves up to {share(fixed.total_regret / (1 + fixed.total_regret))} "
        "of the device time, less what the changes cost"
    )
    yield Fact("Ratio over time", verdict, setting_words(series))
    yield Fact(
        "Adaptive",
        f"{low} to {high} attention workers in {len(answer.windows):,} windows, "
        f"changed {answer.changes:,} times",
    )
    yield Fact(
        "Best fixed",
        f"{counted(fixed.attention_workers, 'attention worker')}: "
        f"{share(fixed.total_regret)} more device time than adaptive; at worst "
        f"{share(fixed.worst_regret)} below the best (window {fixed.worst_window})",
    )
    others = [
        c for c in answer.fixed if 0 < abs(c.attention_workers - fixed.attention_workers) <= 2
    ]
    yield Fact(
        "Its neighbours",
        ", ".join(f"{c.attention_workers}: {share(c.total_regret)}" for c in others) or "none",
    )


def setting_words(series: WindowSeries) -> str:
    """Return what else than the windows is of this series; empty if nothing varies."""
    return ", ".join(f"{_word(name)} {value}" for name, value in series.setting.items())


def window_table(series: Sequence[WindowSeries]) -> TextTable:
    """Return what one ratio costs over all windows, setting by setting."""
    told = [{fact.name: fact.value for fact in window_facts(one)} for one in series]
    names = [name for name in told[0] if name != "Ratio over time"]
    return TextTable(
        title="One ratio for all windows",
        columns=("setting", *(name.lower() for name in names)),
        rows=[
            (setting_words(one) or "all cases", *(facts[name] for name in names))
            for one, facts in zip(series, told, strict=True)
        ],
        left=1 + len(names),
        is_open=True,
    )


def _workers_over_time(series: WindowSeries) -> Fact:
    answer = series.answer
    step = max(1, -(-len(answer.adaptive) // SPARK_WIDTH))
    parts = [answer.adaptive[k : k + step] for k in range(0, len(answer.adaptive), step)]
    means = [sum(part) / len(part) for part in parts]
    shown = f"{number(min(means))} {spark(means, floor=None)} {number(max(means))}"
    return Fact("Workers over time", shown)


def _word(name: str) -> str:
    return name.replace("_", " ")


def best_table(summary: StudySummary) -> TextTable:
    """Return the best case of each group."""
    hidden = ("case", "near_equal_low", "near_equal_high")
    names = [name for name in summary.best[0] if name not in hidden]
    # Words first, as tables have them; otherwise in the order of the study.
    names.sort(key=lambda name: not isinstance(summary.best[0][name], str))
    left = sum(isinstance(summary.best[0][name], str) for name in names)
    has_span = "near_equal_low" in summary.best[0]
    per = "tokens/s" if summary.time_unit == "s" else "tokens/time"
    rows = []
    for best in summary.best[:TABLE_ROWS]:
        cells = [_cell(name, best[name]) for name in names]
        if has_span:
            cells.append(f"{best['near_equal_low']}-{best['near_equal_high']}")
        rows.append(tuple(cells))
    by = f" by {', '.join(summary.groups)}" if summary.groups else ""
    more = summary.group_count - TABLE_ROWS
    return TextTable(
        title=f"Best {summary.measure.replace('_', ' ')}{by}",
        columns=(
            *(
                _SHORT.get(name, name.replace("_", " ")) + f" {per}" * (name in _RATES)
                for name in names
            ),
            *(["within 1 %"] * has_span),
        ),
        rows=rows,
        left=left,
        is_open=True,
        note=f"And {more:,} more groups (--json has up to 1,000)." if more > 0 else "",
    )


def regret_table(summary: StudySummary) -> TextTable:
    """Return what it costs to fix one choice."""
    return TextTable.of(
        "What it costs to fix one choice, the others chosen best",
        summary.regrets,
        {
            "choice": lambda regret: f"{regret.variable} = {_cell(regret.variable, regret.value)}",
            "mean regret": lambda regret: share(regret.mean),
            "worst regret": lambda regret: share(regret.worst),
            "groups": lambda regret: f"{regret.groups:,}",
            "not there": lambda regret: f"{regret.missing:,}" if regret.missing else "",
        },
    )


def reason_table(summary: StudySummary) -> TextTable:
    """Return why cases have no answer, the most frequent reason first."""
    return TextTable(
        title="Cases without an answer",
        columns=("cases", "became", "why"),
        rows=[(f"{count:,}", status, reason) for status, reason, count in summary.reasons],
        left=3,
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return share(value) if name.startswith("gain_") else number(value)
    text = str(value)
    return text if len(text) <= TEXT_WIDTH else f"...{text[3 - TEXT_WIDTH :]}"
