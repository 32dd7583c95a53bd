"""Text, Markdown, page and JSON of every command say the same numbers in the same cells."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import afdplan.report.brief
import afdplan.report.page
import afdplan.report.telling
from afdplan.report.quantities import (
    chance,
    change,
    number,
    plain,
    rate,
    share,
    stated_time,
    time,
    value_and_interval,
)
from afdplan.report.tables import FEWEST_ROWS, to_markdown
from afdplan.theory.ratio import RatioPoint
from tests.cli.invoke import invoke
from tests.media import (
    markdown_headings,
    markdown_tables,
    page_tables,
    page_words,
    shown_lines,
    terminal_words,
)

SOURCE = Path(afdplan.report.page.__file__).parents[1]
LAW = ("--prompt", "geometric:200", "--decode", "geometric:60")
LATENCY = """schema_version = 1
name = "made up"
time_unit = "s"
layers = 4
[attention]
kind = "linear"
slope = 1e-8
intercept = 2e-5
[ffn]
kind = "linear"
slope = 2e-6
intercept = 1e-4
"""
PAGES = ("workload", "ratio", "simulate", "plan", "calibrate", "validate", "sweep")
COMMANDS = (*PAGES, "check", "models", "model", "hardware", "device", "doctor")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each command told, its JSON, its text and its page."""
    folder = tmp_path_factory.mktemp("tellings")
    latency = folder / "latency.toml"
    latency.write_text(LATENCY)
    trace = folder / "trace.csv"
    rows = [f"{100 + k * 37 % 900},{1 + k * k % 300},{k}" for k in range(600)]
    trace.write_text("\n".join(["prompt_tokens,decode_tokens,arrival", *rows]) + "\n")
    stages = folder / "stages.csv"
    times = [f"attention,{n},{5e-5 + 2e-10 * n + 1e-8 * (n % 7)}" for n in range(999, 10**6, 49999)]
    times += [f"ffn,{n},{9e-5 + 6e-8 * n + 1e-7 * (n % 3)}" for n in range(16, 4096, 200)]
    stages.write_text("\n".join(["stage,load,latency", *times]) + "\n")
    study = folder / "study.toml"
    study.write_text(
        'name = "s"\ncompute = "ratio"\n[fixed]\nlatency = "latency.toml"\nprompt = "geometric:20"'
        '\ndecode = "geometric:40"\n[grid]\nbatch_size = [8, 16]\nmicrobatches = [1, 2]\n'
    )
    assert invoke("sweep", study, "-o", folder / "results").code == 0
    law = (*LAW, "--latency", latency)
    plan = ("plan", *law, "--kv-tokens", "1e5", "--devices", 4, "--max-batch-size", 16)
    plan = (*plan, "--tpot", "50ms")
    (folder / "plan.json").write_text(invoke(*plan, "--json").out)
    bundle = ("--batch-size", 8, "--attention-workers", "1,2", "--requests", 1500)
    arguments = {
        "workload": ("workload", trace),
        "ratio": ("ratio", "--trace", trace, "--latency", latency, "--batch-size", 16),
        "simulate": ("simulate", *law, *bundle),
        "plan": plan,
        "calibrate": ("calibrate", stages, "--time-unit", "s"),
        "validate": ("validate", "published"),
        "check": ("check", folder / "plan.json", "--trace", trace),
        "sweep": ("sweep", "--summary", folder / "results"),
        "models": ("models",),
        "model": ("models", "deepseek-v3"),
        "hardware": ("hardware",),
        "device": ("hardware", "h200"),
        "doctor": ("doctor",),
    }
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        terminal, render = afdplan.report.telling.to_terminal, afdplan.report.page.render_page
        brief = afdplan.report.brief.to_brief
        kept = {}

        def to_terminal(told, width):
            kept["told"] = told
            return terminal(told, width)

        def to_brief(told, *rest):
            kept["told"] = told
            return brief(told, *rest)

        def render_page(page):
            kept["page"] = page
            return render(page)

        patch.setattr(afdplan.report.telling, "to_terminal", to_terminal)
        patch.setattr(afdplan.report.brief, "to_brief", to_brief)
        patch.setattr(afdplan.report.page, "render_page", render_page)
        for name, given in arguments.items():
            kept.clear()
            html = folder / f"{name}.html"
            page = ("--report", html) if name in PAGES else ()
            # Of `validate`, --full computes all evidence.
            full = () if name == "validate" else ("--full",)
            text = invoke(*given, *page, *full)
            assert text.code in (0, 4), text.err
            document = invoke(*given, "--json").document
            shown = text.out
            if not full:
                lines = shown_lines(afdplan.report.telling.to_terminal(kept["told"], 80))
                shown = "\n".join(lines)
            made[name] = {**kept, "text": shown, "document": document}
            if page:
                made[name]["html"] = html.read_bytes()
    return made


