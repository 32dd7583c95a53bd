import pytest

import afdplan.validation.bands
import afdplan.validation.published
import afdplan.validation.run
from tests.cli.invoke import invoke


def test_published_systems_hold():
    outcome = invoke("validate", "published")
    assert outcome.code == 0, outcome.err
    assert "All 2 declared bands hold" in outcome.out
    assert "FastAFD" in outcome.out


def test_json_and_markdown(tmp_path):
    page = tmp_path / "page.md"
    outcome = invoke("validate", "published", "--json", "--markdown", page)
    assert outcome.code == 0
    answer = outcome.document
    assert answer["holds"] is True
    assert {band["holds"] for band in answer["bands"]} == {True}
    assert answer["published"][0]["points"][1]["ratio"] == "7:1"
    assert page.read_text().startswith("# Validation")


def test_a_broken_band_exits_with_1_and_names_the_worst_case(monkeypatch, tmp_path):
    systems = afdplan.validation.published.published_systems()
    monkeypatch.setattr(afdplan.validation.bands, "MEASURED", 0.001)
    monkeypatch.setattr(afdplan.validation.run, "published_systems", lambda: systems)
    report = tmp_path / "page.html"
    outcome = invoke("validate", "published", "--report", report)
    assert outcome.code == 1
    assert "BROKEN" in outcome.out
    wrote, line = outcome.err.splitlines()
    assert wrote.startswith("afdplan: wrote ")
    assert line.startswith("afdplan: step time of measured designs")
    assert "FastAFD, 15:1" in line  # the farthest from its own measurement
    assert "<h1>1 of 2 declared bands does not hold.</h1>" in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("everything",), 2, "Invalid value"),
        (("published", "--traces", "."), 2, "belongs to the part simulation"),
        (("simulation", "--traces", "nowhere"), 1, "must be a folder"),
        (("simulation", "--traces", "a" * 5000), 1, "must be a folder"),
        (("published", "--resume", __file__), 1, "--resume"),
        (("published", "--resume", "a" * 5000), 1, "--resume"),
    ],
)
def test_bad_input_is_one_line(arguments, code, part):
    outcome = invoke("validate", *arguments)
    assert outcome.code == code
    assert part in outcome.err
    assert "Traceback" not in outcome.err


def test_plot_draws_the_figures_of_the_page(tmp_path):
    picture = tmp_path / "evidence.svg"
    assert invoke("validate", "published", "--plot", picture).code == 0
    drawn = picture.read_text()
    for title in ("How much of each declared limit is used", "Step time of measured systems"):
        assert title in drawn


def test_published_figures_without_the_barrier(tmp_path):
    page = tmp_path / "evidence.html"
    mark = tmp_path / "evidence.md"
    given = ("validate", "published", "--execution", "barrier-free")
    found = invoke(*given, "--json", "--report", page, "--markdown", mark)
    assert found.code == 0, found.err
    answer = found.document
    assert answer["execution"] == answer["inputs"]["execution"] == "barrier-free"
    assert answer["published"] == answer["bands"] == []
    assert len(answer["pool"]) == 7
    told = invoke(*given).out
    assert "1 published numbers reproduced, 2 in part, 4 not reproducible" in told
    assert "--execution barrier-free" in told.partition("next:")[2].partition("again:")[0]
    assert "--execution barrier-free --markdown" in mark.read_text()
    for fact in answer["pool"]:
        assert fact["ours"] in mark.read_text()
        assert fact["ours"] in page.read_text()


def test_the_paper_has_a_barrier():
    outcome = invoke("validate", "paper", "--execution", "barrier-free")
    assert outcome.code == 2
    assert "the paper has no bundle without a barrier" in outcome.err
