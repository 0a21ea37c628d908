"""Put a finished folder in its place, so that a kill at any moment leaves the old one or the new one there, whole."""

import ctypes
import os
import shutil
import sys
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_HERE = -100  # AT_FDCWD of fcntl.h


def replace_folder(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; an old folder there is removed once the new one stands in its place.

    Where the system cannot swap two names in one step (other than Linux), the old folder is renamed to ``new`` with
    ``.old`` first: a kill in the instant between the two renames leaves both whole, under those names.
    """
    if not path.exists():
        new.rename(path)
        sync(path.parent)
        return
    if exchange(new, path):
        old = new
    else:
        old = new.with_name(f"{new.name}.old")
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Let two folders swap their names in one step; False where the system or its file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done: int = rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), ctypes.c_uint(_EXCHANGE))
    return done == 0


def sync(folder: Path) -> None:
    """Flush a folder's list of names to disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # some file systems cannot flush folders
        pass
    finally:
        os.close(handle)
