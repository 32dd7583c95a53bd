"""How is a file, or a folder of files, written so that nobody ever sees half of it?"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from afdplan.errors import InvalidInputError, reason

__all__ = ["cannot_write", "check_folder", "staged", "write_atomic", "write_folder", "writing"]


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
    with writing(shown):  # too long a name, or a folder that may not be looked into
        is_folder, has_folder = shown.is_dir(), shown.parent.is_dir()
    if is_folder:
        raise InvalidInputError(f"cannot write {shown}: it is a directory; name a file")
    if not has_folder:
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
    with writing(shown):
        target = _behind_links(shown)
        if target.is_dir():
            raise InvalidInputError(f"cannot write {shown}: it is a directory; name a file")
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return
        with staged(shown) as temporary:
            temporary.write_bytes(content)


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
        target, temporary = _beside(shown)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except OSError as error:
        raise cannot_write(shown, error) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_folder(path: str | Path, files: Mapping[str, str], executable: str = ".sh") -> None:
    """Write `files` to a temporary folder beside `path`, then rename it into place.

    Parameters
    ----------
    path
        The folder; it must not exist yet, or be empty.
    files
        Content by relative name, with ``/`` between folders.
    executable
        Names that end so may be executed.

    Raises
    ------
    InvalidInputError
        If the folder exists with something in it, or cannot be written; then nothing is left.
    """
    shown = Path(path)
    target, temporary = _beside(shown)
    try:
        with writing(shown):
            if target.exists() and (not target.is_dir() or any(target.iterdir())):
                raise InvalidInputError(
                    f"{shown} exists already: name a new folder, or remove it first"
                )
            temporary.mkdir()
            for name, content in files.items():
                file = temporary / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content, encoding="utf-8", newline="\n")
                if name.endswith(executable):
                    file.chmod(0o755)
            temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Tell in one line what stands against writing `path`, whatever the system calls it.

    Raises
    ------
    InvalidInputError
        As `cannot_write` tells it, or as it was raised within.
    """
    try:
        yield
    except InvalidInputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise cannot_write(path, error) from None


def cannot_write(path: str | Path, error: Exception) -> InvalidInputError:
    """Return the one line that says why `path` cannot be written."""
    return InvalidInputError(f"cannot write {path}: {reason(error)}")


def _behind_links(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # links that lead to each other, which are no file to replace
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _beside(path: Path) -> tuple[Path, Path]:
    """Return the file behind links, and a temporary name beside it."""
    with writing(path):
        target = _behind_links(path)
    return target, target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
