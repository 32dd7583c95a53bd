"""Which columns do JSON records have, one per line, in one list, or as arrays of one object?"""

from __future__ import annotations
from afdplan.files.trace_source import TraceSource
from afdplan.files.trace_table import Table
from afdplan.errors import TraceError


def json_table(source: TraceSource) -> Table:
    raise TraceError("later")
