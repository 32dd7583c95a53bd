"""Plan documents for tests, written by the command itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.invoke import invoke

__all__ = ["SMALL", "edited", "split_of", "written_plan"]

SMALL = (
    *("--prompt", "geometric:1000", "--decode", "geometric:300"),
    *("--model", "qwen3-30b-a3b", "--hardware", "h100", "--attention-devices", "1"),
    *("--devices", 8, "--tpot", "50ms", "--batch-sizes", "8,32", "--microbatches", "2"),
    *("--target", "vllm-afd-plugin"),
)


def written_plan(folder: Path, *options: object, drop: tuple[str, ...] = ()) -> Path:
    """Return the path of a plan that `afdplan plan --json` wrote, without some options of SMALL."""
    pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
    kept = [part for name, value in pairs if name not in drop for part in (name, value)]
    outcome = invoke("plan", *kept, *options, "--json")
    assert outcome.code == 0, outcome
    path = folder / "plan.json"
    path.write_text(outcome.out, encoding="utf-8")
    return path


def split_of(path: Path) -> dict[str, Any]:
    """Return the best split of a plan file, whatever it recommends."""
    document = json.loads(path.read_text(encoding="utf-8"))
    best: dict[str, Any] = document.get("split") or document["recommended"]
    return best


def edited(path: Path, *keys: str, value: Any) -> Path:
    """Return the path of a copy with one value changed by hand."""
    document = json.loads(path.read_text(encoding="utf-8"))
    table = document
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    other = path.with_name("edited.json")
    other.write_text(json.dumps(document), encoding="utf-8")
    return other
