"""Products as agencies deliver them, opened as scenes in the models' own numbers: DN = 10000 x reflectance, nodata 0.

``open_product`` knows a product by its layout and leaves every other file alone.
"""

from __future__ import annotations

import os
from typing import Any

import xarray as xr

__all__ = ["open_product"]


def open_product(path: Any) -> xr.DataArray | xr.Dataset | None:
    """The scene of a SAFE product, an EOPF Zarr product, a folder or list of files of bands; None for anything else.

    ``path`` is ``S2A_MSIL2A_....SAFE`` as a folder or in a zip; an EOPF ``.zarr``; a folder with a GeoTIFF or JP2 for
    each band (HLS, or ``B02.tif``, ``red.tif``, ``VV.tif``); a list of such files. The scene is lazy, (band, y, x); a
    Dataset has a variable for each band, as stored. Bands of coarser pixels are brought to the finest by nearest
    neighbour.
    """
    from xr_rsembed.products import eopf, files, safe

    if isinstance(path, (list, tuple)):
        return files.open_files([os.fspath(one) for one in path])
    text = os.fspath(path)
    if (root := safe.find_root(text)) is not None:
        return safe.open_safe(root)
    if text.rstrip("/").endswith(".zarr"):
        return eopf.open_eopf(text) if eopf.is_eopf(text) else None
    if os.path.isdir(text) and (paths := files.band_files(text)):
        return files.open_files(paths)
    return None
