"""A raster as a GDAL virtual raster of floats, in which whatever is invalid is NaN: the same for every reader."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from xr_rsembed.errors import CatalogError
from xr_rsembed.providers.encoding import Encoding


def check_file(file: Any, key: str, item: str) -> None:
    """Raise where a file is no georeferenced raster of one band; ``key`` and ``item`` name it."""
    from rasterio.enums import ColorInterp

    what = f"asset {key!r} of item {item}"
    if file.crs is None or file.transform.is_identity:
        points = f"{len(file.gcps[0])} ground control points" if file.gcps[0] else "pixels without a place"
        raise CatalogError(
            f"No CRS and transform in {what}: it cannot be placed on a grid.",
            found=points,
            expected="a georeferenced raster",
            remedy='geocode it first, such as with gdalwarp, or take modality="S1RTC"; '
            f"skip_items=[{item!r}] leaves it out",
        )
    bands = sum(band is not ColorInterp.alpha for band in file.colorinterp)
    if bands != 1:
        raise CatalogError(
            f"Which band of {what} is meant is not known.",
            found=f"{bands} bands",
            expected="one band an asset",
            remedy=f"open the file with xr_rsembed.open_scene; skip_items=[{item!r}] leaves the item out",
        )


def virtual_raster(file: Any, encoding: Encoding | None, dtype: np.dtype, level: int | None = None) -> str:
    """A file, or one of its overviews, as a VRT of floats, NaN where file or item say that nothing is valid."""
    from rasterio.enums import MaskFlags

    masked = file.mask_flag_enums[0] != [MaskFlags.all_valid]
    nodata = encoding.nodata if encoding else None
    if encoding is not None and encoding.optical and nodata is None and not masked:
        nodata = 0.0  # what Sentinel-2 products hold where nobody says it
    option = "" if level is None else f'<OpenOptions><OOI key="OVERVIEW_LEVEL">{level}</OOI></OpenOptions>'
    mask = f"{option}<SourceBand>1</SourceBand><UseMaskBand>true</UseMaskBand>"
    fill = f"<SourceBand>1</SourceBand>{_nodata(nodata)}"
    if not masked:
        return _vrt(file, file.name, f"{option}{fill}", dtype)
    inner = _vrt(file, file.name, mask, dtype)
    # One of the two a layer: where both stand in one, GDAL heeds one of them.
    return inner if nodata is None else _vrt(file, inner, fill, dtype)


def _nodata(value: float | None) -> str:
    return "" if value is None or value != value else f"<NODATA>{value!r}</NODATA>"


def _vrt(file: Any, source: str, how: str, dtype: np.dtype) -> str:
    height, width = file.shape
    rows, columns = file.block_shapes[0]
    transform = ", ".join(map(repr, file.transform.to_gdal()))
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{escape(file.crs.to_wkt())}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>"
        f'<VRTRasterBand dataType="{dtype.name.capitalize()}" band="1" blockXSize="{columns}" blockYSize="{rows}">'
        "<NoDataValue>nan</NoDataValue><ComplexSource>"
        f'<SourceFilename relativeToVRT="0">{escape(source)}</SourceFilename>{how}'
        "</ComplexSource></VRTRasterBand></VRTDataset>"
    )
