import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from afdplan import compile as compiling

CALLED = (
    "from __future__ import annotations\nfrom room.compile import Whole, inlined\n"
    "@inlined\ndef called(x) -> Whole:\n    return x + {}\n"
)
KERNEL = (
    "from room.called import called\nfrom room.compile import compiled\n"
    "@compiled\ndef kernel(x):\n    return 2 * called(x)\n"
)


def test_compiled_code_is_not_kept_beyond_an_edit_of_what_it_calls(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "kernel.py").write_text(KERNEL)
    shutil.copy(Path(compiling.__file__), room / "compile.py")
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    answers = []
    for added in (1, 2):
        called = room / "called.py"
        called.write_text(CALLED.format(added))
        os.utime(called, (added, added))  # Python, too, tells edits by whole seconds
        done = subprocess.run(
            [sys.executable, "-c", "from room.kernel import kernel; print(kernel(10))"],
            env=os.environ | {"PYTHONPATH": places, "NUMBA_CACHE_DIR": str(tmp_path / "c")},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(int(done.stdout))
    assert answers == [22, 24]


WHAT = """
from afdplan.notice import listeners
from afdplan.simulation.alias import alias_table
from afdplan.simulation.length_streams import LengthStreams
from afdplan.simulation.sources import stream
from afdplan.lengths.discrete import parse_law
import numpy as np
told = []
listeners.append(told.append)
rows = np.zeros((4, 3), np.int64)
table = alias_table(parse_law("geometric:5"))
streams = LengthStreams((stream(1, 0, "start"), stream(2, 0, "start")), (table, table))
streams.fill(rows)
streams.fill(rows)
print(told)
"""


def test_who_listens_is_told_of_compiling_and_only_of_that(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", WHAT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert told == [str([True, False] * 2), "[]"]  # two kernels, once


DRAW = """
from afdplan import compile
from afdplan.simulation.alias import alias_table
from afdplan.simulation.length_streams import LengthStreams
from afdplan.simulation.sources import stream
from afdplan.lengths.discrete import parse_law
import numpy as np
rows = np.zeros((4, 3), np.int64)
table = alias_table(parse_law("geometric:5"))
LengthStreams((stream(1, 0, "start"), stream(2, 0, "start")), (table, table)).fill(rows)
print(rows[:, 0].tolist(), compile.remarks)
"""


def drawn(folder, **surroundings):
    return subprocess.run(
        [sys.executable, "-c", DRAW],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)} | surroundings,
        capture_output=True,
        text=True,
        check=False,
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b"")])
def test_damaged_compiled_code_is_compiled_anew(tmp_path, kind, damage):
    """What a full disk or a failing machine left half written stopped every simulation for ever."""
    first = drawn(tmp_path)
    kept = sorted(tmp_path.rglob(f"*.{kind}"))
    assert len(kept) == 2
    sizes = [path.stat().st_size for path in kept]
    for path in kept:
        damage(path)
    again = drawn(tmp_path)
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert [path.stat().st_size for path in kept] == sizes


def test_compiled_code_that_cannot_be_written_is_run_all_the_same(tmp_path):
    first = drawn(tmp_path)
    for path in sorted(tmp_path.rglob("*.nb?")):
        path.unlink()
        path.mkdir()
    again = drawn(tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split("]")[0] == first.stdout.split("]")[0]
    assert "compiled code cannot be kept (is a directory): it is compiled anew" in again.stdout


def test_a_numba_that_may_not_compile_is_a_plain_refusal(tmp_path):
    """Kernels are played as Python for hours, if at all."""
    refused = drawn(tmp_path, NUMBA_DISABLE_JIT="1")
    assert refused.returncode == 1
    assert "UnsupportedError: kernels must be compiled, and NUMBA_DISABLE_JIT is set: unset it" in (
        refused.stderr
    )
