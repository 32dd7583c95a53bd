"""The page of the evidence says what was asked for, once, in order, and stays small."""

from dataclasses import replace

import pytest

from afdplan.report.document import document
from afdplan.report.page import render_page
from afdplan.report.page_validate import validation_page
from afdplan.report.tables import TextTable
from afdplan.report.validate import markdown_page, validation_answer, validation_told
from afdplan.report.validation_words import headline, undecided, validation_subject, verdict
from afdplan.validation.run import Validation
from tests.media import markdown_headings, markdown_tables, page_tables
from tests.validations import barrier_free, cell, paper, validation

WHOLE = [
    "Does what is declared hold?",
    "How far is theory from simulation?",
    "What does the paper say, and what comes out here?",
    "What does following each recommendation cost?",
    "What does the order of a trace cost?",
    "Does it predict measured systems?",
    "How is this read?",
]


def page(result):
    told = document(
        time_unit="abstract",
        inputs={"part": "all"},
        warnings=[verdict(check) for check in result.broken],
        answer=validation_answer(result),
    )
    line = "afdplan validate --report out.html"
    return replace(
        validation_page(validation_told(result), result), document=told, command_line=line
    )


def section(found, title):
    (kept,) = [s for s in found.sections if s.title == title]
    return kept


def test_the_answer_comes_first_and_every_question_in_order():
    found = page(validation())
    assert found.told.answer == "All 7 declared bands hold, over 21 bundles simulated."
    assert [s.title for s in found.sections] == WHOLE
    figures = [f.identifier for s in found.sections for f in s.figures]
    assert len(figures) == len(set(figures)) == 10


def test_a_broken_band_is_the_answer_and_a_warning():
    result = validation(broken=True)
    found = page(result)
    assert found.told.answer == "1 of 7 declared bands does not hold, over 22 bundles simulated."
    assert any("the broken one" in warning for warning in found.told.warnings)
    (table,) = section(found, WHOLE[0]).tables
    assert any("BROKEN" in cell for row in table.rows for cell in row)


def test_undecided_cases_are_counted_in_words():
    (words,) = section(page(validation(12)), WHOLE[0]).words
    assert "12 of 17 cases are undecided" in words
    assert undecided(validation().checks[:2]) == ("No case is undecided.",)


def test_without_simulations_nothing_is_said_of_their_intervals():
    checks = validation().checks[-2:]
    alone = Validation(
        parts=("published",), full=False, published=validation().published, checks=checks
    )
    assert section(page(alone), WHOLE[0]).words == ()


@pytest.mark.parametrize(
    ("result", "titles"),
    [
        (Validation(parts=("paper",), full=False, paper=paper()), [WHOLE[2]]),
        (
            replace(validation(), parts=("published",), paper=None, cells=(), traces=(), ratios=()),
            [WHOLE[0], WHOLE[5]],
        ),
        (
            replace(validation(), parts=("simulation",), paper=None, published=(), traces=()),
            [WHOLE[0], WHOLE[1], WHOLE[3]],
        ),
    ],
    ids=["paper", "published", "simulation"],
)
def test_what_was_not_asked_for_is_left_out(result, titles):
    found = page(result)
    assert [s.title for s in found.sections] == [*titles, WHOLE[-1]]
    assert all(s.figures for s in found.sections[:-1])
    assert b"<figure" in render_page(found)


def test_cells_of_one_kind_alone_have_their_figures_only():
    def figures(*cells):
        result = Validation(parts=("simulation",), full=False, cells=cells)
        return [f.identifier for s in page(result).sections for f in s.figures]

    assert figures(cell("a", "short", rounds=5.0)) == ["short"]
    assert figures(cell("a")) == ["cycle-time", "percentile"]


WITHOUT = [
    WHOLE[0],
    WHOLE[1],
    "Is it right which way to run a bundle pays?",
    WHOLE[4],
    "What was measured of a pool?",
    WHOLE[-1],
]


def test_the_page_without_the_barrier():
    found = page(barrier_free())
    assert [s.title for s in found.sections] == WITHOUT
    assert found.told.answer == "All 6 declared bands hold, over 4 bundles simulated."
    (words,) = section(found, WITHOUT[2]).words
    assert words.startswith("The way that is said to pay gives more in 2 of 2 cases. The recom")
    wrong = page(barrier_free(broken=True))
    assert wrong.told.answer.startswith("1 of 6 declared bands does not hold")
    (words,) = section(wrong, WITHOUT[2]).words
    assert "in 2 of 3 cases; in the others it gives up 5.00 % at most" in words
    assert "m <= 3" in section(found, WHOLE[0]).tables[0].note
    assert "without the barrier" in found.told.subject


@pytest.mark.parametrize("result", [validation(), barrier_free()], ids=["with", "without"])
def test_tables_are_those_of_the_markdown_page(result):
    text = markdown_page(result)
    tables = [table for s in page(result).sections for table in s.tables]
    assert sorted(table.title for table in tables) == sorted(markdown_headings(text))
    cells = [[list(table.columns), *map(list, table.rows)] for table in tables]
    assert sorted(cells) == sorted(markdown_tables(text))
    shown = page_tables(render_page(page(result)))[: len(cells)]
    assert cells == shown


def test_short_traces_are_told():
    words = section(page(validation()), WHOLE[4]).words
    assert "1 of 2, the theory is +2.00 % to +2.00 % from a replay" in words[0]
    assert words[1].startswith("1 of 2 traces are too short")


def test_sources_are_named_with_their_addresses():
    html = render_page(page(validation())).decode()
    for system in validation().published:
        assert system.url in html


def test_a_full_run_stays_below_3_megabytes():
    result = validation(900)
    assert len(result.all_cells) > 900
    html = render_page(page(result))
    assert len(html) < 3_000_000
    assert html.count(b"law 899") >= 2  # in a figure and in a table


def test_the_subject_says_what_was_looked_at():
    result = validation()
    assert validation_subject(result, "my/traces") == (
        "The paper's numbers, theory against simulation, measured systems: a selection, "
        "with the traces of my/traces"
    )
    alone = replace(result, parts=("paper",), full=True)
    assert validation_subject(alone, None) == "The paper's numbers: every law, regime and size"


def test_a_verdict_says_its_unit_once():
    short = next(check for check in validation().checks if "below the validity" in check.band)
    assert verdict(short).count("of what is stated") == 1


def test_nothing_but_the_paper_has_no_band_to_count():
    assert headline(Validation(parts=("paper",), full=False, paper=paper())) == (
        "1 published numbers reproduced, 1 not reproducible (each says why)"
    )


def test_a_table_of_sentences_is_wordy():
    table = TextTable(title="t", columns=("a", "why"), rows=[("x", "y " * 20)], left=2, note="n")
    assert table.is_wordy
    assert not replace(table, left=1).is_wordy
    assert replace(table, rows=[("x" * 40, "")]).has_long_names
