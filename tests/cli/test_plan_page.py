"""What the page of a plan says in words and tables; nothing is drawn here."""

import json
import re

import pytest

from tests.cli.invoke import invoke

PLAN = ("--model", "qwen3-30b-a3b", "--hardware", "h100", "--attention-devices", "1", "--devices",
        8, "--tpot", "50ms", "--batch-sizes", "8,32", "--microbatches", "1,2")  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    trace = folder / "trace.csv"
    rows = [f"{1000 + 2000 * (k >= 400) + k * 37 % 900},{1 + k * k % 600}" for k in range(800)]
    trace.write_text("\n".join(["prompt_tokens,decode_tokens", *rows]) + "\n")
    done = invoke("plan", "--trace", trace, *PLAN, "--report", folder / "plan.html")
    assert done.code == 0, done.err
    html = (folder / "plan.html").read_text(encoding="utf-8")
    return html.replace("\u00a0", " ")


def test_a_chance_too_small_to_tell_is_a_bound(page):
    assert "overflow probability &lt; 1e\u201112 per worker and step" in page
    assert not re.search(r"overflows? (in|probability) 0[ <]", page)


def test_the_parts_of_the_trace_are_on_the_page(page):
    assert "The recommendation in each part of the trace" in page
    for name in ("requests 1 to 400", "requests 401 to 800", "high end of the load"):
        assert f'<th scope="row">{name}' in page


def test_nobody_asked_for_the_batch_that_was_found(page):
    assert "<i> planned</i>" in page
    assert "<i> asked</i>" not in page


def test_every_batch_and_number_of_microbatches_has_a_sentence(page):
    drawn = json.loads(re.search(r'id="drawn">(.*?)</script>', page, re.S)[1])
    (answers,) = drawn["words"]
    values = [re.findall(f'name="{name}" value="([0-9]+)"', page) for name in drawn["choices"]]
    assert {f"{b}|{m}" for b in values[0] for m in values[1]} == set(answers)
    chosen = answers["|".join(drawn["choices"].values())]
    document = json.loads(re.search(r'id="document">(.*?)</script>', page, re.S)[1])
    is_split = document["recommended"]["kind"] == "split"
    assert chosen.endswith("the recommended design." if is_split else "the best split.")
    assert sum("gives up" in text or "no design" in text for text in answers.values()) == 3
