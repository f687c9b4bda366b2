"""Scenes from Google Earth Engine: composites made on the server, one request for pixels per dask block.

Opening asks for the list of images only. Their ids are fixed then, so that what is computed later, on whichever
machine, comes from the images that the attrs name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.config import get_option
from xr_rsembed.crs import crs_name
from xr_rsembed.errors import check_names, whole_number
from xr_rsembed.providers.base import SCL_CLOUDY, SceneRequest
from xr_rsembed.providers.gee_client import (
    LONGEST_SIDE,
    REQUEST_BYTES,
    Connection,
    compute_pixels,
    connect,
)
from xr_rsembed.providers.gee_search import FoundImage, find_images
from xr_rsembed.providers.lazy import by_solar_day, scene_of_days

if TYPE_CHECKING:
    import ee
    from odc.geo.geobox import GeoBox

OPTIONS = ("project", "url", "workers")
#: Stands for a masked pixel on the wire where nodata is NaN, which an expression cannot hold.
_MASKED = -32768.0


class EarthEngine:
    """The provider ``"gee"``.

    Its options: ``project`` (Google Cloud project; else ``EARTHENGINE_PROJECT``, ``GOOGLE_CLOUD_PROJECT`` or the one
    stored with the login), ``url`` (another server, such as the high-volume one) and ``workers`` (requests under way
    at a time, per process; else option ``terramind.fetch_workers``).
    """

    def open(self, request: SceneRequest) -> xr.DataArray:
        """Describe the scene lazily: reads the list of images, no pixel."""
        check_names(request.options, OPTIONS, 'Provider "gee"')
        options = {"workers": get_option("terramind.fetch_workers")} | dict(request.options)
        whole_number("workers", options["workers"], at_least=1)
        connection = Connection.choose(options)
        connect(connection)
        images, attrs = find_images(connection, request)
        days = by_solar_day(images, request.grid)
        pictures = [_mosaic([_image(i, request, attrs["collection"]) for i in day]) for day in days]
        if request.composite is not None:
            pictures = [_composite(pictures, request)]
        plan = _Plan(
            connection,
            tuple(_on_the_wire(picture, request).serialize() for picture in pictures),
            request.bands,
            request.dtype,
            float(request.nodata),
            attrs["collection"],
        )
        attrs |= {"provider": "gee", "catalog": "earth-engine", "resampling": "nearest"}
        side = request_side(len(request.bands), request.dtype.itemsize, request.chunks)
        decibels = request.modality == "S1GRD" and not attrs["collection"].endswith("_FLOAT")
        return scene_of_days(request, plan.read, days, attrs, side=side, units="dB" if decibels else None)


def request_side(bands: int, itemsize: int, wanted: int) -> int:
    """The side of a block in pixels: ``wanted``, or the largest whole fraction of it that one request may have.

    >>> request_side(bands=12, itemsize=2, wanted=1792)
    896
    """
    parts = 1
    while (side := -(-wanted // parts)) > LONGEST_SIDE or side**2 * bands * (itemsize + 1) > REQUEST_BYTES:
        parts += 1
    return side


# --- the expression that the server computes ---------------------------------------------------------------


def _image(found: FoundImage, request: SceneRequest, collection: str) -> ee.Image:
    import ee

    image = ee.Image(found.id)
    bands = image.select(list(request.bands))
    if request.dtype.kind == "u" and request.nodata == 0:
        bands = bands.max(1)  # measured, so not nodata: as STAC's scenes are floored
    elif request.modality == "S1GRD" and collection.endswith("_FLOAT"):
        bands = bands.updateMask(bands.gt(0))  # power of zero and less is no measurement, from STAC neither
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

    if request.composite in ("first", "last"):
        return _mosaic(days if request.composite == "first" else days[::-1])
    stack = ee.ImageCollection(list(days))
    image = stack.median() if request.composite == "median" else stack.mean()
    return image.add(0.5).floor() if request.dtype.kind == "u" else image


def _on_the_wire(image: ee.Image, request: SceneRequest) -> ee.Image:
    """The image in the result's dtype, masked pixels as nodata everywhere, also beyond all footprints."""
    nodata = _MASKED if np.isnan(request.nodata) else request.nodata
    if request.dtype.kind == "u" and nodata:
        image = image.where(image.eq(nodata), nodata - 1)  # measured, so not nodata
    filled = image.unmask(nodata, False)
    return filled.toUint16() if request.dtype == np.uint16 else filled.toFloat()


# --- the pixels, lazily ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """How to ask for any part of the scene: what dask keeps in a graph, without any secret."""

    connection: Connection
    expressions: tuple[str, ...]  # one a day, or that of the composite
    bands: tuple[str, ...]
    dtype: np.dtype
    nodata: float
    collection: str

    def read(self, dates: tuple[int, ...], bands: tuple[int, ...], grid: GeoBox) -> np.ndarray:
        """Shape (date, band, y, x), one request a date; the date of a composite is its only one."""
        box = ", ".join(f"{edge:.10g}" for edge in grid.boundingbox.bbox)
        names = tuple(self.bands[band] for band in bands)
        pixels = np.empty((len(dates), len(bands), *grid.shape.yx), self.dtype)
        for position, date in enumerate(dates):
            what = f"{self.collection} ({', '.join(names)}) within {box} of {crs_name(grid.crs)}"
            pixels[position] = compute_pixels(
                self.connection, self.expressions[date], _wire_grid(grid), names, what
            )
        if np.isnan(self.nodata):
            pixels[pixels == _MASKED] = self.nodata
        return pixels


def _wire_grid(grid: GeoBox) -> dict[str, Any]:
    """A grid as the service names it."""
    height, width = grid.shape.yx
    # By its code where it has one, also where it came as WKT, as scenes of rioxarray carry it.
    a, code = grid.affine, grid.crs.to_epsg() if grid.crs is not None else None
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {"scaleX": a.a, "translateX": a.c, "scaleY": a.e, "translateY": a.f},
        **({"crsWkt": str(grid.crs)} if code is None else {"crsCode": f"EPSG:{code}"}),
    }
