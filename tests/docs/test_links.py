"""Links of every document lead to a file and to a heading in it; addresses are well-formed.

Addresses on the network are not fetched.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown.extensions.toc import slugify

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
)
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|^(?: {4}|\t)[^\n]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE
)


def prose(text):
    """Return a document without code, where brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", CODE.sub("", text))


def anchors(text, *, on_site):
    """Return the anchors of a document's headings: as the site, or as code hosts make them."""
    found = set()
    for title in re.findall(r"^#{1,6} +(.*?) *#*$", CODE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        if on_site:
            name = slugify(plain, "-")
        else:
            name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        again = 1
        while name in found:
            again += 1
            name = f"{name}-{again}"
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def problems(page, root):
    """Return what is wrong with the links of a page, one sentence each."""
    found, inside = [], root / "docs" in page.parents
    for first, second in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        target = first or second
        parts = urlsplit(target)
        if parts.scheme:
            if parts.scheme not in ("https", "mailto"):
                found.append(f"{target}: neither https nor a file")
            elif parts.scheme == "https" and not re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc):
                found.append(f"{target}: no host")
            continue
        if not parts.path and not parts.fragment:
            found.append(f"{target!r}: empty")
            continue
        aim = (page.parent / parts.path).resolve() if parts.path else page
        if not aim.exists():
            found.append(f"{target}: no such file")
        elif inside and root / "docs" not in aim.parents:
            found.append(f"{target}: outside of the site")
        elif parts.fragment and (
            aim.suffix != ".md"
            or parts.fragment not in anchors(aim.read_text(encoding="utf-8"), on_site=inside)
        ):
            found.append(f"{target}: no such heading")
    return found


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert problems(page, ROOT) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](other.md#two-words)", None),
        ("[a](#here)", None),
        ("`[a](no.md)` is code", None),
        ("![a](no.svg)", "no.svg: no such file"),
        ("[a](other.md#three)", "other.md#three: no such heading"),
        ("[a](#there)", "#there: no such heading"),
        ("[a](../README.md)", "../README.md: outside of the site"),
        ("[a](http://example.org)", "http://example.org: neither https nor a file"),
        ("[a](https://)", "https://: no host"),
        ("[a][b]\n\n[b]: no.md", "no.md: no such file"),
    ],
)
def test_what_is_wrong_is_found(tmp_path, text, said):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text("# Read")
    (docs / "other.md").write_text("# Two `words`\n")
    page = docs / "page.md"
    page.write_text(f"# Here\n\n{text}\n")
    assert problems(page, tmp_path) == ([said] if said else [])
