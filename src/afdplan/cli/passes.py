"""What do forward passes of running ranks look like, where a trace of requests was expected?"""

from __future__ import annotations

from pathlib import Path

import click

from afdplan.cli.report import documented, print_json, tell

__all__ = ["told_passes"]


def told_passes(path: str | None, drawing: str | None, confidence: float, as_json: bool) -> bool:
    """Tell forward pass metrics if a file holds them: they know loads, but no requests.

    Parameters
    ----------
    path
        The file; pipes are not looked into.
    drawing
        A picture or page that was asked for.
    confidence
        Coverage of the interval.
    as_json
        Whether to print JSON.

    Returns
    -------
    bool
        Whether that is what the file held.
    """
    from afdplan.errors import TraceError
    from afdplan.files.document import is_there, open_source
    from afdplan.files.measurements.fpm import FPM_SIGN, read_forward_passes

    if path is None or not is_there(path) or not Path(path).is_file():
        return False
    with open_source(path, "a trace", TraceError) as source:
        if source.kind != "json" or not FPM_SIGN.search(source.head):
            return False
        passes = read_forward_passes(source)
    if drawing is not None:
        raise click.UsageError(
            "forward pass metrics have no lengths to draw: leave --plot and --report out"
        )
    from afdplan.report.passes import passes_answer, passes_told
    from afdplan.workload.passes import describe_passes

    found = describe_passes(passes, confidence)
    told = passes_told(found, passes.source)
    if not as_json:
        tell(told)
        return True
    inputs = {"trace": path, "format": "forward pass metrics", "confidence": confidence}
    answer = passes_answer(found)
    print_json(documented(time_unit="s", inputs=inputs, warnings=told.warnings, answer=answer))
    return True
