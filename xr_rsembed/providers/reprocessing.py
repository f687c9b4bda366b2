"""Which items hold the same measurements: a product that was processed again, and the two halves of a split tile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from xr_rsembed.providers.encoding import baseline, property_named

Item = Mapping[str, Any]

_ONE_PASS = timedelta(minutes=1)  # between the times that two processings of one product state
_SAME_FOOTPRINT = 0.9  # of the union; the halves of a split tile share a strip at most


def acquired(item: Item) -> datetime:
    """When an item was acquired, in UTC."""
    properties = item["properties"]
    when = datetime.fromisoformat(properties.get("datetime") or properties["start_datetime"])
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def newest_processings(items: Iterable[Item]) -> list[Item]:
    """One item for each product of a tile: of several processings the newest, of a split tile both halves."""
    kept: list[Item] = []
    for item in sorted(items, key=_processing, reverse=True):
        if not any(_is_reprocessing(item, newer) for newer in kept):
            kept.append(item)
    return sorted(kept, key=lambda item: (acquired(item), item["id"]))


def _is_reprocessing(one: Item, other: Item) -> bool:
    """Whether two items hold the same measurements: one tile and pass, and one data strip or one footprint."""
    if _tile_and_platform(one) != _tile_and_platform(other):
        return False
    if abs(acquired(one) - acquired(other)) > _ONE_PASS:
        return False
    strips = [_sensing_start(item) for item in (one, other)]
    if None not in strips:
        return strips[0] == strips[1]
    outlines = [_lonlat_outline(item) for item in (one, other)]
    if None in outlines:
        return True
    first, second = outlines
    return bool(first.intersection(second).area >= _SAME_FOOTPRINT * first.union(second).area)


def _tile_and_platform(item: Item) -> tuple[str, str]:
    """The tile, by any catalogue's words or the product's name, and the satellite; without a tile, the id."""
    names = ("grid:code", "mgrs_tile", "region_code")
    tile = next((str(found) for name in names if (found := property_named(item, name))), None)
    if tile is None:
        parts = [property_named(item, name) for name in ("utm_zone", "latitude_band", "grid_square")]
        tile = None if None in parts else "{:02d}{}{}".format(int(parts[0]), *parts[1:])
    if tile is None:
        match = re.search(r"(?:^|_)T?(\d{2}[C-X][A-Z]{2})(?:_|$)", item["id"])
        tile = match[1] if match else item["id"]
    platform = str(item["properties"].get("platform") or item["id"][:3]).lower()
    return tile.removeprefix("MGRS-").lstrip("T"), platform


def _sensing_start(item: Item) -> str | None:
    """When the data strip of an item began, which every processing of it keeps."""
    for name in ("datastrip_id", "datastrip", "granule_id", "product_id", "product_uri"):
        text = str(property_named(item, name) or "")
        if match := re.search(r"_DS_.*_S(\d{8}T\d{6})", text) or re.search(r"_A\d{6}_(\d{8}T\d{6})$", text):
            return match[1]
    return None


def _lonlat_outline(item: Item) -> Any:
    from shapely import make_valid
    from shapely.geometry import shape

    return make_valid(shape(item["geometry"])) if item.get("geometry") else None


def _processing(item: Item) -> tuple[str, ...]:
    names = ("generation_time", "sequence", "created", "updated")
    return (baseline(item) or "", *(str(property_named(item, name) or "") for name in names), item["id"])
