"""What is installed here, what is missing for which command, and what mends it?"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import click

from afdplan.cli.report import documented, json_option, print_json, tell
from afdplan.version import __version__

if TYPE_CHECKING:
    from afdplan.report.telling import Telling

__all__ = ["REQUIREMENTS", "Requirement", "command", "examine"]

State = Literal["ok", "missing", "too old", "other version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that afdplan needs, and what for.

    Attributes
    ----------
    package
        Its name on the package index.
    version
        ``>=X`` or ``==X``.
    needed_for
        What fails without it, in words.
    extra
        Name of the optional extra that installs it; None for a package that is always needed.
    before_python
        First Python version that does not need it, (3, 14) for example; None if all do.
    """

    package: str
    version: str
    needed_for: str
    extra: str | None = None
    before_python: tuple[int, int] | None = None


REQUIREMENTS = (
    Requirement(package="click", version=">=8.2", needed_for="every command"),
    Requirement(package="rich", version=">=14.0", needed_for="every command"),
    Requirement(package="numpy", version=">=2.0", needed_for="every command"),
    Requirement(package="scipy", version=">=1.13", needed_for="every command"),
    Requirement(package="polars", version=">=1.20", needed_for="--trace, tables, logs"),
    Requirement(package="msgspec", version=">=0.19", needed_for="--latency, JSON traces, logs"),
    Requirement(
        package="backports.zstd",
        version=">=1.0",
        needed_for="traces packed by zstd",
        before_python=(3, 14),
    ),
    Requirement(package="tomli-w", version=">=1.1", needed_for="writing latency models"),
    Requirement(package="numba", version=">=0.68", needed_for="simulate"),
    Requirement(package="matplotlib", version=">=3.9", needed_for="--plot, --timeline"),
    Requirement(package="jinja2", version=">=3.1", needed_for="--report, deploy"),
    Requirement(package="pyyaml", version=">=6.0", needed_for="deploy"),
    Requirement(package="prometheus-client", version=">=0.21", needed_for="snapshots of /metrics"),
    Requirement(package="torch", version=">=2.10", needed_for="profile", extra="profile"),
    Requirement(package="ray", version=">=2.40", needed_for="sweep on a cluster", extra="ray"),
)
"""All packages, as `pyproject.toml` asks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A requirement beside what is installed."""

    requirement: Requirement
    installed: str | None
    state: State

    @property
    def mend(self) -> str | None:
        """The command that mends it, None where nothing is wrong."""
        if self.state == "ok":
            return None
        if self.requirement.extra is not None:
            return f"pip install 'afdplan[{self.requirement.extra}]'"
        return f"pip install '{self.requirement.package}{self.requirement.version}'"


def examine(requirements: tuple[Requirement, ...] = REQUIREMENTS) -> list[Finding]:
    """Return each requirement of this Python with the version that is installed.

    Only the packages' metadata are read; nothing heavy is imported.

    Examples
    --------
    >>> [finding.state for finding in examine(REQUIREMENTS[:2])]
    ['ok', 'ok']
    """
    findings = []
    for requirement in requirements:
        if requirement.before_python and sys.version_info[:2] >= requirement.before_python:
            continue
        try:
            installed = importlib.metadata.version(requirement.package)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(requirement=requirement, installed=None, state="missing"))
            continue
        state = _state(requirement.version, installed)
        findings.append(Finding(requirement=requirement, installed=installed, state=state))
    return findings


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what is installed, what is missing for which command, and what mends it.

    Ends with code 1 if a package that afdplan always needs is missing or too old.
    """
    from afdplan.errors import UnsupportedError

    findings = examine()
    broken = [f for f in findings if f.state != "ok" and f.requirement.extra is None]
    if as_json:
        answer = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": [
                {
                    **asdict(finding.requirement),
                    "installed": finding.installed,
                    "state": finding.state,
                    "mend": finding.mend,
                }
                for finding in findings
            ],
        }
        warnings = [f"{f.requirement.package}: {f.state}; {f.mend}" for f in findings if f.mend]
        text = documented(time_unit="s", inputs={}, warnings=warnings, answer=answer)
        print_json(text)
    else:
        tell(_told(findings, broken))
    if broken:
        names = ", ".join(finding.requirement.package for finding in broken)
        raise UnsupportedError(f"packages that afdplan needs are missing or too old: {names}")


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers at the front of a version: ``2.4.0rc1`` is (2, 4, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _state(wanted: str, installed: str) -> State:
    relation, version = wanted[:2], wanted[2:]
    if relation == "==":
        return "ok" if _release(installed) == _release(version) else "other version"
    return "ok" if _release(installed) >= _release(version) else "too old"


def _told(findings: list[Finding], broken: list[Finding]) -> Telling:
    from afdplan.report.quantities import counted
    from afdplan.report.tables import TextTable
    from afdplan.report.telling import Fact, Telling

    rows = [
        (
            found.requirement.package,
            found.requirement.version.replace(">=", ">= ").replace("==", "== "),
            (found.installed or "-") + ("" if found.state == "ok" else f" ({found.state})"),
            found.requirement.needed_for + (" (optional)" if found.requirement.extra else ""),
        )
        for found in findings
    ]
    missing = [row for row, found in zip(rows, findings, strict=True) if found.state != "ok"]
    return Telling(
        brief=(
            Fact("As needed", counted(len(rows) - len(missing), "package")),
            *(Fact(name, f"{have}, needed {want}", use) for name, want, have, use in missing),
        ),
        answer="Some commands will fail."
        if broken
        else "Everything that is always needed is here.",
        subject=f"afdplan {__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        tables=(
            TextTable(
                title="Packages",
                columns=("package", "needed", "installed", "for"),
                rows=rows,
                left=4,
            ),
        ),
        warnings=tuple(f"for {f.requirement.needed_for}: {f.mend}" for f in findings if f.mend),
        style="red" if broken else "green",
    )
