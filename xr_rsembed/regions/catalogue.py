"""A static STAC collection of a region: an item for each zone and period."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xr_rsembed.regions.preview import GROUP
from xr_rsembed.regions.store import RegionStore, deciding_attrs, period_span

_EXTENSIONS = [
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
]
_MEDIA = "application/vnd.zarr; version=3"


def write_catalogue(store: RegionStore, folder: str | os.PathLike[str]) -> Path:
    """Write ``collection.json`` and its items into a folder.

    Returns
    -------
    Path
        Of the collection.

    Raises
    ------
    StoreError
        If nothing is embedded yet, or the store has no address.
    """
    import pystac
    import shapely

    root: Any = store.root("r")
    recipe, zones, done = store.settings()["recipe"], store.zones(), store.done()
    address = store.address
    items = []
    for zone, period in sorted({(unit.zone, period) for unit, period in done}):
        units = [unit for unit, one in done if (unit.zone, one) == (zone, period)]
        extents = [zones[zone].cell_geobox(unit).geographic_extent.geom for unit in units]
        shape = shapely.union_all(extents)
        span = period_span(period)
        item = pystac.Item(
            id=f"{zone}_{period}",
            geometry=shapely.geometry.mapping(shape),
            bbox=list(shape.bounds),
            datetime=None,
            start_datetime=span.start,
            end_datetime=span.end,
            properties={
                "proj:code": zones[zone].crs,
                "gsd": root[zone].attrs.get("geoemb:gsd"),
                "emb:runtime_parameters": {**recipe, **deciding_attrs(root[f"{zone}/embedding"].attrs)},
            },
            stac_extensions=_EXTENSIONS,
        )
        for name, group, role in (("embeddings", zone, "data"), ("preview", f"{GROUP}/{zone}", "overview")):
            if group in root:
                asset = pystac.Asset(f"{address}/{group}", media_type=_MEDIA, roles=[role])
                item.add_asset(name, asset)
        items.append(item)
    collection = pystac.Collection(
        id=Path(address.rstrip("/")).stem,
        description=f"Embeddings by {recipe['model_key']}, one Zarr group for each zone.",
        extent=pystac.Extent.from_items(items),
        license="other",
        extra_fields={"emb:dimensions": int(root[done[0][0].zone].attrs["geoemb:dimensions"])},
    )
    collection.add_items(items)
    collection.normalize_hrefs(str(folder))
    collection.make_all_asset_hrefs_relative()
    collection.save(pystac.CatalogType.SELF_CONTAINED)
    return Path(folder) / "collection.json"
