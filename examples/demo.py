"""The main job on the bundled trace: what the requests look like, then the right ratio.

Needs only what `make demo` installs; `pip install -e .` brings the other commands too.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from afdplan.files.traces.example import example_trace_path

TRACE = str(example_trace_path())
COMMANDS = [
    ["workload", TRACE],
    [
        "ratio",
        *("--trace", TRACE),
        *("--model", "deepseek-v3", "--hardware", "h200"),
        *("--requests-per-worker", "256"),
    ],
]
NEXT = "ratio --trace requests.csv --model deepseek-v3 --hardware h200 --requests-per-worker 256"


def main() -> int:
    """Run the commands as a user would type them."""
    for arguments in COMMANDS:
        print(f"\n$ afdplan {shlex.join(arguments)}\n", flush=True)
        finished = subprocess.run([sys.executable, "-m", "afdplan", *arguments], check=False)
        if finished.returncode:
            return finished.returncode
    folder = Path(sys.executable).parent
    print(
        f"\nWith your own trace (any table of prompt and output lengths):\n{folder}/afdplan {NEXT}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
