"""Single files: whole or not there, and filled from values that cost nothing to compute.

A single file has one writer, while a lazy embedding is computed by many. So its blocks go to a temporary Zarr store
first, by :func:`to_zarr` with all that it can do, and the file is then filled from there and takes its name when it is
whole.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from xr_rsembed.errors import StoreError, StoreExistsError
from xr_rsembed.store.conventions import without_credentials
from xr_rsembed.store.lock import locked
from xr_rsembed.store.target import is_remote
from xr_rsembed.store.zarr import to_zarr

__all__ = ["ATTRS", "settled", "whole_file"]

# NetCDF and GeoTIFF know fewer types than Zarr (no lists of strings of length one, no booleans): the attrs stand there
# a second time, as JSON under this name, and are read back from that.
ATTRS = "xr_rsembed_attrs"


@contextmanager
def whole_file(path: str | os.PathLike[str], overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """A file to write that becomes ``path`` at the end, and a folder for what is needed on the way."""
    text = os.fspath(path)
    if is_remote(text):
        raise StoreError(
            "A single file is written to a local disk.",
            found=without_credentials(text),
            expected="a path",
            remedy="save to a .zarr store there, or copy the file afterwards",
        )
    target = Path(text.removeprefix("file://")).expanduser().absolute()
    with locked(target):
        if target.is_dir() or (target.exists() and not overwrite):
            raise StoreExistsError(
                f"{target} is there already.",
                found="a folder" if target.is_dir() else "a file",
                expected="a new path",
                remedy="another path" if target.is_dir() else "overwrite=True to replace it",
            )
        folder = target.with_name(f".{target.name}.part")
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        folder.mkdir()
        try:
            part = folder / target.name
            yield part, folder
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            _remove_from_under_writers(folder)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _remove_from_under_writers(folder: Path, quiet_s: float = 1.0, patience_s: float = 10.0) -> None:
    """Remove a folder after a failure: blocks that other threads have begun go on for a while, and make it anew.

    What a slower block leaves behind all the same is removed by the next writer of the file.
    """
    start = last = time.monotonic()
    while (now := time.monotonic()) - last < quiet_s and now - start < patience_s:
        if folder.exists():
            last = now
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def settled(emb: xr.DataArray, folder: Path, progress: bool | None) -> xr.DataArray:
    """The embedding with values that cost nothing to compute."""
    if not isinstance(emb, xr.DataArray):
        raise StoreError("Only a DataArray can be one file.", found=type(emb).__name__, expected="DataArray")
    if emb.chunks is None:
        return emb
    stored: xr.DataArray = to_zarr(emb, folder / "values.zarr", progress=progress)
    return stored
