"""The command line: one file per command, thin; heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the `afdplan` command and exit with its code.

    Exit codes: 0 done, 1 expected failure (one line on standard error), 2 usage, 3 no feasible
    plan, 4 a running plan no longer stands (`check`), 130 interrupted.
    """
    import click

    from afdplan.cli.group import cli
    from afdplan.errors import AfdplanError, InfeasibleError, reason

    try:
        code = cli.main(prog_name="afdplan", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 0
    except click.UsageError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("afdplan: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output has gone (`afdplan ... | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        # What is still buffered would fail again when the interpreter leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"afdplan: the output cannot be written: {reason(error)}", err=True)
        code = 1
    except AfdplanError as error:
        click.echo(f"afdplan: {' '.join(str(error).split())}", err=True)
        code = 3 if isinstance(error, InfeasibleError) else 1
    sys.exit(code if isinstance(code, int) else 0)
