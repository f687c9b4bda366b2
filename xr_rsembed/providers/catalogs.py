"""What differs between STAC catalogues, in one small table that users can extend with :func:`add_catalog`.

The table names assets and addresses. What can be read off an item itself, such as the offset of its reflectances, is
read there (see ``encoding``) and never guessed from a catalogue's name or from a date.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from xr_rsembed import bands
from xr_rsembed.errors import CatalogError, OptionError
from xr_rsembed.extras import require

#: ``sign(href, renew)`` gives the address that opens; ``renew`` is set when the last one was refused.
Signer: TypeAlias = Callable[[str, bool], str]


@dataclass(frozen=True)
class Collection:
    """One collection of a catalogue: its name and what it calls the bands.

    Parameters
    ----------
    id : str
        The collection's id; empty where a source of items has no collections.
    assets : mapping of str to str
        Canonical band to asset key. Empty: asset keys are recognized by the aliases of ``bands.py``.
    mask : str, optional
        Asset key of the scene classification (SCL).
    """

    id: str
    assets: Mapping[str, str] = field(default_factory=dict)
    mask: str | None = None


@dataclass(frozen=True)
class Catalog:
    """One place to search.

    Parameters
    ----------
    name : str
        What attrs and errors call it.
    href : str
        Address of a STAC API, or a path or address of a ``catalog.json`` or a stac-geoparquet file.
    collections : mapping of str to tuple of Collection
        By modality; the first is the default.
    sign : callable, optional
        Called as ``sign(href, renew)`` where pixels are read, so no token enters a dask graph and one that
        expires during a long run is replaced.
    gdal : mapping of str to str
        GDAL's settings for this catalogue.
    login : str, optional
        The one line that gives access; errors print it when access is refused.
    """

    name: str
    href: str
    collections: Mapping[str, tuple[Collection, ...]] = field(default_factory=dict)
    sign: Signer | None = None
    gdal: Mapping[str, str] = field(default_factory=dict)
    login: str | None = None

    @property
    def local_folder(self) -> Path | None:
        """The folder of a catalogue on disk, None for one behind an address."""
        return None if "://" in self.href else Path(self.href).resolve().parent

    def collection(self, modality: str, wanted: str | None) -> Collection:
        """The collection for a modality: the one wanted by name, else the first."""
        known = self.collections.get(modality, ())
        for collection in known:
            if wanted in (None, collection.id):
                return collection
        if wanted is not None or not self.collections:
            # In a file everything is meant; a server has much else.
            usual = "" if self.local_folder is not None else _USUAL_IDS[modality]
            return Collection(wanted or usual, mask=_SCL_KEYS if modality == "S2L2A" else None)
        raise CatalogError(
            f"Catalogue {self.name!r} has no {modality} that can be read on a grid.",
            found=", ".join(sorted(self.collections)),
            expected=modality,
            remedy='modality="S1RTC", catalog="planetary-computer", or fetch("gee", ...)'
            if modality.startswith("S1")
            else "collection= names one, or another catalog=",
        )


#: What most catalogues call the collections.
_USUAL_IDS = {
    "S2L2A": "sentinel-2-l2a",
    "S2L1C": "sentinel-2-l1c",
    "S1RTC": "sentinel-1-rtc",
    "S1GRD": "sentinel-1-grd",
}
#: Names under which the scene classification is found where no table says so.
_SCL_KEYS = "SCL|scl|SCL_20m"

_COLOURS = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22"
_EARTH_SEARCH = dict(zip(bands.S2_L2A, _COLOURS.split(), strict=True))
_PLANETARY = {band: band if len(band) == 3 else f"B0{band[1:]}" for band in bands.S2_L2A}
_RESOLUTION = {"B1": 60, "B2": 10, "B3": 10, "B4": 10, "B8": 10, "B9": 60}
_CDSE = {band: f"{key}_{_RESOLUTION.get(band, 20)}m" for band, key in _PLANETARY.items()}


def _sign_planetary(href: str, renew: bool) -> str:
    planetary_computer = require("planetary_computer", "Planetary Computer")
    if renew:
        planetary_computer.sas.TOKEN_CACHE.clear()
    return str(planetary_computer.sign(href))


_TABLE = (
    Catalog(
        "earth-search",
        "https://earth-search.aws.element84.com/v1",
        {
            "S2L2A": (
                Collection("sentinel-2-l2a", _EARTH_SEARCH, "scl"),
                Collection("sentinel-2-c1-l2a", _EARTH_SEARCH, "scl"),
            )
        },
    ),
    Catalog(
        "planetary-computer",
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        {
            "S2L2A": (Collection("sentinel-2-l2a", _PLANETARY, "SCL"),),
            "S1RTC": (Collection("sentinel-1-rtc", {"VV": "vv", "VH": "vh"}),),
        },
        sign=_sign_planetary,
    ),
    Catalog(
        "cdse",
        "https://stac.dataspace.copernicus.eu/v1",
        {"S2L2A": (Collection("sentinel-2-l2a", _CDSE, "SCL_20m"),)},
        gdal={"AWS_S3_ENDPOINT": "eodata.dataspace.copernicus.eu", "AWS_VIRTUAL_HOSTING": "FALSE"},
        login="export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... (keys from https://eodata-s3keysmanager.dataspace.copernicus.eu)",
    ),
)
_CATALOGS = {catalog.name: catalog for catalog in _TABLE}


def add_catalog(catalog: Catalog) -> None:
    """Make a catalogue known by its name; one of the same name is replaced.

    Examples
    --------
    >>> mine = Catalog("mine", "https://stac.example.org", {"S2L2A": (Collection("s2", {"B4": "red"}),)})
    >>> add_catalog(mine)
    >>> find_catalog("mine").collection("S2L2A", None).id
    's2'
    """
    _CATALOGS[catalog.name] = catalog


def find_catalog(catalog: str | os.PathLike[str] | Catalog) -> Catalog:
    """The catalogue of this name, address or path.

    >>> find_catalog("earth-search").collection("S2L2A", None).assets["B8A"]
    'nir08'
    """
    if isinstance(catalog, Catalog):
        return catalog
    text = os.fspath(catalog)
    if text in _CATALOGS:
        return _CATALOGS[text]
    if re.match(r"https?://", text):
        twin = next(
            (known for known in _CATALOGS.values() if known.href.rstrip("/") == text.rstrip("/")), None
        )
        return twin or Catalog(public_url(text), text)
    if Path(text).is_file():
        return Catalog(text, text)
    raise CatalogError(
        "There is no such catalogue.",
        found=text,
        expected=", ".join(_CATALOGS)
        + ", an http(s) address, or the path of a catalog.json or .parquet file",
    )


def public_url(href: str) -> str:
    """An address without what may be secret in it: user, password, query and fragment.

    >>> public_url("https://me:key@example.org/a/B02.tif?sig=secret")
    'https://example.org/a/B02.tif'
    """
    parts = urlsplit(href)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def asset_keys(collection: Collection, wanted: tuple[str, ...], found: Mapping[str, Any]) -> dict[str, str]:
    """Canonical band to asset key, among the assets that an item has; bands without an asset are left out.

    Where several assets hold one band, such as ``B02_10m`` and ``B02_20m``, the first with pixels is taken.
    """
    if collection.assets:
        unknown = [band for band in wanted if band not in collection.assets]
        if unknown:
            raise OptionError(
                f"Collection {collection.id!r} has no band {', '.join(unknown)}.",
                found=", ".join(wanted),
                expected=", ".join(collection.assets),
            )
        return {band: key for band in wanted if (key := collection.assets[band]) in found}
    keys: dict[str, str] = {}
    for key, asset in found.items():
        band = bands.canonical_name(key)
        if band in wanted and str((asset or {}).get("type", "image")).startswith("image"):
            keys.setdefault(str(band), key)
    return keys


def mask_key(collection: Collection, found: Mapping[str, Any]) -> str | None:
    """The asset key of the scene classification among the assets that an item has."""
    return next((key for key in (collection.mask or "").split("|") if key in found), None)
