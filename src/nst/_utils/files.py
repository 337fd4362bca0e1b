"""Write files atomically, and check in advance that they can be written."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from nst._utils.checks import file_path

_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
# A mount, or a file of somebody else in a folder with a sticky bit.
_NOT_REPLACEABLE = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}


def check_place(path: str | os.PathLike[str], *, name: str, example: str) -> Path:
    """Return a path if a file is writable there; `name` and `example` are for messages."""
    path = file_path(name, path)
    what, folder = f"`{name}` is {str(path)!r}", path.resolve().parent
    if path.is_dir():
        raise IsADirectoryError(f"{what}, which is a folder. Add a file name, e.g. {example!r}.")
    if not folder.exists():
        raise FileNotFoundError(f"{what}, whose folder does not exist. Create {str(folder)!r}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{what}, but {str(folder)!r} is not a folder. Choose another.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{what}, which is not a regular file. Choose another name.")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{what}, which exists and may not be written. Choose another name.")
    try:
        # For an administrator, os.access returns True for any folder.
        _temporary(path.resolve()).unlink()
    except OSError as err:
        raise PermissionError(
            f"{what}, whose folder may not be written ({err.strerror}). Choose another folder."
        ) from err
    return path


def write_whole(
    path: Path, content: memoryview | Callable[[BinaryIO], object], *, sole_writer: bool = False
) -> None:
    """Atomically write bytes, or the output of a function; on failure, the old file is unchanged.

    The target of a symbolic link is replaced, with its permissions. A file that cannot be replaced,
    such as a mount, is written in place, after the content is safe beside it. `sole_writer`
    promises that no other process writes this file: the temporary file of a killed process is then
    overwritten.
    """
    try:
        path = path.resolve()
        temporary = _temporary(path, sole_writer=sole_writer)
        try:
            with temporary.open("wb") as file:
                _copy_permissions(path, temporary)
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                _sync(file)
            is_replaced = _replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if not is_replaced:
            _write_in_place(temporary, path)
    except OSError as error:
        raise type(error)(
            f"`path` is {str(path)!r}, which could not be written ({error.strerror or error}). "
            "Free some disk space, or choose another folder."
        ) from error


def _copy_permissions(path: Path, temporary: Path) -> None:
    """Give a file the permissions of another that it will replace, and its owner if possible."""
    if not path.exists():
        return
    status = path.stat()
    for owner in (status.st_uid, -1):
        with suppress(OSError, AttributeError):  # Windows has no `chown`
            os.chown(temporary, owner, status.st_gid)
            break
    mode = status.st_mode & 0o777
    if temporary.stat().st_gid != status.st_gid:
        mode &= ~stat.S_IRWXG  # which were for another group
    with suppress(OSError):  # not every file system has them
        temporary.chmod(mode)


def _sync(file: BinaryIO) -> None:
    """Write a file through to the disk, else a power cut could leave it empty."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def _replace(temporary: Path, path: Path) -> bool:
    """Move a file to a path; return False if the file there can only be written in place."""
    try:
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _NOT_REPLACEABLE or not path.is_file():
            raise
        return False
    return True


def _write_in_place(temporary: Path, path: Path) -> None:
    try:
        with temporary.open("rb") as source, path.open("r+b") as target:
            shutil.copyfileobj(source, target)
            target.truncate()
            _sync(target)
    except OSError as error:
        reason = f"{error.strerror or error}; the content is in {str(temporary)!r}"
        raise OSError(error.errno, reason) from error
    temporary.unlink()


def reserve(path: Path) -> Callable[[], None]:
    """Reserve a path until the returned function is called or the process ends.

    Raises `BlockingIOError` if it is reserved. File systems without locks reserve nothing.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return lambda: None
    place = path.resolve()
    beside = place.with_name(f".nst-{_hash(place)}.lock")
    while True:
        file = os.open(beside, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if beside.exists() and os.path.samestat(os.fstat(file), beside.stat()):
                break
        except BlockingIOError:
            os.close(file)
            raise
        except OSError:  # not supported
            break
        os.close(file)  # its owner deleted it meanwhile

    def release() -> None:
        with suppress(OSError):
            beside.unlink()
        os.close(file)

    return release


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def _temporary(path: Path, *, sole_writer: bool = False) -> Path:
    """Create an empty file in the folder of the path."""
    own = _hash(path) if sole_writer else secrets.token_hex(8)
    temporary = path.with_name(f".nst-{own}.tmp")
    if sole_writer:
        temporary.unlink(missing_ok=True)
    # `tempfile` would deny access to other users; "x" never follows a symbolic link.
    temporary.open("xb").close()
    return temporary
