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
    answers = []
    for added in (1, 2):
        (room / "called.py").write_text(CALLED.format(added))
        done = subprocess.run(
            [sys.executable, "-c", "from room.kernel import kernel; print(kernel(10))"],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "c")},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(int(done.stdout))
    assert answers == [22, 24]
