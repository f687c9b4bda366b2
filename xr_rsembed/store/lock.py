"""One writer at a time on a disk, as far as the disk knows locks."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from xr_rsembed.errors import StoreLockedError

__all__ = ["locked"]


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold the right to write a local path; a second writer is refused at once.

    The lock is the operating system's own, on a hidden file beside the path that links lead to, so it goes with the
    process that holds it, however that ends. A disk without locks, or a folder that takes no file, has none: there the
    token in the store (:class:`xr_rsembed.store.target.RunStore`) still stops the first of two writers.

    Raises
    ------
    StoreLockedError
        While another process, or another thread of this one, writes there.
    """
    if path is None:
        yield
        return
    real = Path(os.path.realpath(path))
    file = real.with_name(f".{real.name}.lock")
    lock = filelock.FileLock(file, timeout=0, thread_local=False)
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise StoreLockedError(
            f"Another writer is at work on {path}.",
            found=_holder(file),
            expected="one writer at a time",
            remedy="wait until it is done; if it hangs, end that process and use resume=True",
        ) from error
    except (OSError, NotImplementedError):
        with suppress(OSError):
            file.unlink(missing_ok=True)
        yield
        return
    try:
        with suppress(OSError):
            file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        # Removed while still held: whoever waits on the removed file notices that and tries the name again.
        with suppress(OSError):
            file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    try:
        who = json.loads(file.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "a process that did not say its name yet"
