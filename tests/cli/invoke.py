"""Run the command line in this process, as `main` would, and see what came out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["Outcome", "invoke"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))

    @property
    def error_line(self) -> str:
        """The one line on standard error that a failure must be."""
        lines = self.err.strip().splitlines()
        assert self.code in (1, 2, 3), self
        assert self.out == "", self
        assert "Traceback" not in self.err
        if self.code == 2:  # usage: click adds how to get help
            return lines[-1]
        assert len(lines) == 1, self
        return lines[0]


def invoke(*arguments: object) -> Outcome:
    from afdplan.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["afdplan", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = argv
    return Outcome(int(code or 0), out.getvalue(), err.getvalue())
