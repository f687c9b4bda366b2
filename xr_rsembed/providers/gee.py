"""Scenes from Google Earth Engine: composites made on the server, one request for pixels per dask block.

Opening asks for the list of images only. Their ids are fixed then, so that what is computed later, on whichever
machine, comes from the images that the attrs name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from xr_rsembed.config import get_option
from xr_rsembed.errors import CatalogError, OptionError
from xr_rsembed.providers.base import MODALITIES, SCL_CLOUDY, SceneRequest, label_scene
from xr_rsembed.providers.gee_client import (
    LONGEST_SIDE,
    REQUEST_BYTES,
    Connection,
    compute_pixels,
    connect,
)
from xr_rsembed.providers.gee_images import FoundImage, covered_share, find_images, solar_days

if TYPE_CHECKING:
    import ee
    from odc.geo.geobox import GeoBox

__all__ = ["EarthEngine", "request_side"]

T = TypeVar("T")

_OPTIONS = ("project", "url", "workers")
_MASKED = (
    -32768.0
)  # stands for a masked pixel on the wire where nodata is NaN, which an expression cannot hold


class EarthEngine:
    """The provider ``"gee"``.

    Its options: ``project`` (Google Cloud project; else ``EARTHENGINE_PROJECT``, ``GOOGLE_CLOUD_PROJECT`` or the one
    stored with the login), ``url`` (another server, such as the high-volume one) and ``workers`` (requests under way
    at a time, per process; else option ``terramind.fetch_workers``).
    """

    def open(self, request: SceneRequest) -> xr.DataArray:
        """Describe the scene lazily: reads the list of images, no pixel.

        Parameters
        ----------
        request : SceneRequest

        Returns
        -------
        DataArray, dims (band, y, x) or (time, band, y, x)
            Dask-backed. A chunk is at most one request: ``request.chunks`` pixels a side, or as small a fraction
            of it as the service's limit asks for. Sentinel-2 in DN, harmonized; Sentinel-1 linear power, or dB from
            ``COPERNICUS/S1_GRD``; ``attrs["units"]`` says which.

        Raises
        ------
        NoScenesError, CatalogError, OptionError
            Also ProviderAuthError where a login is missing, and ProviderError where the service does not answer;
            computing the pixels raises these two as well.
        """
        _check(request)
        connection = Connection.choose(request.options, workers=get_option("terramind.fetch_workers"))
        connect(connection)
        images, attrs = find_images(connection, request)
        days = solar_days(images, request)
        pictures = [_mosaic([_image(i, request) for i in day]) for day in days]
        times = [day[0].when for day in days] if request.composite is None else None
        if times is None:
            pictures = [_composite(pictures, request)]
        source = _Pixels(
            connection,
            tuple(_on_the_wire(picture, request).serialize() for picture in pictures),
            request.grid,
            request.bands,
            request.dtype,
            float(request.nodata),
            attrs["collection"],
            series=times is not None,
        )
        attrs |= {
            "provider": "gee",
            "catalog": "earth-engine",
            "item_ids": [image.id for image in images],
            "dates": sorted({image.when.date().isoformat() for image in images}),
            "covered": covered_share(images, request),
        }
        pixels = _lazy(source, request.chunks)
        return label_scene(
            request, pixels, times=times, units=_units(request, attrs["collection"]), attrs=attrs
        )


def request_side(bands: int, itemsize: int, wanted: int) -> int:
    """The side of a block in pixels: ``wanted``, or the largest whole fraction of it that one request may have.

    Examples
    --------
    >>> request_side(bands=12, itemsize=2, wanted=1792)
    896
    """
    parts = 1
    while (side := -(-wanted // parts)) > LONGEST_SIDE or side**2 * bands * (itemsize + 1) > REQUEST_BYTES:
        parts += 1
    return side


def _check(request: SceneRequest) -> None:
    if unknown := sorted(set(request.options) - set(_OPTIONS)):
        raise OptionError('Provider "gee" has no such option.', found=", ".join(unknown), expected=_OPTIONS)
    if request.mask_clouds and request.modality != "S2L2A":
        raise CatalogError(
            "mask_clouds needs the scene classification of Sentinel-2 L2A.",
            found=request.modality,
            remedy="mask_clouds=False",
        )


def _units(request: SceneRequest, collection: str) -> str:
    if request.modality == "S1GRD" and not collection.endswith("_FLOAT"):
        return "dB"
    return MODALITIES[request.modality].units


# --- the expression that the server computes ---------------------------------------------------------------


def _image(found: FoundImage, request: SceneRequest) -> ee.Image:
    import ee

    image = ee.Image(found.id)
    bands = image.select(list(request.bands))
    if not request.mask_clouds:
        return bands
    clear = image.select("SCL").remap(list(SCL_CLOUDY), [0] * len(SCL_CLOUDY), 1)
    return bands.updateMask(clear)


def _mosaic(images: Sequence[ee.Image]) -> ee.Image:
    """The first of the images, in their order, that has a valid pixel there: Earth Engine shows the last on top."""
    import ee

    return images[0] if len(images) == 1 else ee.ImageCollection(list(reversed(images))).mosaic()


def _composite(days: Sequence[ee.Image], request: SceneRequest) -> ee.Image:
    import ee

    if request.composite == "first":
        return _mosaic(days)
    stack = ee.ImageCollection(list(days))
    image = stack.median() if request.composite == "median" else stack.mean()
    return image.add(0.5).floor() if request.dtype.kind == "u" else image


def _on_the_wire(image: ee.Image, request: SceneRequest) -> ee.Image:
    """The image in the result's dtype, masked pixels as nodata everywhere, also beyond all footprints."""
    filled = image.unmask(_MASKED if np.isnan(request.nodata) else request.nodata, False)
    return filled.toUint16() if request.dtype == np.uint16 else filled.toFloat()


