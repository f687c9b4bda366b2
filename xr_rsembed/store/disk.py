"""A store's folder on a disk: files that outlive a power cut, and one writer at a time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from zarr.storage import LocalStore

from xr_rsembed.errors import StoreError, StoreLockedError


class DurableStore(LocalStore):
    """Zarr's LocalStore, whose objects outlive a power cut; it writes through no link that leads out of its folder."""

    async def set(self, key: str, value: Any) -> None:
        if self.read_only:
            raise ValueError(f"{self.root} was opened to be read only.")
        await asyncio.to_thread(put_file, Path(self.root), key, value.as_buffer_like())


def put_file(root: Path, key: str, data: Any, *, exclusive: bool = False) -> None:
    """Write a file whole or not at all, on the disk when this returns.

    With ``exclusive`` it is made at its place, where there is none, and a kill may leave it in part.
    """
    target = root / key
    parent = target.parent
    if not parent.resolve().is_relative_to(root.resolve()):
        raise StoreError(
            f"{root} holds a link that leads out of it.",
            found=f"{parent} is in {parent.resolve()}",
            expected="a store in one folder",
            remedy="put the folder in the link's place, or write to another path",
        )
    made = [folder for folder in target.parents if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    part = target if exclusive else parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    with part.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    for folder in (parent, *(new.parent for new in made)):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """A renamed file outlives a power cut only once its folder is on the disk too."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_files(root: Path, names: Iterable[str]) -> None:
    """Remove files below a folder, and the folders that are empty then."""
    paths = [root / name for name in names]
    for path in paths:
        path.unlink(missing_ok=True)
    folders = {folder for path in paths for folder in path.parents if root in folder.parents}
    for folder in sorted(folders, key=lambda one: len(one.parts), reverse=True):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold the right to write a local path; a second writer is refused at once.

    The lock is the operating system's own, on a hidden file beside the path that links lead to, so it goes with the
    process that holds it, however that ends. A disk without locks (``ENOLCK``, ``ENOSYS``), or a folder that takes no
    file, has none: there the token in the store (:class:`~xr_rsembed.store.target.FencedStore`) still stops the first
    of two writers.
    """
    lock = None if path is None else _lock(Path(os.path.realpath(path)))
    try:
        yield
    finally:
        if lock is not None:
            # Removed while still held: whoever waits on the removed file notices that and tries the name again.
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _lock(path: Path) -> filelock.BaseFileLock | None:
    file = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(file, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
        with suppress(OSError):
            file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        return lock
    except filelock.Timeout as error:
        if not file.exists():  # a folder that takes no file, such as /proc: writing there names the reason
            return None
        raise StoreLockedError(
            f"Another writer is at work on {path}.",
            found=_holder(file),
            expected="one writer at a time",
            remedy="wait until it is done; if it hangs, end that process and use resume=True",
        ) from error
    except (OSError, NotImplementedError):
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return None


def _holder(file: Path) -> str:
    try:
        who = json.loads(file.read_text())
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "a process that did not say its name yet"
