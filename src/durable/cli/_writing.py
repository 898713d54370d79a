"""A file that a command makes: whole or not at all, for this user's eyes only, and never in place of another."""

import contextlib
import os
from collections.abc import Iterator

from durable.errors import DurableError


@contextlib.contextmanager
def new_file(path: str) -> Iterator[str]:
    """The name of an empty file, mode 0600, which gets its real name at the end; else it is removed.

    `DurableError` where there is such a file already, or where none can be made.
    """
    draft = f"{path}.part"
    _require_absent(path)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        msg = f"{draft} is there already: another process writes it, or one that was stopped left it; then remove it"
        raise DurableError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise DurableError(msg) from error
    try:
        yield draft
        _require_absent(path)
        os.rename(draft, path)
        _sync_folder(os.path.dirname(path) or os.curdir)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _sync_folder(path: str) -> None:
    """Else the name of a file could be lost with the power, and the file with it."""
    with contextlib.suppress(PermissionError):  # one may make files in a folder that one may not read
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _require_absent(path: str) -> None:
    if os.path.isdir(path):
        msg = f"{path} is a folder: name a file in it"
        raise DurableError(msg)
    if os.path.lexists(path):
        msg = f"{path} is there already: name another file, or remove that one first"
        raise DurableError(msg)
