"""Embeddings and maps as Cloud-Optimized GeoTIFFs."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import StoreError
from xr_rsembed.georef import geobox_coords, scene_geobox
from xr_rsembed.store.conventions import plain, scrubbed
from xr_rsembed.store.files import ATTRS, fill, require_room, whole_file

if TYPE_CHECKING:
    import rasterio.io

_TILED: dict[str, Any] = {
    "driver": "GTiff", "interleave": "band", "tiled": True, "blockxsize": 256, "blockysize": 256, "bigtiff": "if_safer",
}  # fmt: skip


def to_cog(
    emb: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False, progress: bool | None = None
) -> xr.DataArray:
    """Write an embedding or a map to a Cloud-Optimized GeoTIFF: a band a dimension, overviews, NaN as nodata.

    Parameters
    ----------
    emb : DataArray, dims (y, x) or (D, y, x)
        Another dim may stand in place of D; its labels become the bands' names. Numbers that GeoTIFF knows.
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
    StoreError
        If the array is no map or stack of bands.
    StoreExistsError
        If the file is there already.

    Notes
    -----
    Bands are stored one after the other, so that a few bands of many can be read. Attrs become tags.
    """
    import rasterio

    _check_map(emb)
    with whole_file(path, overwrite) as (part, folder):
        require_room(folder, 2 * emb.nbytes)  # as it comes, and in the order of a COG
        flat = folder / "flat.tif"
        # GDAL would keep a twentieth of the machine's memory as its cache.
        with rasterio.Env(GDAL_CACHEMAX=256):
            _fill_tiff(emb, flat, progress)
            if flat.stat().st_size < emb.nbytes:
                raise OSError(errno.ENOSPC, "the file was cut short")
            _optimize(flat, part)
            with rasterio.open(part) as written:  # its end is there
                written.read(written.count, window=((written.height - 1, written.height), (0, written.width)))
    return open_cog(os.fspath(path))


def open_cog(path: str) -> xr.DataArray:
    """Open an embedding or a map in a GeoTIFF, lazily."""
    import rioxarray

    array = rioxarray.open_rasterio(path, chunks={"band": -1, "x": 256, "y": 256})
    assert isinstance(array, xr.DataArray)
    kept = json.loads(array.attrs.get(ATTRS, "{}"))
    labels = kept.get("labels", list(range(array.sizes["band"])))
    if labels is None:
        array = array.squeeze("band", drop=True)
    else:
        array = array.rename(band=kept.get("dim", "D")).assign_coords({kept.get("dim", "D"): labels})
    array.attrs = kept.get("attrs", plain(array.attrs))
    array = array.assign_coords(geobox_coords(scene_geobox(array)))  # the very coords that the engine gives
    if array.rio.crs is None:
        array = array.drop_vars("spatial_ref", errors="ignore")
    return array.rename(kept.get("name", "embedding"))


def _check_map(emb: xr.DataArray) -> None:
    dims = tuple(getattr(emb, "dims", ()))
    is_map = isinstance(emb, xr.DataArray) and dims[-2:] == ("y", "x") and len(dims) <= 3
    if is_map and emb.dtype.kind in "fiu" and emb.dtype != "float16":
        return
    extra = [dim for dim in dims[:-2] if dim != "D"]
    raise StoreError(
        "A GeoTIFF holds one map, or one stack of bands.",
        found=f"dims {dims}, dtype {getattr(emb, 'dtype', None)}",
        expected="dims (y, x) or (D, y, x), numbers that GeoTIFF knows",
        remedy=f"emb.isel({extra[0]}=0), or a .zarr store" if extra else "a .zarr store or .nc file",
    )


def _fill_tiff(values: xr.DataArray, path: Path, progress: bool | None) -> None:
    """An uncompressed GeoTIFF, written block by block."""
    import rasterio
    from rasterio.windows import Window

    stack = values if values.ndim == 3 else values.expand_dims("band")
    count, height, width = stack.shape
    geobox = scene_geobox(stack)
    nodata = stack.attrs.get("_FillValue", stack.encoding.get("_FillValue"))
    profile = _TILED | {
        "dtype": stack.dtype,
        "count": count,
        "height": height,
        "width": width,
        "nodata": np.nan if stack.dtype.kind == "f" else nodata,
    }
    if geobox.crs is not None or "x" in stack.coords:
        profile |= {"transform": geobox.affine, "crs": str(geobox.crs) if geobox.crs else None}
    with rasterio.open(path, "w", **profile) as file:

        def put(place: tuple[slice, ...], block: np.ndarray) -> None:
            numbers, rows, columns = place
            bands = list(range(numbers.start + 1, numbers.stop + 1))
            file.write(block, bands, window=Window.from_slices(rows, columns))

        fill(stack, path, put, progress)
        _describe(file, values)


def _describe(file: rasterio.io.DatasetWriter, values: xr.DataArray) -> None:
    """Bands' names, and attrs as tags."""
    name, attrs = str(values.name or "embedding"), plain(scrubbed(values.attrs))
    attrs.pop("grid_mapping", None)  # of a file that it was read from
    kept: dict[str, Any] = {"name": name, "attrs": attrs, "labels": None}
    names = [name]
    if values.ndim == 3:
        dim = str(values.dims[0])
        labels = plain(values[dim].values if dim in values.coords else np.arange(values.shape[0]))
        kept |= {"dim": dim, "labels": labels}
        names = [f"D{label}" if dim == "D" else str(label) for label in labels]
    for number, text in enumerate(names, start=1):
        file.set_band_description(number, text)
    tags = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attrs.items()}
    file.update_tags(**tags, **{ATTRS: json.dumps(kept)})


def _optimize(flat: Path, cog: Path) -> None:
    """Overviews, then a copy in the order that a COG has.

    GDAL's COG driver is of no use here: it puts all bands of a pixel side by side (before GDAL 3.11), and a tile of
    768 bands would be 800 MB.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.enums import Resampling

    with rasterio.open(flat, "r+") as file:
        floats = np.dtype(file.dtypes[0]).kind == "f"
        factors = [2**n for n in range(1, 16) if max(file.shape) / 2 ** (n - 1) > 256]
        if factors:
            file.build_overviews(factors, Resampling.average if floats else Resampling.nearest)
    rasterio.shutil.copy(
        flat,
        cog,
        **_TILED,
        copy_src_overviews=True,
        compress="deflate",
        predictor=3 if floats else 2,
        num_threads="all_cpus",
    )
