"""Reading one asset of one item on a grid, through stackstac's reader or odc-stac's, patiently.

Both take an address and a grid and give an array. Around them stand the same settings of GDAL, the same patience
and the same errors. A read that failed is an error that names its item: never zeros, never nodata.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import MissingDependencyError, OptionError, ProviderAuthError, ProviderError
from xr_rsembed.providers.catalogs import Catalog, public_url
from xr_rsembed.providers.patience import patiently

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["GDAL_SETTINGS", "READERS", "Asset", "Source", "read"]

_reading: ContextVar[bool] = ContextVar("xr_rsembed_reading", default=False)

#: GDAL's HTTP for COGs: no directory listings, few and large requests, own retries below ours, no endless waits.
GDAL_SETTINGS: Mapping[str, str] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,425,429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # A failed open or a broken block stays in GDAL's cache; where the address cannot be varied, nothing is kept.
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsigs/",
}


@dataclass(frozen=True)
class Asset:
    """One raster of one item: its address, unsigned, and what to add to its values."""

    item: str
    key: str
    href: str
    offset: int = 0


@dataclass(frozen=True)
class Source:
    """How a process reads the assets of a catalogue, without any secret: safe in a dask graph."""

    catalog: Catalog
    reader: str = "stackstac"
    resampling: str = "nearest"
    gdal: Mapping[str, str] = field(default_factory=dict)


def read(asset: Asset, grid: GeoBox, source: Source, dtype: np.dtype, fill: float) -> np.ndarray:
    """The asset's pixels on a grid.

    Parameters
    ----------
    asset : Asset
    grid : odc.geo.geobox.GeoBox
    source : Source
    dtype : numpy.dtype
        Of the result.
    fill : float
        Where the asset has nodata or does not reach.

    Returns
    -------
    ndarray, shape (grid height, grid width)
        As stored: the offset is not applied.

    Raises
    ------
    ProviderAuthError
        If access is refused, with a renewed signature too.
    ProviderError
        If the asset cannot be read after several attempts.
    """
    import rasterio

    how, settings = READERS[source.reader], {**GDAL_SETTINGS, **source.catalog.gdal, **source.gdal}
    remote, sign, refused, attempts = "://" in asset.href, source.catalog.sign, False, 0

    def once(attempt: int) -> np.ndarray:
        nonlocal attempts
        attempts = attempt
        href = sign(asset.href, refused) if sign else asset.href
        with _quietly(), rasterio.Env(**settings):
            return how(_gdal_path(href, _failures.get(asset.href, 0)), grid, source.resampling, dtype, fill)

    def passing(error: BaseException) -> bool:
        nonlocal refused
        refused = _is_refusal(error)
        _failures[asset.href] = _failures.get(asset.href, 0) + 1
        return remote and (_is_passing(error) or (refused and sign is not None))

    try:
        return patiently(once, passing)
    except (MissingDependencyError, OptionError):
        raise
    except Exception as error:
        # "from None": GDAL's own errors carry the address with its signature.
        raise _explained(error, asset, source, attempts) from None


#: Reads that failed, by address. GDAL remembers failed opens and broken blocks by address for as long as the process
#: lives, so an address that failed is varied by this number: its fragment never leaves this machine.
_failures: dict[str, int] = {}


def _gdal_path(href: str, failures: int) -> str:
    """The address as GDAL reads it."""
    if href.startswith(("http://", "https://")):
        return f"/vsicurl/{href}" + (f"#{failures}" if failures else "")
    for scheme, path in (("s3://", "/vsis3/"), ("gs://", "/vsigs/")):
        if href.startswith(scheme):
            return path + href.removeprefix(scheme)
    return href


def _read_stackstac(path: str, grid: GeoBox, resampling: str, dtype: np.dtype, fill: float) -> np.ndarray:
    try:
        from stackstac.raster_spec import RasterSpec
        from stackstac.rio_env import LayeredEnv
        from stackstac.rio_reader import AutoParallelRioReader
    except ImportError:
        raise MissingDependencyError("stackstac is not installed.", remedy="pip install stackstac") from None
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    epsg = grid.crs.to_epsg() if grid.crs is not None else None
    if epsg is None:
        raise OptionError("stackstac needs a grid with an EPSG code.", found=grid.crs, remedy='reader="odc"')
    height, width = grid.shape.yx
    reader = AutoParallelRioReader(
        url=path,
        spec=RasterSpec(epsg, tuple(grid.boundingbox.bbox), (grid.resolution.x, -grid.resolution.y)),
        resampling=Resampling[resampling],
        dtype=dtype,
        fill_value=dtype.type(fill),
        scale_offset=(1, 0),
        gdal_env=LayeredEnv(always={}),  # the settings around this call hold
        errors_as_nodata=(),
    )
    try:
        return reader.read(Window(0, 0, width, height))
    finally:
        reader.close()


def _read_odc(path: str, grid: GeoBox, resampling: str, dtype: np.dtype, fill: float) -> np.ndarray:
    try:
        from odc.loader import RasterLoadParams, RasterSource, RioDriver
    except ImportError:
        raise MissingDependencyError(
            "odc-stac is not installed.", remedy="pip install 'xr-rsembed[stac]'"
        ) from None
    how = RasterLoadParams(dtype=dtype.name, fill_value=fill, resampling=resampling, fail_on_error=True)
    whole = np.full(grid.shape.yx, fill, dtype=dtype)
    driver = RioDriver()
    with driver.restore_env({}, driver.new_load(grid)) as context:
        part, pixels = driver.open(RasterSource(path), context).read(how, grid)
    whole[part] = pixels
    return whole


#: Reader by name; each is called as ``read(path, grid, resampling, dtype, fill)``.
READERS: Mapping[str, Callable[[str, Any, str, np.dtype, float], np.ndarray]] = {
    "stackstac": _read_stackstac,
    "odc": _read_odc,
}


# --- trouble ------------------------------------------------------------------------------------------------


def _chain(error: BaseException | None) -> str:
    """All that an exception and its causes say: rasterio keeps GDAL's words in the causes."""
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__ or error.__context__
    return " | ".join(words)