def flat(text):
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_cells_match_their_columns_and_are_numbers_or_words(name, said):
    one = said[name]
    tables = [*one["told"].tables]
    if "page" in one:
        tables += [table for section in one["page"].sections for table in section.tables]
    for table in tables:
        assert len(set(table.columns)) == len(table.columns), table.title
        assert 0 < table.left <= len(table.columns) or table.left == 0
        assert table.strong is None or 0 <= table.strong < len(table.rows)
        assert not table.bars or len(table.bars) == len(table.rows)
        assert all(0 <= bar <= 1 for bar in table.bars)
        for row in table.rows:
            assert len(row) == len(table.columns), table.title
            for cell in row:
                assert cell == plain(cell)
                assert not re.search(r"\b(nan|inf|None|e[+]\d\d)\b", cell), cell
                assert " us" not in cell


@pytest.mark.parametrize("name", COMMANDS)
def test_every_table_has_the_same_cells_in_three_media(name, said):
    one = said[name]
    shown = flat(terminal_words(one["told"], 3000))
    answer = one["text"].partition("\nnext: ")[0].partition("\nagain: ")[0]
    assert max(map(len, answer.splitlines())) <= 80  # a command is not cut inside a long name
    for table in one["told"].tables:
        cells = [list(table.columns), *map(list, table.rows)]
        assert markdown_tables(to_markdown(table)) == [cells]
        assert markdown_headings(to_markdown(table)) == [table.title]
        said = [cell for row in cells for cell in row]
        if len(table.rows) >= FEWEST_ROWS:  # a terminal shows no empty column
            empty = [k for k, column in enumerate(zip(*table.rows, strict=True)) if not any(column)]
            said = [cell for row in cells for k, cell in enumerate(row) if k not in empty]
        for cell in (table.title, table.note, *said):
            assert flat(cell) in shown
    if "page" in one:
        tables = [table for section in one["page"].sections for table in section.tables]
        drawn = page_tables(one["html"])
        assert drawn[: len(tables)] == [[list(t.columns), *map(list, t.rows)] for t in tables]
        for table in one["told"].tables:  # a terminal shows some rows, a page all of them
            (whole,) = [t for t in tables if t.title == table.title or t.columns == table.columns]
            assert set(table.rows) <= {*whole.rows} or "and" in str(table.rows[-1])


@pytest.mark.parametrize("name", PAGES)
def test_text_and_page_say_the_same_sentences(name, said):
    one = said[name]
    # What comes next is typed, not read.
    page, text = (dataclasses.replace(x, following="") for x in (one["page"].told, one["told"]))
    assert page == text
    seen, text = page_words(one["html"]), flat(one["text"])
    told = one["told"]
    for words in (told.answer, told.subject, *told.warnings, *told.assumptions):
        assert " ".join(words.split()) in seen
        assert flat(words) in text
    for fact in told.facts:
        for words in fact:
            assert " ".join(words.split()) in seen
            assert flat(words) in text
    assert tuple(one["document"]["warnings"]) == tuple(told.warnings)


def everywhere(one, *told):
    text = flat(one["text"])
    seen = flat(page_words(one["html"])) if "html" in one else text
    for words in told:
        assert flat(words) in text, words
        assert flat(words) in seen, words


def rows_of(one, *columns):
    (table,) = [t for t in one["told"].tables if set(columns) <= set(t.columns)]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_numbers_of_ratio_are_those_of_its_json(said):
    one = said["ratio"]
    answer = one["document"]
    best = next(
        p for p in answer["curve"] if p["attention_workers"] == answer["optimal_attention_workers"]
    )
    everywhere(
        one,
        rate(best["throughput_per_instance"], "s"),
        stated_time(answer["step_time"]["mean"], "s"),
        f"p99 {time(answer['step_time']['p99'], 's')}",
        f"{share(best['attention_idle_fraction'])} / {share(best['ffn_idle_fraction'])}",
        share(answer["barrier_cost"]),
        number(answer["optimal_ratio"]),
        f"mean field {number(answer['mean_field_ratio'])}",
        share(answer["uncertainty"]["largest_regret"]),
    )
    points = {f"{point['attention_workers']:,}": point for point in answer["curve"]}
    for row in rows_of(one, "below the best"):
        point = points[row["A"]]
        assert row["cycle time"] == time(point["cycle_time"], "s")
        assert row["step time"] == time(point["step_time"], "s")
        assert row["tokens/s per worker"] == number(point["objective"])
        assert row["below the best"] in ("best", share(point["regret"]))
        assert row["attention idle"] == share(point["attention_idle_fraction"])
        assert row["FFN idle"] == share(point["ffn_idle_fraction"])


