"""A page stands alone, and nothing that a file says can become markup."""

import hashlib
import json
import re
from dataclasses import replace
from importlib import resources

from afdplan.plotting.figure import Axis, Chart, Figure, Layer
from afdplan.report.page import CaseWords, Choice, Page, Section, render_page
from afdplan.report.quantities import plain
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling

EVIL = "</script><script>alert(1)</script><!-- \u2028"


def page(text="calm"):
    layer = Layer(kind="line", name=text, columns={"x": [1], "y": [2]}, words=[text])
    figure = Figure(
        identifier="one",
        title=text,
        caption=text,
        charts={"": Chart(x=Axis(label=text), y=Axis(label=text), layers=[layer])},
    )
    return Page(
        title=text,
        told=Telling(
            subject=text,
            answer=text,
            facts=(Fact(name=text, value=text, remark=text),),
            warnings=(text,),
            assumptions=(text,),
        ),
        choices=(Choice(name=text, values=(text,), chosen=text, mark=text),),
        choice_answers={text: text},
        sections=(
            Section(
                title=text,
                words=(text, CaseWords(texts={text: text}, first=text)),
                figures=(figure,),
                tables=(TextTable(title=text, columns=(text,), rows=[(text,)]),),
            ),
        ),
        document={"inputs": {"trace": text, "nested": {"list": [1, 2]}, "none": None}},
        command_line=text,
    )


def part(html, name):
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.S)
    return json.loads(found[1])


def test_hostile_text_stays_text():
    html = render_page(page(EVIL)).decode()
    assert "<script>alert" not in html
    assert html.count("</script>") == render_page(page()).decode().count("</script>")
    assert part(html, "document")["inputs"]["trace"] == EVIL
    assert part(html, "drawn")["words"] == [{plain(EVIL): plain(EVIL)}] * 2


def test_a_page_refers_to_nothing_outside():
    html = render_page(page()).decode()
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:|#)\w+", markup)
    assert "default-src 'none'" in markup
    assert len(html.encode()) < 1_000_000


def test_the_same_page_gives_the_same_bytes():
    assert render_page(page()) == render_page(page())


def test_inputs_are_shown_flat_without_what_was_not_given():
    html = render_page(page()).decode()
    assert '<th scope="row">nested.list</th><td>1, 2</td>' in html
    assert '<th scope="row">none</th>' not in html


def test_vendored_scripts_are_those_that_are_documented():
    folder = resources.files("afdplan") / "data" / "report" / "vendor"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("d3.min.js", "plot.umd.min.js"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert re.search(rf"`{re.escape(name)}`.*`{digest}`", readme)
    notices = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    assert "Mike Bostock" in notices
    assert "Observable, Inc." in notices


def test_the_heading_is_the_first_sentence():
    told = Telling(subject="s", answer="Deploy 8 ranks, 2.5 % more than 7. It is too large. Yes.")
    html = render_page(replace(page(), told=told)).decode()
    assert "<h1>Deploy 8 ranks, 2.5\u00a0% more than 7.</h1>" in html
    assert '<p class="rest">It is too large. Yes.</p>' in html
    long = replace(told, answer=f"{'very ' * 40}long.")
    assert '<h1 class="long">' in render_page(replace(page(), told=long)).decode()