def _status(error: BaseException) -> int | None:
    codes = re.findall(r"HTTP (?:response|error) code ?: ?(\d{3})", _chain(error))
    return int(codes[-1]) if codes else None


def _is_passing(error: BaseException) -> bool:
    """Whether another attempt may go better: all but a clear refusal, since a cut answer looks like a bad file."""
    status = _status(error)
    hopeless = isinstance(error, (MissingDependencyError, OptionError)) or _is_refusal(error)
    return not hopeless and (status is None or status >= 500 or status in (408, 425, 429))


def _is_refusal(error: BaseException) -> bool:
    return (
        _status(error) in (401, 403)
        or re.search("InvalidCredentials|AWS_SECRET_ACCESS_KEY", _chain(error)) is not None
    )


def _explained(error: Exception, asset: Asset, source: Source, attempts: int) -> ProviderError:
    status, said = _status(error), _chain(error)
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
    elif "not recognized as" in said:
        found = "what came is no raster"
    else:
        found = f"GDAL: {_without_queries(said.rpartition(' | ')[2])}"  # the first cause says most
    return ProviderError(
        f"Could not read {what}.",
        found=f"{found} (after {attempts} attempts)" if attempts > 1 else found,
        expected=f"a raster at {where}",
        remedy=f"compute again later; skip_items=[{asset.item!r}] leaves the item out",
    )


def _without_queries(text: str) -> str:
    return re.sub(r"\?[^\s'\"|]*|#\d+", "", text)


@contextmanager
def _quietly() -> Iterator[None]:
    """Mark what this thread logs as coming from one of our reads."""
    before = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(before)


def _quiet(record: logging.LogRecord) -> bool:
    """What libraries log below our reads: no signatures, and no failure that is tried again or raised as our own."""
    if _reading.get():
        record.msg, record.args = _without_queries(record.getMessage()), ()
    return not _reading.get() or record.levelno < logging.ERROR


for _name in (
    "odc.loader._rio",
    "stackstac.rio_reader",
    "stackstac.timer",
    *(f"rasterio._{part}" for part in ("base", "env", "err", "io")),
):
    logging.getLogger(_name).addFilter(_quiet)
