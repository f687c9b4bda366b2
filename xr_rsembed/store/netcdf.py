"""Embeddings as NetCDF4 files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import plain
from xr_rsembed.store.files import ATTRS, fill, require_room, whole_file
from xr_rsembed.store.metadata import as_dataset


def to_netcdf(
    emb: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False, progress: bool | None = None
) -> xr.DataArray:
    """Write an embedding to a NetCDF4 file, with CF grid mapping.

    Parameters
    ----------
    emb : DataArray
        Of any dims, lazy or not.
    path : path
    overwrite : bool
        Replace a file that is there, once the new one is whole.
    progress : bool, optional
        Show a bar; by default in a terminal or notebook.

    Returns
    -------
    DataArray
        The stored embedding, opened lazily.

    Raises
    ------
    StoreExistsError
        If the file is there already.
    """
    if not isinstance(emb, xr.DataArray) or 0 in emb.shape or emb.dtype.kind not in "fiu":
        about = f", shape {emb.shape}, dtype {emb.dtype}" if isinstance(emb, xr.DataArray) else ""
        raise StoreError(
            "This cannot be one NetCDF file.",
            found=f"{type(emb).__name__}{about}",
            expected="a DataArray of numbers with at least one value",
        )
    dataset = as_dataset(emb)
    (name,) = dataset.data_vars
    with whole_file(path, overwrite) as (part, folder):
        require_room(folder, emb.nbytes)
        # HDF5 dies of a disk that is full while it closes a file: the head is made in memory, the rest goes through
        # a file that keeps such failures to itself.
        part.write_bytes(dataset.drop_vars(str(name)).to_netcdf(engine="h5netcdf"))
        _write_values(dataset[name], part, progress)
    return open_netcdf(os.fspath(path))


def _write_values(values: xr.DataArray, part: Path, progress: bool | None) -> None:
    """Add the values to a file that has their coords, block by block."""
    import h5netcdf  # type: ignore[import-untyped]

    name = str(values.name)
    attrs = {key: value for key, value in values.attrs.items() if _fits_netcdf(value)}
    attrs[ATTRS] = json.dumps(values.attrs)
    others = [str(key) for key, coord in values.coords.items() if key not in values.dims]
    mapping = values.encoding.get("grid_mapping")
    if mapping:
        attrs["grid_mapping"] = mapping
    if listed := [key for key in others if key != mapping]:
        attrs["coordinates"] = " ".join(listed)
    chunks = tuple(min(size, 64 if dim == "D" else 28) for dim, size in values.sizes.items())
    with _Guarded(part, "r+b") as raw, raw.checked(), h5netcdf.File(raw, "r+") as file:
        for dim, size in values.sizes.items():
            if dim not in file.dimensions:
                file.dimensions[str(dim)] = size
        variable = file.create_variable(
            name,
            tuple(map(str, values.dims)),
            values.dtype,
            chunks=chunks,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fillvalue=np.nan if values.dtype.kind == "f" else None,
        )
        for key, value in attrs.items():
            variable.attrs[key] = value

        def put(place: tuple[slice, ...], block: np.ndarray) -> None:
            variable[place] = block
            raw.check()

        fill(values, part, put, progress)


class _Guarded(io.FileIO):
    """A file whose failures are kept and reported later: HDF5 dies of those that meet it while it closes."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        total = len(rest)
        while self.error is None and len(rest):
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return total

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raise what went wrong within, in the place of HDF5's complaints about a file that was cut short."""
        try:
            yield
        finally:
            self.check()


def open_netcdf(path: str) -> Any:
    """Open an embedding in a NetCDF file, lazily, or a map of one with its confidence."""
    dataset = xr.open_dataset(path, engine="h5netcdf", chunks={}, decode_coords="all")
    if len(dataset.data_vars) != 1 and "model_key" in dataset.attrs:
        return dataset
    if len(dataset.data_vars) != 1:
        raise ValueError(f"it holds {len(dataset.data_vars)} variables, not one embedding")
    (name,) = dataset.data_vars
    array = dataset[name]
    array.attrs = json.loads(array.attrs[ATTRS]) if ATTRS in array.attrs else plain(array.attrs)
    return array


def _fits_netcdf(value: Any) -> bool:
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    return kinds <= {int, float} or kinds == {str}