# --- the pixels, lazily ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pixels:
    """A scene as an array that asks the server for what is indexed: the part of it that dask keeps in a graph.

    Dask hands an index of the scene down to here, so a window or a single band costs only itself.
    """

    connection: Connection
    expressions: tuple[str, ...]  # one a day, or that of the composite
    grid: GeoBox
    bands: tuple[str, ...]
    dtype: np.dtype
    nodata: float
    collection: str
    series: bool

    @property
    def shape(self) -> tuple[int, ...]:
        lead = (len(self.expressions),) if self.series else ()
        return (*lead, len(self.bands), *self.grid.shape.yx)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> np.ndarray:
        day, band, *window = key if self.series else (0, *key)
        rows, columns = (_hull(size, part) for size, part in zip(self.shape[-2:], window, strict=True))
        bands = _listed(self.bands, band)
        images = np.stack([self._read(e, bands, rows, columns) for e in _listed(self.expressions, day)])
        # Days and bands are those wanted; rows and columns are without gaps, so a step is taken here.
        steps = [slice(None, None, part.step if at >= 2 else None) if isinstance(part, slice) else 0
                 for at, part in enumerate((day, band, *window))]  # fmt: skip
        return images[tuple(steps)]

    def _read(self, expression: str, bands: tuple[str, ...], rows: slice, columns: slice) -> np.ndarray:
        grid = self.grid[rows, columns]
        what = f"{self.collection}, rows {rows.start}:{rows.stop}, columns {columns.start}:{columns.stop}"
        pixels = compute_pixels(self.connection, expression, _wire_grid(grid), bands, what).astype(self.dtype)
        if np.isnan(self.nodata):
            pixels[pixels == _MASKED] = self.nodata
        return pixels


def _listed(values: tuple[T, ...], part: int | slice) -> tuple[T, ...]:
    return values[part] if isinstance(part, slice) else (values[part],)


def _hull(size: int, part: int | slice) -> slice:
    """The indices of a part of an axis, from the least to the greatest."""
    indices = range(size)[part] if isinstance(part, slice) else range(part, part + 1)
    return slice(min(indices), max(indices) + 1)


def _wire_grid(grid: GeoBox) -> dict[str, Any]:
    """A grid as the service names it."""
    height, width = grid.shape.yx
    a = grid.affine
    crs = str(grid.crs)
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {"scaleX": a.a, "translateX": a.c, "scaleY": a.e, "translateY": a.f},
        "crsCode" if crs.startswith("EPSG:") else "crsWkt": crs,
    }


def _lazy(source: _Pixels, wanted: int) -> Any:
    import dask.array as da

    side = request_side(len(source.bands), source.dtype.itemsize, wanted)
    chunks = (*([1] if source.series else []), len(source.bands), side, side)
    return da.from_array(source, chunks=chunks, meta=np.empty((0,) * source.ndim, source.dtype))
