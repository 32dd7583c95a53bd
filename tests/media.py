"""What a reader sees of text, Markdown and page, by parsers that are not ours."""

from __future__ import annotations

import html.parser
import io
import re

from markdown_it import MarkdownIt
from rich.console import Console

from afdplan.report.telling import to_terminal

__all__ = [
    "markdown_headings",
    "markdown_tables",
    "page_tables",
    "page_words",
    "shown_lines",
    "terminal_words",
]


def _inline(token) -> str:
    return "".join(
        child.content if child.type in ("text", "text_special", "softbreak") else f"<{child.type}>"
        for child in token.children
    )


def markdown_headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        _inline(tokens[k + 1])
        for k, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    ]


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of each table, headings first; marks that took effect show as <names>."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for k, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append(_inline(tokens[k + 1]))
    return tables


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "input", "br"):
            self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag

    def handle_data(self, data):
        if "script" in self.tags or "style" in self.tags:
            return
        data = data.replace("\u00a0", " ")
        self.words.append(data)
        if self.tags and self.tags[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data


def _parsed(page: bytes | str) -> _Page:
    parser = _Page()
    parser.feed(page if isinstance(page, str) else page.decode())
    parser.close()
    assert parser.tags == []
    return parser


def page_tables(page: bytes | str) -> list[list[list[str]]]:
    """Rows of cells of each table, headings first; every element is closed where it was opened."""
    return _parsed(page).tables


def page_words(page: bytes | str) -> str:
    return " ".join(" ".join(_parsed(page).words).split())


def shown_lines(shown, width: int = 80) -> list[str]:
    """What a terminal shows, line by line."""
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(shown)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def terminal_words(told, width: int = 80) -> str:
    """What a terminal of that width shows, its lines joined."""
    lines = shown_lines(to_terminal(told, width), width)
    assert max(map(len, lines)) <= width
    return re.sub(r"\s+", " ", "\n".join(lines))
