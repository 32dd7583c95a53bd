"""The command line: one file per command, thin; heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the `afdplan` command and exit with its code.

    Exit codes: 0 done, 1 expected failure (one line on standard error), 2 usage, 3 no feasible
    plan, 4 a running plan no longer stands (`check`), 5 it stands but the server runs with other
    settings (`check --settings`), 130 interrupted.
    """
    # A stream that is closed is None, and the next file would be opened in its place.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    try:
        code = _run()
    except KeyboardInterrupt:  # while modules are imported, too
        code = _say("interrupted", 130)
    except MemoryError:
        code = _say("there is not enough memory for this: ask for less, or allow more")
    compiler = sys.modules.get("afdplan.simulation.compile")
    for remark in getattr(compiler, "remarks", ()):
        _say(remark)
    sys.exit(code)


def _run() -> int:
    import click

    from afdplan.cli.group import cli
    from afdplan.errors import AfdplanError, InfeasibleError, reason

    try:
        code = cli.main(prog_name="afdplan", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _say("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`afdplan ... | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        # What is still buffered would fail again when the interpreter leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _say(f"the output cannot be written: {reason(error)}")
    except AfdplanError as error:
        return _say(" ".join(str(error).split()), 3 if isinstance(error, InfeasibleError) else 1)
    return code if isinstance(code, int) else 0


def _say(what: str, code: int = 1) -> int:
    """Say it in one line on standard error, and return the exit code."""
    import click

    click.echo(f"afdplan: {what}", err=True)
    return code
