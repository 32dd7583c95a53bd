"""What differs between two answers, and what does the difference cost?"""

from __future__ import annotations

from pathlib import Path

import click

from afdplan.cli.report import documented, json_option, print_json, tell

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan plan --trace monday.csv ... -o monday.json
  afdplan plan --trace friday.csv ... -o friday.json
  afdplan compare monday.json friday.json
"""


@click.command("compare", epilog=EXAMPLES)
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@json_option
def command(first: str, second: str, as_json: bool) -> None:
    """Say what differs between two plans, ratios or simulations, and what that costs.

    A.json and B.json are what `plan`, `ratio` or `simulate` prints with --json.
    """
    from afdplan.files.document import LARGEST_DOCUMENT, read_document
    from afdplan.report.compare import compare, comparison_answer, comparison_told

    documents = [
        read_document(path, "an answer", is_json=True, limit=LARGEST_DOCUMENT)
        for path in (first, second)
    ]
    names = (Path(first).name, Path(second).name)
    if names[0] == names[1]:
        names = (first, second)
    found = compare(documents[0], documents[1], names)
    if as_json:
        answered = documented(
            time_unit=found.time_unit,
            inputs={"first": first, "second": second},
            warnings=(),
            answer=comparison_answer(found),
        )
        print_json(answered)
        return
    tell(comparison_told(found))
