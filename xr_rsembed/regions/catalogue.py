"""A static STAC collection of a region: an item for each zone and period."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xr_rsembed.regions.ledger import Ledger, weights_of
from xr_rsembed.regions.preview import GROUP
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.store.conventions import without_credentials

__all__ = ["write_catalogue"]

_EXTENSIONS = [
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
]
_MEDIA = "application/vnd.zarr; version=3"


def write_catalogue(
    ledger: Ledger,
    lattices: dict[str, Lattice],
    done: Sequence[tuple[Unit, str]],
    folder: str | os.PathLike[str],
) -> Path:
    """Write ``collection.json`` and its items into a folder.

    Returns
    -------
    Path
        Of the collection.
    """
    import pystac
    import shapely

    root: Any = ledger.root("r")
    items = []
    for zone, period in sorted({(unit.zone, period) for unit, period in done}):
        lattice = lattices[zone]
        boxes = [
            lattice.cell_geobox(unit.row, unit.column).geographic_extent.geom
            for unit, one in done
            if (unit.zone, one) == (zone, period)
        ]
        shape = shapely.union_all(boxes)
        start, end = (datetime.fromisoformat(_iso(one)).replace(tzinfo=UTC) for one in period.split("_"))
        attrs = dict(root[zone].attrs)
        item = pystac.Item(
            id=f"{zone}_{period}",
            geometry=shapely.geometry.mapping(shape),
            bbox=list(shape.bounds),
            datetime=None,
            start_datetime=start,
            end_datetime=end,
            properties={
                "proj:code": lattice.crs,
                "gsd": attrs.get("geoemb:gsd"),
                "emb:runtime_parameters": {
                    **ledger.settings()["recipe"],
                    **weights_of(root[f"{zone}/embedding"].attrs),
                },
            },
            stac_extensions=_EXTENSIONS,
        )
        address = str(ledger.store)
        address = without_credentials(address) if "://" in address else os.path.abspath(address)
        item.add_asset("embeddings", pystac.Asset(f"{address}/{zone}", media_type=_MEDIA, roles=["data"]))
        if f"{GROUP}/{zone}" in root:
            item.add_asset(
                "preview", pystac.Asset(f"{address}/{GROUP}/{zone}", media_type=_MEDIA, roles=["overview"])
            )
        items.append(item)
    model = ledger.settings()["recipe"]["model_key"]
    collection = pystac.Collection(
        id=Path(str(ledger.store).rstrip("/")).stem or "region",
        description=f"Embeddings by {model}, one Zarr group for each zone.",
        extent=pystac.Extent.from_items(items),
        license="other",
        extra_fields={"emb:dimensions": int(root[items[0].id.split("_")[0]].attrs["geoemb:dimensions"])},
    )
    collection.add_items(items)
    collection.normalize_hrefs(str(folder))
    collection.make_all_asset_hrefs_relative()
    collection.save(pystac.CatalogType.SELF_CONTAINED)
    return Path(folder) / "collection.json"


def _iso(text: str) -> str:
    day, _, clock = text.partition("T")
    return f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:]}" if clock else day
