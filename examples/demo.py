"""The main job on the bundled trace: what the requests look like, then the right ratio."""

from __future__ import annotations

import shlex
import subprocess
import sys

from afdplan.files.traces.example import example_trace_path

TRACE = str(example_trace_path())
COMMANDS = [
    ["workload", TRACE],
    [
        "ratio",
        *("--trace", TRACE),
        *("--latency", "deepseek-v3-ascend-910c"),
        *("--batch-size", "128"),
    ],
]


def main() -> int:
    """Run the commands as a user would type them."""
    for arguments in COMMANDS:
        print(f"\n$ afdplan {shlex.join(arguments)}\n", flush=True)
        finished = subprocess.run([sys.executable, "-m", "afdplan", *arguments], check=False)
        if finished.returncode:
            return finished.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
