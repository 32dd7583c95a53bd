"""How does an answer become one HTML file that needs nothing else?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from afdplan.plotting.figure import Figure, figure_document
from afdplan.report.document import to_json
from afdplan.report.quantities import plain
from afdplan.report.tables import TextTable
from afdplan.report.telling import Telling
from afdplan.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["CaseWords", "Choice", "Page", "Section", "render_page"]

OPTIONS = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Something that the reader can vary; every value was computed beforehand.

    Attributes
    ----------
    name
        What is chosen, as figures name it.
    values
        Labels.
    chosen
        The label that is chosen at first.
    mark
        What is said of that label, such as ``asked``.
    """

    name: str
    values: tuple[str, ...]
    chosen: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseWords:
    """A paragraph that is another for each combination of choices.

    Attributes
    ----------
    texts
        By the labels of all choices of the page, joined by ``|``.
    first
        The key of what is read before anything is chosen.
    """

    texts: Mapping[str, str]
    first: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Section:
    """A question and its answer: words first, then figures and tables.

    Attributes
    ----------
    title
        The question, short.
    words
        Paragraphs; those of kind `CaseWords` follow the reader's choices.
    figures, tables
        What shows it.
    """

    title: str
    words: tuple[str | CaseWords, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[TextTable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Page:
    """All that a report page says, in the order of reading.

    Attributes
    ----------
    title
        Of the browser's tab.
    told
        The answer, as a terminal shows it too; its tables stand in the sections.
    choices
        What the reader can vary, for all figures at once.
    choice_answers
        The answer for each combination of choices, keys as in `CaseWords.texts`.
    sections
        Questions and answers.
    document
        The JSON document of the command; its inputs are shown.
    command_line
        What reproduces the page.
    """

    title: str
    told: Telling
    choices: tuple[Choice, ...] = ()
    choice_answers: Mapping[str, str] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    command_line: str = ""


def render_page(page: Page) -> bytes:
    """Return the page as one HTML file: styles, charts and numbers inside, nothing to fetch.

    Notes
    -----
    The same page gives the same bytes. Whatever comes from files is escaped, and a policy in the
    page forbids it every request.
    """
    folder = resources.files("afdplan") / "data" / "report"
    figures = [figure_document(f) for section in page.sections for f in section.figures]
    drawn = {
        "choices": {choice.name: choice.chosen for choice in page.choices},
        "words": [_spaced(page.choice_answers)] * bool(page.choices)
        + [
            _spaced(words.texts)
            for section in page.sections
            for words in section.words
            if isinstance(words, CaseWords)
        ],
        "figures": figures,
    }
    text = _template().render(
        page=page,
        answer=_sentences(page.told.answer),
        command=re.findall(r"'[^']*'|[^ ]+| +", page.command_line),
        version=__version__,
        inputs=_input_rows(page.document.get("inputs", {})),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        scripts=[(folder / name).read_text(encoding="utf-8") for name in SCRIPTS],
        drawn=_inside_script(to_json(drawn, indent=None)),
        # Blanks at the start of lines would be a sixth of a page with hundreds of bundles.
        document=_inside_script(to_json(page.document, indent=0)),
    )
    return text.encode()


@cache  # compiling it takes longer than most pages
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("afdplan", "data/report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_together,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["options"] = OPTIONS.split  # every other part is one, kept on its line
    return environment.get_template("page.html")


def _sentences(answer: str) -> tuple[str, str]:
    """Return the first sentence of an answer, which is the heading, and the others."""
    first, *rest = re.split(r"(?<=\.) (?=[A-Z])", answer, maxsplit=1)
    return first, "".join(rest)


def _together(value: Any) -> Any:
    """Return visible text whose numbers keep their sign and their per cent on the same line."""
    if type(value) is not str:
        return value
    return plain(value).replace(" %", "\u00a0%").replace("± ", "±\u00a0")


def _spaced(texts: Mapping[str, str]) -> dict[str, str]:
    return {_together(key): _together(text) for key, text in texts.items()}


def _inside_script(text: str) -> str:
    """Return JSON that cannot end the script element that holds it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _input_rows(inputs: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values of all inputs that were given, nested ones with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            rows += _input_rows(value, f"{prefix}{name}.")
        elif value is None or value in ((), [], ""):
            continue
        elif isinstance(value, list | tuple):
            rows.append((prefix + name, ", ".join(str(part) for part in value)))
        else:
            rows.append((prefix + name, str(value)))
    return rows
