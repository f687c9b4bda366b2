"""Any format by the suffix of the path."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr
from zarr.abc.store import Store

from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError
from xr_rsembed.store.cog import open_cog, to_cog
from xr_rsembed.store.conventions import scrubbed, without_credentials
from xr_rsembed.store.netcdf import open_netcdf, to_netcdf
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.target import StoreLike, is_remote, resolved
from xr_rsembed.store.zarr import to_zarr

_WRITERS: Mapping[str, Callable[..., Any]] = {".zarr": to_zarr, ".nc": to_netcdf, ".tif": to_cog}
_READERS: Mapping[str, Callable[[str], Any]] = {".nc": open_netcdf, ".tif": open_cog}  # of single files


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
    suffix = _suffix(path)
    known = {name: list(inspect.signature(write).parameters)[2:] for name, write in _WRITERS.items()}
    for name, value in options.items():
        if name not in known[suffix]:
            raise OptionError(
                f"{name} is no option of {suffix} files.",
                found=f"{name}={value!r} for {os.fspath(path)}",
                expected=", ".join(known[suffix]),
                remedy="save to a .zarr store" if name in known[".zarr"] else None,
            )
    stored: xr.DataArray = _WRITERS[suffix](emb, path, overwrite=overwrite, **options)
    return stored


def open_file(
    path: StoreLike, *, group: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> Any:
    """Open a stored embedding by its suffix: ``.zarr``, ``.nc`` or ``.tif``, a path, URL or Zarr store."""
    if isinstance(path, Store) or os.path.isdir(path) or _suffix(path) == ".zarr":
        return open_zarr(path, group=group, storage_options=storage_options)
    suffix, text = _suffix(path), resolved(path)
    if not is_remote(text) and not os.path.isfile(text):
        raise StoreNotFoundError(f"There is no embedding at {text}.", expected=f"a {suffix} file")
    try:
        return _READERS[suffix](text)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{without_credentials(text) if is_remote(text) else text} cannot be read.",
            found=f"{type(error).__name__}: {scrubbed(str(error))}",
            expected=f"a {suffix} file",
        ) from (None if is_remote(text) else error)  # others' errors carry the address with its signature


def _suffix(path: StoreLike) -> str:
    text = os.fspath(path)  # type: ignore[arg-type]  # no store object comes here
    if "::" in text:  # a chain of addresses: the suffix of any of them
        ends = [one.rstrip("/").lower() for one in text.split("::")]
        text = next((one for one in ends if one.endswith(".zarr")), ends[0])
    text = (without_credentials(text) if "://" in text else text).rstrip("/").lower()
    suffix = {".tiff": ".tif", ".nc4": ".nc"}.get(found := os.path.splitext(text)[1], found)
    if suffix not in _WRITERS:
        *most, last = _WRITERS
        raise OptionError(
            "The suffix names no format for embeddings.",
            found=repr(os.path.basename(text)),
            expected=f"{', '.join(most)} or {last}",
            remedy="emb.zarr for anything large",
        )
    return suffix
