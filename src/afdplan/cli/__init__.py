"""The command line: one file per command, thin; heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["main"]

_ADDRESS_SPACE = 1.4e9  # measured for `simulate`, the largest; below, libraries abort by themselves
_THREADS = ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")
"""What libraries read from the environment, and panic about if it is no number of threads."""


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
    # Products are of vectors: more threads would wait, spinning, for a third more of the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    limit = _memory_limit()
    if limit is not None:  # each thread of a library reserves what may be all there is
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        if limit < _ADDRESS_SPACE:
            _say(
                f"memory is limited to {limit / 1e9:.1f} GB of addresses, and the libraries need "
                f"{_ADDRESS_SPACE / 1e9:.1f} GB: raise it (ulimit -v) if no answer comes"
            )
            sys.meta_path.insert(0, _NoTables())
    for name in _THREADS:
        if not _is_count(os.environ.get(name, "1")):
            sys.exit(_say(f"{name} must be a whole number >= 1, got {os.environ[name]!r:.40}"))
    try:
        code = _run()
    except KeyboardInterrupt:  # while modules are imported, too
        code = _say("interrupted", 130)
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not _starved(error):
            raise
        code = _say("there is not enough memory for this: ask for less, or allow more")
    compiler = sys.modules.get("afdplan.compile")
    for remark in getattr(compiler, "remarks", ()):
        _say(remark)
    sys.exit(code)


class _NoTables:
    """Refuses to import the library of tables, which without memory aborts or waits for ever."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "polars":
            raise MemoryError


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:9]) > 0


def _starved(error: BaseException) -> bool:
    """Tell whether memory ran out: libraries and threads that cannot start do not say so."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    words = ("failed to map", "shared object", "start new thread", "allocate memory")
    return _memory_limit() is not None and any(word in str(error) for word in words)


def _memory_limit() -> int | None:
    """Return the bytes of addresses that this process may have; None if nothing limits them."""
    try:
        import resource
    except ImportError:  # no such limits on this system
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


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
