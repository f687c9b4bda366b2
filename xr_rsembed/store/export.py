"""One door for every format: the suffix of the path decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError
from xr_rsembed.store.cog import open_cog, to_cog
from xr_rsembed.store.conventions import scrubbed, without_credentials
from xr_rsembed.store.netcdf import open_netcdf, to_netcdf
from xr_rsembed.store.place import Place
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.zarr import to_zarr

__all__ = ["open_file", "save"]


def save(
    emb: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False, **options: Any
) -> xr.DataArray:
    """Write an embedding in the format that the path's suffix names.

    Parameters
    ----------
    emb : DataArray
    path : path
        ``.zarr`` (:func:`to_zarr`), ``.nc`` (:func:`to_netcdf`), or ``.tif`` (:func:`to_cog`).
    overwrite : bool
        Replace what is there.
    **options
        Of the format's own function, such as ``resume`` for Zarr.

    Returns
    -------
    DataArray
        The stored embedding, opened lazily.

    Raises
    ------
    OptionError
        For another suffix, or an option that the format does not have.
    StoreExistsError
        If the path is there already.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> emb = xr.DataArray(np.ones((4, 3, 5), dtype="float32"), dims=("D", "y", "x"), name="embedding")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(emb, f"{folder}/emb.nc").load().shape
    (4, 3, 5)
    """
    write, known = _WRITERS[_suffix(path)]
    for name in options:
        if name not in known:
            raise OptionError(
                f"{name} is no option of {_suffix(path)} files.",
                found=f"{name}={options[name]!r} for {os.fspath(path)}",
                expected=", ".join(known),
                remedy="save to a .zarr store" if name in _WRITERS[".zarr"][1] else None,
            )
    stored: xr.DataArray = write(emb, path, overwrite=overwrite, **options)
    return stored


def open_file(path: str | os.PathLike[str]) -> xr.DataArray | xr.Dataset:
    """Open a stored embedding by its suffix: ``.zarr``, ``.nc`` or ``.tif``, a path or URL.

    Returns
    -------
    DataArray or Dataset
        A Dataset only where a Zarr store holds several embeddings.

    Raises
    ------
    StoreNotFoundError
        If there is no such file or store.
    StoreError
        If it cannot be read.
    OptionError
        For another suffix.
    """
    suffix = ".zarr" if os.path.isdir(path) else _suffix(path)
    if suffix == ".zarr":
        return open_zarr(path)
    place = Place.at(path)
    if place.local and not os.path.isfile(place.url):
        raise StoreNotFoundError(f"There is no embedding at {place}.", expected=f"a {suffix} file")
    try:
        return open_netcdf(place.url) if suffix == ".nc" else open_cog(place.url)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{place} cannot be read.",
            found=f"{type(error).__name__}: {scrubbed(str(error))}",
            expected=f"a {suffix} file",
        ) from (error if place.local else None)  # others' errors carry the address with its signature


def _suffix(path: str | os.PathLike[str]) -> str:
    text = without_credentials(os.fspath(path)) if "://" in os.fspath(path) else os.fspath(path)
    text = text.rstrip("/").lower()
    suffix = {".tiff": ".tif", ".nc4": ".nc"}.get(found := os.path.splitext(text)[1], found)
    if suffix not in _WRITERS:
        raise OptionError(
            "The suffix names no format for embeddings.",
            found=repr(os.path.basename(text)),
            expected=".zarr, .nc or .tif",
            remedy="emb.zarr for anything large",
        )
    return suffix


_ZARR_OPTIONS = ("resume", "dtype", "scale", "shards", "chunks", "model_url", "source_data", "progress")
_WRITERS: Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    ".zarr": (to_zarr, _ZARR_OPTIONS),
    ".nc": (to_netcdf, ("progress",)),
    ".tif": (to_cog, ("progress",)),
}
