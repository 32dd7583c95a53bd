"""Is every config that a public package ships read, with the total that its publisher states?

The configs are read from the installed package and are no part of this repository.
"""

import importlib.util
from pathlib import Path

import pytest

from afdplan.calibration.model_facts import architecture_from_config
from afdplan.files.model_config import read_model_config
from benchmarks.model_table import PUBLISHED, config_files

FOUND = importlib.util.find_spec("aiconfigurator_core")
FOLDER = Path(FOUND.origin).parent / "model_configs" if FOUND and FOUND.origin else None


@pytest.mark.skipif(FOLDER is None, reason="aiconfigurator-core is not installed")
def test_every_config_is_read():
    assert FOLDER is not None
    files = config_files(FOLDER)
    assert len(files) >= 86
    for name, path in files.items():
        model = architecture_from_config(read_model_config(path), name)
        assert model.precision is not None, name
        assert model.total_parameters > 1e8, name


@pytest.mark.skipif(FOLDER is None, reason="aiconfigurator-core is not installed")
@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_those_of_the_publisher(name):
    assert FOLDER is not None
    files = [path for known, path in config_files(FOLDER).items() if name in known]
    assert files
    for path in files:
        model = architecture_from_config(read_model_config(path), name)
        total, why = PUBLISHED[name]
        tolerance = 0.035 if why else 0.0125
        assert model.total_parameters == pytest.approx(total, rel=tolerance)
