"""The glossary has the words that answers and pages use, in the order of the alphabet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from afdplan.theory.layer_cycle import Bottleneck

DOCS = Path(__file__).parents[2] / "docs"
WORDS = (DOCS / "glossary.md").read_text(encoding="utf-8").split("## Symbols")[0]
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", WORDS, re.MULTILINE)[1:]
USED = [
    "AFD",
    "barrier",
    "bundle",
    "colocated",
    "un-split",
    "width",
    "two-batch",
    "roofline",
    "round",
    "objective",
    "warm-up",
    "replication",
    "preemption",
    "overflow",
    "regret",
    "slot",
    "drift",
    "horizon",
    "microbatch",
    "phase",
    "latency",
    "TPOT",
]


def test_rows_are_sorted():
    names = [name.lower() for name, _ in ROWS]
    assert len(names) >= 40
    assert names == sorted(names)


@pytest.mark.parametrize("word", USED)
def test_word_is_explained(word):
    assert any(word in re.split(r"[ ,]+", name) for name, _ in ROWS)


def test_every_bottleneck_is_explained():
    row = next(meaning for name, meaning in ROWS if name == "bottleneck")
    assert all(name in row for name in get_args(Bottleneck))


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "started a real system"),
        ("readers of serving logs", "samples of our making"),
        ("un-split baseline", "derived"),
        ("cache pages", "prefixes"),
        ("--metrics", "paired at random"),
        ("how uneven your experts are",),
        ("prefill",),
    ],
    ids=lambda words: words[0],
)
def test_limits_are_told(words):
    text = " ".join((DOCS / "limits.md").read_text(encoding="utf-8").split())
    paragraphs = text.split(" **")
    assert any(all(word in one for word in words) for one in paragraphs), words
