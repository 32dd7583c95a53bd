"""How numbers, tables and short answers are told, at the edges of every rule."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from afdplan.model.estimate import Estimate
from afdplan.report import quantities as told
from afdplan.report.brief import _fitting, _height, pasted, shortened, to_brief
from afdplan.report.sweep import duration, rate
from afdplan.report.tables import TextTable, _widths, to_markdown, to_rich
from afdplan.report.telling import Fact, Telling


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high, confidence=0.95, method="m")


@pytest.mark.parametrize(
    ("tell", "given", "said"),
    [
        (told.number, 0, "0"), (told.number, 0.0, "0"), (told.number, 1234567, "1,234,567"),
        (told.number, float("inf"), "inf"), (told.number, 99.95, "100"),
        (told.number, 99.949, "99.9"), (told.number, 999.5, "1,000"),
        (told.number, 1e-4, "0.000100"),
        (told.number, 9.994e-5, "9.99e-05"), (told.number, 9.996e-5, "0.000100"),
        (told.number, -81.64, "-81.6"),
        (told.size, 999, "1 kB"), (told.size, 1500, "2 kB"), (told.size, 999_999, "1000 kB"),
        (told.size, 1e6, "1 MB"), (told.size, 9.99e8, "1e+03 MB"), (told.size, 1e9, "1 GB"),
        (told.size, 10, "1 kB"),
        (told.share, 4.9e-9, "0.0 %"), (told.share, 5.1e-9, "< 0.01 %"),
        (told.share, 4.9e-5, "< 0.01 %"), (told.share, 5.1e-5, "0.01 %"),
        (told.share, 0.0999, "9.99 %"), (told.share, 0.09996, "10.0 %"),
        (told.share, -0.0435, "-4.35 %"), (told.share, -0.5, "-50.0 %"),
        (told.change, 4.9e-5, "< 0.01 %"), (told.change, 5e-5, "+0.01 %"),
        (told.change, -0.0435, "-4.35 %"),
        (told.plus_minus, 0.01, "± 1.00 %"), (told.plus_minus, float("inf"), "no interval"),
        (told.chance, 1e-12, "1e-12"), (told.chance, 9e-13, "< 1e-12"), (told.chance, 0.5, "0.5"),
        (told.sentence, "abc", "Abc."), (told.plain, "a\u00a0b", "a b"),
        (told.plain, "a\u00a0\n", "a \\n"), (told.plain, "a\tb", "a\\tb"),
    ],
)  # fmt: skip
def test_numbers_at_the_edges(tell, given, said):
    assert tell(given) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.0, "1.00 s"), (0.9995, "1.00 s"), (0.9994, "999 ms"), (1e-3, "1.00 ms"),
        (9.996e-4, "1.00 ms"), (9.994e-4, "999 µs"), (9.996e-7, "1.00 µs"), (9.99e-7, "999 ns"),
        (2e-15, "2.00e-06 ns"), (1e-15, "1.00e-06 ns"), (9e-16, "0 s"), (-0.5, "-500 ms"),
    ],
)  # fmt: skip
def test_times_change_their_unit_where_they_are_rounded_to_it(value, said):
    assert told.time(value, "s") == said


def test_other_times_and_rates():
    assert told.time(0.5, "abstract") == "0.500"
    assert told.time(0.012394, "s", 2) == "12.394 ms"
    assert told.given_time(0.0, "s") == "0 s"
    assert told.given_time(1234.5, "abstract") == "1,234.5"
    assert told.given_time(0.9995, "s") == "0.9995 s"
    assert told.given_time(2e-9, "s") == "2 ns"
    assert told.stated_time(2.0, "abstract") == "2.00 time units"
    assert told.stated_time(2.0, "s") == "2.00 s"
    assert told.rate(5.0, "s") == "5.00 tokens/s"
    assert told.rate(5.0, "abstract", "x") == "5.00 x/time"


def test_intervals_have_the_digits_that_tell_them_apart():
    both = told.value_and_interval
    assert both(estimate(5.0, 4.9, 5.1)) == ("5.00", "4.90 to 5.10")
    assert both(estimate(5.0, 4.999, 5.001)) == ("5.000", "4.999 to 5.001")
    assert both(estimate(5.0, 4.9997, 5.0003)) == ("5.0000", "4.9997 to 5.0003")
    assert both(estimate(5.0, 4.99974, 5.00026)) == ("5.0000", "4.9997 to 5.0003")
    assert both(estimate(5.0, 4.99976, 5.00024)) == ("5.00", "within 0.01 %")
    assert both(estimate(5.0, float("-inf"), float("inf"))) == ("5.00", "no interval")
    assert told.estimated(estimate(5.0, 4.9, 5.1)) == "5.00 (4.90 to 5.10)"
    assert told.interval(estimate(0.002, 0.0019, 0.0021), told.times("s")) == "1.90 ms to 2.10 ms"


def test_bars_of_a_row():
    assert told.spark([]) == ""
    assert told.spark([3, 3]) == "██"
    assert told.spark([3, 3], None) == "▁▁"
    assert told.spark([0, 0]) == "▁▁"
    assert told.spark([1, 2, 3, 4, 5, 6, 7]) == "▂▃▄▅▆▇█"
    assert told.spark([10, 13.5, 17], None) == "▁▅█"
    assert told.spark([4, 7], 0.0) == "▅█"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.99, "1 s"), (1, "1 s"), (9.94, "9.9 s"), (119, "119 s"), (120, "2 min"),
        (599, "10 min"), (5399, "90 min"), (5400, "1.5 h"), (172_799, "48 h"),
        (172_800, "2 days"), (864_000, "10 days"),
    ],
)  # fmt: skip
def test_spans_of_time(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (1.0, "1 cases/s"), (0.999, "59.9 cases/min"), (99.94, "99.9 cases/s"),
        (100.4, "100 cases/s"), (1 / 60, "1 cases/min"), (1 / 61, "59 cases/h"),
        (1e-5, "0.036 cases/h"),
    ],
)  # fmt: skip
def test_speeds(speed, said):
    assert rate(speed) == said


def table(rows=3, **look):
    return TextTable(
        title="T", columns=("name", "x", "y"),
        rows=[(f"r{k}", str(k), str(10 * k)) for k in range(rows)], **look,
    )  # fmt: skip


def lines(part, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_columns_that_say_the_same_are_told_below():
    same = TextTable(
        title="T", columns=("name", "word", "x", "y"), left=2, note="N.",
        rows=[(f"r{k}", "w", "7", str(k)) for k in range(3)],
    )  # fmt: skip
    said = lines(to_rich(same, compact=True))
    assert said[-1] == "In every row word: w; x: 7. N."
    assert said[1].split() == ["name", "y"]
    two = TextTable(title="T", columns=same.columns, left=2, rows=same.rows[:2])
    assert lines(to_rich(two, compact=True))[1].split() == ["name", "word", "x", "y"]
    blank = TextTable(title="T", columns=("a", "b"), rows=[(f"r{k}", "") for k in range(3)])
    assert lines(to_rich(blank, compact=True))[1].split() == ["a"]
    assert len(lines(to_rich(blank, compact=True))) == 5
    alike = TextTable(title="T", columns=("a", "b"), rows=[("r", str(k)) for k in range(3)])
    assert lines(to_rich(alike, compact=True))[1].split() == ["a", "b"]  # names are not left out


def test_widths_of_columns():
    """Whole headings where there is room, else between their words, at last the cells."""
    wide = TextTable(
        title="T", columns=("name", "long heading", "y"), rows=[("two words", "123", "4")], left=1
    )
    assert _widths(wide, 80) == ([9, 12, 1], 2)
    assert _widths(wide, 27) == ([9, 12, 1], 2)
    found, gap = _widths(wide, 25)
    assert gap == 2
    assert sum(found) + 2 * 3 - 1 <= 25
    assert found[1] >= 7  # its longest word
    assert _widths(wide, 16)[1] == 1
    assert _widths(wide, 11) == ([5, 3, 1], 1)
    assert _widths(wide, 10) == ([None] * 3, 2)
    barred = TextTable(title="T", columns=wide.columns, rows=wide.rows, bars=(0.5,))
    assert _widths(barred, 27 + 12) == ([9, 12, 1], 2)
    assert _widths(barred, 27 + 11)[0] != [9, 12, 1]


def test_tables_that_need_room_on_a_page():
    cell = "w" * 24
    assert not TextTable(title="T", columns=("a", "b"), rows=[("r", cell)], left=2).is_wordy
    assert TextTable(title="T", columns=("a", "b"), rows=[("r", cell + "w")], left=2).is_wordy
    assert not TextTable(title="T", columns=("a", "b"), rows=[("r", cell + "w")]).is_wordy
    assert not TextTable(title="T", columns=("a",), rows=[(cell,)]).has_long_names
    assert TextTable(title="T", columns=("a",), rows=[(cell + "w",)]).has_long_names


def test_markdown_marks_nothing_that_is_text():
    one = TextTable(
        title="a*b", columns=("n", "w", "x"), rows=[("x_y", "_z", "1|2")], left=2, note="<n>"
    )
    assert to_markdown(one).splitlines() == [
        "## a\\*b", "", "| n | w | x |", "|---|---|---:|", "| x_y | \\_z | 1\\|2 |", "", "\\<n\\>"
    ]  # fmt: skip


def test_strong_rows_and_bars():
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, color_system="standard")
    console.print(to_rich(table(strong=1, bars=(0.0, 1.0, 0.5)), 60, compact=True))
    rows = out.getvalue().splitlines()[2:]
    assert ["\x1b[1m" in row or "\x1b[1;" in row for row in rows] == [False, True, False]
    assert [row.count("█") for row in rows] == [0, 10, 5]


def test_commands_break_between_options_and_keep_values():
    assert pasted("a b", 80) == ["a b"]
    assert pasted("cmd --x 1 --y 'two words' z", 12) == [
        "cmd --x 1 \\", "    --y 'two words' \\", "    z"
    ]  # fmt: skip
    # A line with its mark may be as wide as the window.
    assert pasted("cmd --xx 1", 12) == ["cmd --xx 1"]
    assert pasted("cmd --xx 1", 11) == ["cmd \\", "    --xx 1"]
    assert pasted("c -a 1 2 -b", 10) == ["c -a 1 2 \\", "    -b"]
    assert shortened("a; b; c") == "a; c"
    assert shortened("a; b: c; d: e") == "a: e"


def test_a_table_is_cut_to_the_rows_about_its_answer():
    many = table(20, strong=15, bars=tuple(k / 20 for k in range(20)))
    cut, height = _fitting(many, 8, 80, True)
    assert height == _height(to_rich(cut, 80, compact=True), 80) <= 8
    assert len(cut.rows) == 6
    assert cut.rows[cut.strong][0] == "r15"
    assert [row[0] for row in cut.rows] == [f"r{k}" for k in range(12, 18)]
    assert cut.bars == [k / 20 for k in range(12, 18)]
    least, _ = _fitting(many, 0, 80, True)
    assert [row[0] for row in least.rows] == ["r14", "r15", "r16"]
    whole, height = _fitting(many, 22, 80, True)
    assert (len(whole.rows), height) == (20, 22)
    assert len(_fitting(many, 21, 80, True)[0].rows) == 19


def answer(facts=0, warnings=0, **more):
    return Telling(
        answer="Take four.",
        facts=tuple(Fact(f"Fact {k}", f"value {k}") for k in range(facts)),
        warnings=tuple(f"warning {k}: mend" for k in range(warnings)),
        **more,
    )


def brief(told_answer, **given):
    return lines(to_brief(told_answer, "afdplan ratio", **given))


def test_a_short_answer_fits_a_screen_and_says_what_is_left_out():
    for facts in (0, 3, 40):
        for warnings in (0, 4):
            for rows in (0, 40):
                tables = [table(rows)] if rows else []
                shown = brief(answer(facts, warnings, tables=tables))
                assert len(shown) <= 30, (facts, warnings, rows)
                assert shown[0] == "Take four."
                assert shown[-1] == "again: afdplan ratio"
                told_facts = sum("value" in line for line in shown)
                told_rows = sum(line.startswith("r") for line in shown)
                said = sum("warning: warning" in line for line in shown)
                assert said >= min(warnings, 1)
                left = " ".join(line for line in shown if line.startswith("--full adds"))
                for missing, noun in (
                    (facts - told_facts, "more fact"), (rows - told_rows, "more row"),
                    (warnings - said, "more warning"),
                ):  # fmt: skip
                    words = f"{missing} {noun}{'s' * (missing > 1)}"
                    assert (words in left) == (missing > 0), (left, words)
                if facts == 40:
                    assert told_facts >= 6
    assert "--full adds" not in " ".join(brief(answer(3)))


def test_a_short_answer_uses_its_room():
    """One heading, an empty line, facts, one for what is left out, an empty one, and again."""
    shown = brief(answer(60))
    assert len(shown) >= 29
    assert len(brief(answer(60), lines=20)) <= 20
