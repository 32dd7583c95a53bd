"""What the page of simulated bundles says in words; nothing is drawn here."""

import re

import pytest

from tests.cli.invoke import invoke

BUNDLE = ("--batch-size", 64, "--attention-workers", "2,4", "--requests", 6000)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """An FFN that takes always the same and far longer than attention: nothing scatters."""
    folder = tmp_path_factory.mktemp("simulate")
    latency = folder / "latency.toml"
    latency.write_text(
        'schema_version = 1\nname = "slow FFN"\ntime_unit = "abstract"\n'
        '[attention]\nkind = "linear"\n'
        'slope = 0.0\nintercept = 5.0\n[ffn]\nkind = "linear"\nslope = 0.0\nintercept = 440.0\n'
    )
    law = ("--prompt", "geometric:20", "--decode", "geometric:40")
    target = folder / "page.html"
    done = invoke("simulate", *law, "--latency", latency, *BUNDLE, "--report", target)
    assert done.code == 0, done.err
    return target.read_text(encoding="utf-8").replace("\u00a0", " ")


def test_no_number_is_told_twice_as_an_interval(page):
    assert "(within 0.01 %)" in page
    assert not re.search(r"([0-9.,]{3,}) to \\1[^0-9]", page)


def test_no_sign_and_no_width_without_a_digit(page):
    assert not re.search(r"[-+]0[.]00 %", page)
    assert not re.search(r"± 0[.]0+ %", page)
    assert "± &lt; 0.01 %" in page


def test_abstract_times_say_so(page):
    assert re.search(r"<dt>Output step</dt><dd>[0-9.]+ time units", page)
    assert re.search(r"<dt>Time per output token</dt><dd>[0-9.]+ time units", page)


def test_no_percentile_of_a_constant_lies_below_its_mean(page):
    """The first steps of a run are shorter: the mean is a little below 880."""
    for count in (2, 4):
        step = re.search(rf"A = {count}: output step</th>(.*?)</tr>", page, re.S)[1]
        mean, *others = map(float, re.findall(r"<td[^>]*>([0-9.]+)</td>", step))
        assert len(set(others)) == 1
        assert mean <= others[0] <= 1.001 * mean
