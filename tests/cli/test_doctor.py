"""`afdplan doctor` and shell completion."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import afdplan
from afdplan.cli import doctor
from afdplan.cli.group import COMMANDS
from tests.cli.invoke import invoke

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"dev", "docs"}


def asked_for():
    """Return (package, version, extra) of every requirement of a user."""
    lists = {None: PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for extra, lines in lists.items():
        if extra not in FOR_DEVELOPERS:
            for line in lines:
                package, version = re.match(r"([\w.-]+)(?:\[\w+\])?([>=]=[\d.]+)", line).groups()
                yield package, version, extra


@pytest.mark.parametrize("wanted", list(asked_for()), ids=lambda w: w[0])
def test_doctor_knows_each_requirement_of_pyproject(wanted):
    known = {(r.package, r.version, r.extra) for r in doctor.REQUIREMENTS}
    assert wanted in known, f"add {wanted} to REQUIREMENTS in afdplan/cli/doctor.py"


def test_doctor_names_nothing_else():
    assert len(doctor.REQUIREMENTS) == len(list(asked_for()))


def test_text_names_versions_and_mends():
    outcome = invoke("doctor", "--full")
    assert outcome.code == 0
    assert f"afdplan {afdplan.__version__}" in outcome.out
    assert importlib.metadata.version("numpy") in outcome.out
    for package in ("torch", "ray"):
        assert package in outcome.out


def test_json():
    document = invoke("doctor", "--json").document
    assert document["schema_version"] == 1
    packages = {entry["package"]: entry for entry in document["packages"]}
    assert packages["numpy"]["state"] == "ok"
    assert packages["numpy"]["mend"] is None


@pytest.mark.parametrize(
    ("version", "state"),
    [(None, "missing"), ("1.26.4", "too old"), ("2.0.0", "ok"), ("2.0", "ok"), ("10.1", "ok")],
)
def test_states(monkeypatch, version, state):
    def installed(_):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    numpy = [r for r in doctor.REQUIREMENTS if r.package == "numpy"]
    (finding,) = doctor.examine(tuple(numpy))
    assert finding.state == state
    assert finding.mend == (None if state == "ok" else "pip install 'numpy>=2.0'")


def test_a_pinned_version_must_be_met():
    pinned = doctor.Requirement(package="click", version="==0.1", needed_for="x", extra="tables")
    (finding,) = doctor.examine((pinned,))
    assert finding.state == "other version"
    assert finding.mend == "pip install 'afdplan[tables]'"


def test_missing_core_package_is_an_error_of_one_line(monkeypatch):
    real = importlib.metadata.version

    def installed(name):
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    outcome = invoke("doctor")
    assert outcome.code == 1
    assert outcome.err.strip() == (
        "afdplan: packages that afdplan needs are missing or too old: scipy"
    )
    assert "pip install 'scipy>=1.13'" in outcome.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    script = completion(f"{shell}_source")
    assert "_AFDPLAN_COMPLETE" in script


def test_completion_of_commands_and_options():
    words = {"COMP_CWORD": "1", "COMP_WORDS": "afdplan "}
    assert set(COMMANDS) <= {line.split(",")[1] for line in lines("bash_complete", words)}
    words = {"COMP_CWORD": "2", "COMP_WORDS": "afdplan ratio --bat"}
    assert [line.split(",")[1] for line in lines("bash_complete", words)] == ["--batch-size"]


def lines(instruction, words):
    return [line for line in completion(instruction, words).splitlines() if line]


def completion(instruction, words=None):
    environment = os.environ | {"_AFDPLAN_COMPLETE": instruction} | (words or {})
    done = subprocess.run(
        [sys.executable, "-m", "afdplan"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