def test_numbers_of_plan_are_those_of_its_json(said):
    one = said["plan"]
    answer = one["document"]
    told, best = answer["recommended"], answer["split"]
    assert told["kind"] == "un-split"
    everywhere(
        one,
        rate(told["tokens_per_second_per_device"], "s"),
        stated_time(told["time_per_output_token"], "s"),
        "limit 50 ms",
        f"p99 {time(told['step_time']['p99'], 's')}",
        share(best["memory_mean_fraction"]),
        change(answer["verdict"]["gain"]),
    )
    rows = rows_of(one, "breaks")
    designs = [best, *answer["alternatives"]]
    assert len(rows) == len(designs)
    for row, design in zip(rows, designs, strict=True):
        per_device = design["tokens_per_second_per_device"]
        assert row["tokens/s per device in use"] == number(per_device)
        assert row["TPOT (mean)"] == time(design["time_per_output_token"], "s")
        assert row["overflow"] == chance(design["memory_overflow_probability"])
        assert row["given up"] == share(design.get("regret", 0.0))
        assert row["breaks"] == (design.get("breaks") or "")
    assert len(rows_of(one, "point")) == len(answer["pareto_front"])
    for row, entry in zip(rows_of(one, "input"), answer["sensitivity"], strict=True):
        assert row["throughput"] == change(entry["throughput_change"])
        assert row["TPOT (mean)"] == time(entry["time_per_output_token"], "s")


def test_numbers_of_simulate_are_those_of_its_json(said):
    one = said["simulate"]
    curve = one["document"]["curve"]
    for row, point in zip(rows_of(one, "step p99"), curve, strict=True):
        assert row["A"] == f"{point['attention_workers']:,}"
        told = row["tokens/s per worker"].replace(",", "")
        assert float(told) == pytest.approx(point["throughput_per_instance"]["value"], rel=5e-3)
        assert row["step p99"] == time(point["step_time"]["p99"], "s")
        assert row["attention idle"] == share(point["attention_idle_fraction"])
    best = max(curve, key=lambda point: point["throughput_per_instance"]["value"])
    everywhere(one, rate(best["throughput_per_instance"]["value"], "s"))


def test_numbers_of_workload_check_and_sweep_are_those_of_their_json(said):
    load = said["workload"]["document"]
    everywhere(
        said["workload"],
        f"{number(load['token_load']['std'])} tokens",
        f"{number(load['mean_prompt_tokens'])} tokens",
    )
    assert share(load["largest_request"]["load_fraction"]) in said["workload"]["text"]
    for row in rows_of(said["workload"], "length"):
        told = [load[f"{kind}_tokens"][row["length"]] for kind in ("prompt", "decode")]
        assert [row["prompt"], row["output"]] == [number(x) for x in told]
    check = said["check"]["document"]
    everywhere(
        said["check"],
        number(check["mean_token_load"]),
        f"planned {number(check['planned_token_load'])}",
        stated_time(check["step_time"], "s"),
        share(check["regret"]),
    )
    sweep = said["sweep"]["document"]
    rows = rows_of(said["sweep"], "best A")
    assert len(rows) == len(sweep["best"])
    for row, best in zip(rows, sweep["best"], strict=True):
        assert row["best A"] == number(best["optimal_attention_workers"])
        assert row["objective tokens/s"] == number(best["objective"])


def test_numbers_of_calibrate_are_those_of_its_json(said):
    one = said["calibrate"]
    rows = rows_of(one, "coefficient")
    found = [
        estimate
        for stage in one["document"]["stages"].values()
        for estimate in stage["coefficients"].values()
    ]
    for row, estimate in zip(rows, found, strict=True):
        told, unit = row["value"].removesuffix(" per token").split()
        scale = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
        assert float(told) * scale == pytest.approx(estimate["value"], rel=5e-3)


def test_a_number_has_digits_enough_to_differ_from_its_interval():
    from afdplan.model.estimate import Estimate

    for half in (1e-1, 1e-2, 1e-3, 2e-4):
        found = Estimate(value=0.5, low=0.5 - half / 2, high=0.5 + half / 2, confidence=0.95,
                         method="m")  # fmt: skip
        value, ends = value_and_interval(found)
        low, high = ends.split(" to ")
        assert float(low) < float(value) < float(high)


def test_a_column_of_ratio_is_one_value_and_one_line(said):
    """The point has the value, JSON names it by itself; one table tells it to text and page."""
    points = said["ratio"]["document"]["curve"]
    assert set(points[0]) == {field.name for field in dataclasses.fields(RatioPoint)}
    for heading in ("below the best", "attention idle"):
        told = [p.name for p in SOURCE.rglob("*.py") if f'"{heading}"' in p.read_text()]
        assert set(told) <= {"ratio_tables.py", "simulate.py"}, told
        assert told.count("ratio_tables.py") == 1


def test_only_one_place_formats_percent_probabilities_and_times():
    """No module of report or cli but quantities.py scales a number to percent or to ms."""
    spelled = re.compile(r"100 \* [^{}]*:[^{}]*\} %|:[+.\d]*%\}|1e3 \*.* ms|\} (?:ms|us|µs)\b")
    for folder in ("report", "cli"):
        for path in sorted((SOURCE / folder).glob("*.py")):
            if path.name == "quantities.py":
                continue
            for line in path.read_text().splitlines():
                if "confidence" not in line:  # a confidence level is given, not measured
                    assert not spelled.search(line), f"{path.name}: {line}"


def test_only_the_media_escape():
    for path in sorted((SOURCE / "report").glob("*.py")) + sorted((SOURCE / "cli").glob("*.py")):
        text = path.read_text()
        assert "rich.markup" not in text, path
        assert not re.search(r"\[/?(bold|yellow|red|green|dim)[^\]]*\]", text), path
