import os
import shutil
import subprocess
import sys
from pathlib import Path

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
        (room / "called.py").write_text(CALLED.format(added))
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
from afdplan.lengths.discrete import parse_law
import numpy as np
told = []
listeners.append(told.append)
rows = np.zeros((4, 3), np.int64)
table = alias_table(parse_law("geometric:5"))
table.draw(np.random.default_rng(1), rows, 0)
table.draw(np.random.default_rng(1), rows, 1)
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
    assert told == ["[True, False]", "[]"]
