from __future__ import annotations

import subprocess
import sys

import pytest

import afdplan


def test_public_names_are_exactly_all():
    assert set(afdplan.__all__) == set(afdplan._HOMES)
    assert sorted(afdplan.__all__) == afdplan.__all__
    for name in afdplan.__all__:
        value = getattr(afdplan, name)
        assert value.__doc__
        assert value.__module__ == f"afdplan.{afdplan._HOMES[name]}"
        assert name in dir(afdplan)
    with pytest.raises(AttributeError, match="nothing"):
        _ = afdplan.nothing


@pytest.mark.parametrize("code", ["import afdplan", "import afdplan.cli.group"])
def test_import_stays_light(code):
    heavy = "{'numpy', 'numba', 'scipy', 'polars', 'matplotlib', 'rich', 'msgspec'}"
    script = f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "import afdplan.report.plan, afdplan.report.plan_answer, afdplan.planning.whole",
        "import afdplan; afdplan.recommend_ratio, afdplan.make_plan",
    ],
)
def test_what_is_not_played_loads_no_compiler(code):
    script = f"{code}; import sys; print('numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_an_answer_of_a_room_is_told_and_only_then():
    script = (
        "import sys; from afdplan.lengths.law import IndependentLengths\n"
        "from afdplan.workload.description import describe_law\n"
        "found = describe_law(IndependentLengths(prompt='100', decode='10'))\n"
        "before = 'afdplan.media' in sys.modules; print(found, before, sep='|')"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    sentence, before = out.stdout.strip().split("|")
    assert "104" in sentence
    assert before == "False"
