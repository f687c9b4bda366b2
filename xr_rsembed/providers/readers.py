"""Reading one asset of one item on a grid, through odc-stac's reader or stackstac's.

Before either reads, the file is looked at and described as a GDAL virtual raster of floats in which whatever is
invalid (nodata of file or item, mask band, alpha) is NaN. So both see the same pixels and the same overview, and
the same errors stand around them. A read that failed is an error that names its item: never zeros, never nodata.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import (
    OptionError,
    ProviderAuthError,
    ProviderError,
    RsEmbedError,
)
from xr_rsembed.gdal import GDAL_SETTINGS, gdal_path
from xr_rsembed.providers.catalogs import Catalog, public_url
from xr_rsembed.providers.encoding import Encoding, decode
from xr_rsembed.providers.retry import causes, http_status, is_transient, retry
from xr_rsembed.providers.virtual import check_file, virtual_raster

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

#: How the names of the threads begin that read and do nothing else.
READ_THREADS = "xr-rsembed-read"


@dataclass(frozen=True)
class Asset:
    """One raster of one item: its address, unsigned, and what its values mean (None: read as they are)."""

    item: str
    key: str
    href: str
    encoding: Encoding | None = None


@dataclass(frozen=True)
class Source:
    """How a process reads the assets of a catalogue, without any secret: safe in a dask graph."""

    catalog: Catalog
    reader: str = "odc"
    resampling: str = "nearest"
    gdal: Mapping[str, str] = field(default_factory=dict)


def read(asset: Asset, grid: GeoBox, source: Source) -> np.ndarray:
    """The asset's pixels (y, x) on a grid, decoded floats: NaN where the asset is invalid or does not reach."""
    import rasterio

    how, settings = READERS[source.reader], {**GDAL_SETTINGS, **source.catalog.gdal, **source.gdal}
    remote, sign, refused, attempts = "://" in asset.href, source.catalog.sign, False, 0

    def once(attempt: int) -> np.ndarray:
        nonlocal attempts
        attempts = attempt
        path = gdal_path(sign(asset.href, refused) if sign else asset.href)
        if (failures := _failures.get(asset.href)) and path.startswith("/vsicurl/"):
            path += f"#{failures}"
        with rasterio.Env(**settings):
            return _read_on_grid(path, asset, grid, source.resampling, how)

    def transient(error: BaseException) -> bool:
        nonlocal refused
        refused = _is_refusal(error)
        _failures[asset.href] = _failures.get(asset.href, 0) + 1
        return remote and (sign is not None if refused else is_transient(error))

    try:
        return retry(once, transient)
    except RsEmbedError:
        raise
    except Exception as error:
        # "from None": GDAL's own errors carry the address with its signature.
        raise _explained(error, asset, source, attempts) from None


#: Reads that failed, by address. GDAL remembers failed opens and broken blocks by address for as long as the process
#: lives, so an address that failed is varied by this number: its fragment never leaves this machine.
_failures: dict[str, int] = {}


def _read_on_grid(
    path: str,
    asset: Asset,
    grid: GeoBox,
    resampling: str,
    how: Callable[[str, Any, str, np.dtype], np.ndarray],
) -> np.ndarray:
    import rasterio
    from odc.geo.converters import rio_geobox
    from odc.geo.overlap import compute_reproject_roi

    with rasterio.open(path) as file:
        check_file(file, asset.key, asset.item)
        shrink = compute_reproject_roi(rio_geobox(file), grid).scale
        level = sum(factor <= shrink * 1.001 for factor in file.overviews(1)) - 1
        dtype, file_scale = file.dtypes[0], file.scales[0]
        exact = np.dtype(
            "float64" if dtype in ("int32", "uint32", "int64", "uint64", "float64") else "float32"
        )
        if level < 0:
            values = how(virtual_raster(file, asset.encoding, exact), grid, resampling, exact)
        else:
            with rasterio.open(path, overview_level=level) as overview:
                values = how(virtual_raster(overview, asset.encoding, exact, level), grid, resampling, exact)
    if asset.encoding is None:
        return values
    what = f"asset {asset.key!r} of item {asset.item}"
    return decode(values, asset.encoding, dtype, file_scale, what, asset.item)


# --- the readers --------------------------------------------------------------------------------------------


