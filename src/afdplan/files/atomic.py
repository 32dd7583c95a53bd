"""How is a file written so that nobody ever sees half of it?"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from afdplan.errors import InvalidInputError

__all__ = ["check_folder", "staged", "write_atomic"]


def check_folder(path: str | Path) -> None:
    """Refuse a file whose folder is not there: better before the work than after it.

    Raises
    ------
    InvalidInputError
        If there is no such folder, or `path` is a folder itself.

    Examples
    --------
    >>> check_folder("no/such/folder/curve.png")
    Traceback (most recent call last):
    ...
    afdplan.errors.InvalidInputError: cannot write no/such/folder/curve.png: there is no folder \
no/such/folder
    """
    shown = Path(path)
    if shown.is_dir():
        raise InvalidInputError(f"cannot write {shown}: it is a directory; name a file")
    if not shown.parent.is_dir():
        raise InvalidInputError(f"cannot write {shown}: there is no folder {shown.parent}")


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, then rename it into place.

    Parameters
    ----------
    path
        Where the file shall be; a symbolic link is followed, a device (``/dev/stdout``) is
        written to directly.
    content
        All of the file.

    Raises
    ------
    InvalidInputError
        If the file cannot be written; then nothing of it is left behind.
    """
    shown = Path(path)
    try:
        target = Path(os.path.realpath(shown))
        if target.is_dir():
            raise InvalidInputError(f"cannot write {shown}: it is a directory; name a file")
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return
        with staged(shown) as temporary:
            temporary.write_bytes(content)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise _failure(shown, error) from None


@contextlib.contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; the file written there becomes `path` at the end.

    For writers that want a name and not the content. If they raise, nothing is left behind.

    Raises
    ------
    InvalidInputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table"
    >>> with staged(path) as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> path.read_text()
    'all of it'
    """
    shown = Path(path)
    temporary: Path | None = None
    try:
        target = Path(os.path.realpath(shown))
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except OSError as error:
        raise _failure(shown, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _failure(shown: Path, error: Exception) -> InvalidInputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InvalidInputError(f"cannot write {shown}: {reason.lower()}")
