"""Files that are either whole or not there."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from shared.errors import InputError

LONGEST_NAME = 255
"""Bytes of a file name on the usual file systems."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block succeeds.

    The folder of `path` is made when missing. When the block fails, the temporary file is removed and an
    existing `path` stays as it was.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    # the number tells `leftovers` whether the writer still runs
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        # what the user's umask gives a new file
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner can read
        # content, name, folder, in this order: after a power cut the name stands for the old file or the whole new one
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise InputError(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or a folder's list of files, so that a power cut does not take it back."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def keep_as(path: Path, kept: Path) -> None:
    """Give the content of `path` the second name `kept`, in place of what was there. `path` is there all the time, and costs no copy."""
    temporary = _temporary(kept)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, kept)
    # where `kept` was this very file already, as after a kill right here, the system leaves both names
    temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that tells its writer; a digest stands for a name that leaves no room for that."""
    name, writer = path.name, f"{os.getpid()}.tmp"
    if len(os.fsencode(f".{name}.{writer}")) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.{writer}")


def require_name(path: Path) -> None:
    """Refuse a file to be written whose name is too long, before the work that it is for.

    Raises:
        InputError: says how long it may be.
    """
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME:
        raise InputError(f"cannot write {path}: its name has {length} bytes, and may have {LONGEST_NAME}; give the file a shorter one")


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in `folder` whose writers were killed."""
    named = [(path, path.name.split(".")[-2]) for path in folder.glob(".*.tmp")]
    return [path for path, writer in named if writer.isdigit() and not Path(f"/proc/{writer}").exists()]


def lock(path: Path) -> BinaryIO:
    """Hold `path`, an empty file, as long as the returned file is open; the system lets go when the process ends, however it ends.

    Raises:
        InputError: another process holds it.
    """
    file = open(path, "ab")  # noqa: SIM115 (it stays open)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise InputError(f"another process is at work in {path.parent}; wait for it, stop it, or choose another folder") from error
    except OSError:  # a file system without locks
        pass
    return file


def write_failure(error: BaseException) -> str | None:
    """Why a write failed, in the user's words, when the cause is the disk or its permissions; else None.

    Libraries that write through Rust or C++ (safetensors, torch) wrap the system's error in their own type, so the
    message is read as well as the error number.
    """
    number, text = getattr(error, "errno", None), str(error).lower()
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "no space left" in text or "file too large" in text:
        return "no space left on the disk; free some and run the same command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or "permission denied" in text or "read-only file system" in text:
        return "no permission to write there; choose another folder"
    if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return "a file stands where a folder is needed (or the reverse); choose another path"
    if number == errno.ENAMETOOLONG:
        return f"its name is longer than a name may be, most often {LONGEST_NAME} bytes; give it a shorter one"
    return None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Bytes of a file name that are no text stand there as \\udc…."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
