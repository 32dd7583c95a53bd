"""The page on calibration shows a model file that loads, and options that exist."""

import re
from pathlib import Path

from afdplan.cli.calibrate import command
from afdplan.files.latency_file import load_latency

PAGE = (Path(__file__).parents[2] / "docs" / "calibrate.md").read_text()


def test_the_model_file_loads(tmp_path):
    path = tmp_path / "example.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL).group(1))
    model = load_latency(path)
    assert model.layers == 61
    assert model.ffn(0.0) == 1.2e-4


def test_every_option_named_exists():
    known = {name for parameter in command.params for name in parameter.opts}
    named = set(re.findall(r"(--[a-z][a-z-]+)", PAGE)) - {"--trace"}
    assert named <= known, named - known
