"""Does the engine whose time is bounded say what Python says, and what costs an expression?"""

import random
import re

import pytest

from afdplan.calibration.checkpoint_rules import _needed
from afdplan.calibration.module_expression import MOST_REPEATS, Expression, _conditions, _ways
from afdplan.errors import InvalidInputError

ATOMS = [
    "a", "b", ".", r"\.", "[ab]", "[^a]", r"\d", r"\w", "(?:a|b)", "(a.)", "[]a]", r"[\].]", "a|b",
    r"\b", "$", "^", "(?=b)", "(?!.*a)", "(?i:B)", "[a-b&&b]", "[a--b]", "[[a]", r"\<", "x{1,2}",
    "x{,2}", "x{", r"\x61",
]  # fmt: skip
NAMES = [
    *("", "a", "b", "ab", "aab.x", "x.a.b", "abab", "bb.a1", "<", "xx", "1.2.a", "B-&"),
    *("&", "[a", "]", "x{1", "a.b.a.b"),
]


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
def test_every_expression_fits_what_it_fits_in_python():
    chance = random.Random(20)
    looked, engines = 0, set()
    for _ in range(1500):
        text = "".join(
            chance.choice(ATOMS) + chance.choice(["", "", "*", "+", "?", "*?", "{2}", "++"])
            for _ in range(chance.randrange(3, 8))
        )
        text = chance.choice(["", "(?!.*b)", "^(?!a|b)(?=.)"]) + text
        if chance.random() < 0.4:
            text = f"({text})*"
        try:
            plain = re.compile(text)
        except re.error:
            continue
        try:
            asked = Expression.of(text)
        except InvalidInputError:
            continue
        looked += 1
        engines.add(asked.is_linear)
        assert asked.fits(NAMES) == [plain.match(name) is not None for name in NAMES], text
    assert looked > 200
    assert engines == {False, True}


def test_what_comes_first_is_asked_alone():
    assert _conditions("(?!a(b|[)]))(?=c)d|e") == ([], "(?!a(b|[)]))(?=c)d|e")
    assert _conditions("(?!a(b|[)]))(?=c)(d|e)") == (
        [(False, "a(b|[)])"), (True, "c")], "(d|e)"
    )  # fmt: skip
    assert _conditions("a(?!b)") == ([], "a(?!b)")


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("abc", (0, 0)), ("a*b+c{2}", (3, 0)), ("a*?", (1, 0)), (r"\*[*+]", (0, 0)),
        ("a?(?:b|c)", (0, 2)), ("(a|b|c|d)", (0, 2)), ("a|b", (0, 0)), ("(a)(b)+", (1, 0)),
    ],
)  # fmt: skip
def test_repetitions_and_choices_are_counted(text, ways):
    assert _ways(text) == ways


@pytest.mark.parametrize("text", ["(a*)*", "(a|b)+", "(a?)+", "((a|b)c)*", "((a*)b)+", "(a*){2}"])
def test_repetitions_of_repetitions_are_too_many(text):
    assert _ways(text)[0] > MOST_REPEATS


def test_a_number_of_thousands_of_digits_is_no_expression():
    with pytest.raises(InvalidInputError, match="no regular expression"):
        Expression.of("a{" + "9" * 5000 + "}")


@pytest.mark.parametrize(
    ("text", "name"),
    [(r"[\]a]b_proj", "ab_proj"), (r"](?#a)?a", "a")],
)
def test_what_a_name_must_hold_is_in_every_name_that_fits(text, name):
    assert re.match(text, name)
    assert all(part in name for part in _needed(f"re:{text}"))


def test_letters_of_other_scripts_are_compared_by_python():
    """Without regard to case, a dotless i is an i to Python alone."""
    asked = Expression.of("(?i).*.*.*\u0131")
    assert not asked.is_linear
    assert asked.fits(["xi", "xa"]) == [True, False]
