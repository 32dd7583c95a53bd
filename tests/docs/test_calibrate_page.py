"""The page on calibration shows a model file that loads, and options that exist."""

import re
from pathlib import Path

import pytest

from afdplan.calibration.sweep import fit_sweep
from afdplan.cli.calibrate import command
from afdplan.files.latency_file import load_latency
from afdplan.model.sweep import RatioSweep

PAGE = (Path(__file__).parents[2] / "docs" / "calibrate.md").read_text()


def test_the_model_file_loads(tmp_path):
    path = tmp_path / "example.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL).group(1))
    model = load_latency(path)
    assert model.layers == 61
    assert model.ffn(0.0) == 1.2e-4


def test_the_table_of_the_published_sweep_is_what_the_fit_says():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.search(r"\| A : F .*?\n\n", PAGE, re.DOTALL).group().splitlines()[2:]
        if line
    ]
    written = re.search(r'title="sweep.csv"\n(.*?)```', PAGE, re.DOTALL).group(1).splitlines()
    fitted = dict(line.split(",") for line in written[1:])
    assert list(fitted) == [row[0] for row in rows if row[3] == "fitted"]
    assert all(float(fitted[row[0]]) == float(row[1]) for row in rows if row[3] == "fitted")
    fit = fit_sweep(points({int(a): float(time) for a, time in fitted.items()}), layers=94)
    measured = {int(row[0]): float(row[1]) for row in rows}
    for row, found in zip(rows, fit.predict(points(measured)), strict=True):
        predicted = found.value * 1e3
        # Draws may differ in a last digit between processors.
        assert float(row[2]) == pytest.approx(predicted, abs=0.03)
        if row[3] != "fitted":
            error = 100 * (predicted / float(row[1]) - 1)
            assert float(row[3].removesuffix(" %")) == pytest.approx(error, abs=0.1)


def points(milliseconds):
    return RatioSweep(
        attention_workers=list(milliseconds),
        ffn_workers=1,
        batch_size=48,
        microbatches=2,
        mean_tokens=8192,
        step_times=[time * 1e-3 for time in milliseconds.values()],
    )


def test_every_option_named_exists():
    known = {name for parameter in command.params for name in parameter.opts}
    named = set(re.findall(r"(--[a-z][a-z-]+)", PAGE)) - {
        "--trace",
        "--prompt",
        "--decode",
        "--latency",
    }
    assert named <= known, named - known
