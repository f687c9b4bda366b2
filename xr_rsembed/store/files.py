"""Single files: whole or not there, written beside their place by this process alone, block by block."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks

from xr_rsembed.errors import StoreError, check_new
from xr_rsembed.store.conventions import without_credentials
from xr_rsembed.store.disk import locked
from xr_rsembed.store.io_errors import explained
from xr_rsembed.store.run import Task, itself, run_blocks
from xr_rsembed.store.target import is_remote, resolved

# NetCDF and GeoTIFF know fewer types than Zarr (no lists of strings of length one, no booleans): the attrs stand there
# a second time, as JSON under this name, and are read back from that.
ATTRS = "xr_rsembed_attrs"
_AGAIN = "make room or take another path, then write it again; a .zarr store can be resumed"


@contextmanager
def whole_file(path: str | os.PathLike[str], overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """A file to write that becomes ``path`` at the end, and a folder for what is needed on the way."""
    text = resolved(path)
    if is_remote(text):
        raise StoreError(
            "A single file is written to a local disk.",
            found=without_credentials(text),
            expected="a path",
            remedy="save to a .zarr store there, or copy the file afterwards",
        )
    target = Path(text)
    with locked(target):
        check_new(target, overwrite)
        folder = target.with_name(f".{target.name}.part")
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        try:
            with explained(target, _AGAIN):
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                part = folder / target.name
                yield part, folder
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def fill(
    emb: xr.DataArray,
    path: Path,
    put: Callable[[tuple[slice, ...], np.ndarray], None],
    progress: bool | None,
) -> None:
    """Compute an embedding's blocks, wherever dask computes them, and put each into a file of this process.

    ``put`` takes a block's place and its values. It is never called twice at a time, nor after this function has
    ended: HDF5 dies of a value that is put into a closed file. ``path`` is for messages.
    """
    if emb.chunks is None:
        put(tuple(slice(0, size) for size in emb.shape), emb.values)
        return
    data = emb.data
    places = zip(np.ndindex(*data.numblocks), slices_from_chunks(data.chunks), strict=True)
    tasks = [
        Task(itself, (data.name, *block), f"{emb.name} {'.'.join(map(str, block))}", place)
        for block, place in places
    ]

    def done(task: Task, values: Any) -> None:
        with explained(path, _AGAIN):
            put(task.place, values)

    run_blocks([data], tasks, done, label=f"writing {emb.name}", show=progress)


def require_room(folder: Path, needed: int) -> None:
    """Raise where a disk has less room than a file may need: better before the work than after it."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"{folder.parent} has too little room.",
            found=f"{free / 1e9:.2f} GB free",
            expected=f"{needed / 1e9:.2f} GB, by the size of the values",
            remedy=_AGAIN,
        )