def _read_odc(path: str, grid: GeoBox, resampling: str, dtype: np.dtype) -> np.ndarray:
    from odc.loader import RasterLoadParams, RasterSource, RioDriver

    fill = float("nan")
    how = RasterLoadParams(dtype=dtype.name, fill_value=fill, resampling=resampling, fail_on_error=True)
    whole = np.full(grid.shape.yx, fill, dtype=dtype)
    driver = RioDriver()
    with driver.restore_env({}, driver.new_load(grid)) as context:
        part, pixels = driver.open(RasterSource(path), context).read(how, grid)
    whole[part] = pixels
    return whole


def _read_stackstac(path: str, grid: GeoBox, resampling: str, dtype: np.dtype) -> np.ndarray:
    import stackstac
    from rasterio.enums import Resampling

    epsg = grid.crs.to_epsg() if grid.crs is not None else None
    if epsg is None:
        raise OptionError("stackstac needs a grid with an EPSG code.", found=grid.crs, remedy='reader="odc"')
    bounds = list(grid.boundingbox.bbox)
    properties = {"datetime": "2000-01-01T00:00:00Z", "proj:epsg": epsg, "proj:bbox": bounds}
    item = {"id": "asset", "bbox": bounds, "properties": properties, "assets": {"asset": {"href": path}}}
    stack = stackstac.stack(
        [item],
        assets=["asset"],
        epsg=epsg,
        bounds=tuple(bounds),
        resolution=(grid.resolution.x, -grid.resolution.y),
        snap_bounds=False,
        resampling=Resampling[resampling],
        dtype=dtype,
        fill_value=dtype.type(np.nan),
        rescale=False,
        chunksize=max(grid.shape.yx),
        properties=False,
        band_coords=False,
        gdal_env=stackstac.LayeredEnv(always={}),  # the settings around this call hold
    )
    return np.asarray(stack.data[0, 0].compute(scheduler="synchronous"))


#: Reader by name; each is called as ``read(path, grid, resampling, dtype)`` and gives NaN where nothing is.
READERS: Mapping[str, Callable[[str, Any, str, np.dtype], np.ndarray]] = {
    "odc": _read_odc,
    "stackstac": _read_stackstac,
}


# --- trouble ------------------------------------------------------------------------------------------------


def _messages(error: BaseException) -> str:
    """The messages of an exception and its causes: rasterio keeps GDAL's messages in the causes."""
    return " | ".join(str(one) for one in causes(error))


def _is_refusal(error: BaseException) -> bool:
    return (
        http_status(error) in (401, 403)
        or re.search("InvalidCredentials|AWS_SECRET_ACCESS_KEY", _messages(error)) is not None
    )


def _explained(error: Exception, asset: Asset, source: Source, attempts: int) -> ProviderError:
    status, message = http_status(error), _messages(error)
    what = f"asset {asset.key!r} of item {asset.item} in catalogue {source.catalog.name!r}"
    where = public_url(asset.href)
    if _is_refusal(error):
        return ProviderAuthError(
            f"Access is refused to {what}.",
            found=f"HTTP {status}" if status else "no credentials",
            expected=where,
            remedy=source.catalog.login or "Catalog(sign=...) or gdal={...} with what this server asks for",
        )
    if status is not None:
        found = f"HTTP {status}"
    elif "not recognized as" in message:
        found = "what came is no raster"
    else:
        found = f"GDAL: {_without_queries(message.rpartition(' | ')[2])}"  # the first cause says most
    return ProviderError(
        f"Could not read {what}.",
        found=f"{found} (after {attempts} attempts)" if attempts > 1 else found,
        expected=f"a raster at {where}",
        remedy=f"compute again later; skip_items=[{asset.item!r}] leaves the item out",
    )


def _without_queries(text: str) -> str:
    """Words without the queries of addresses in them, and without the XML of a virtual raster."""
    text = re.sub(r"<VRTDataset.*</VRTDataset>", "the virtual raster", text, flags=re.DOTALL)
    return re.sub(r"\?[^\s'\"|]*|#\d+", "", text)


def _quiet(record: logging.LogRecord) -> bool:
    """What libraries log below our reads: no signatures, and no failure that is tried again or raised as our own."""
    if not str(record.threadName).startswith(READ_THREADS):
        return True
    record.msg, record.args = _without_queries(record.getMessage()), ()
    return record.levelno < logging.ERROR


for _name in (
    "odc.loader._rio",
    "stackstac.rio_reader",
    "stackstac.timer",
    *(f"rasterio._{part}" for part in ("base", "env", "err", "io")),
):
    logging.getLogger(_name).addFilter(_quiet)
