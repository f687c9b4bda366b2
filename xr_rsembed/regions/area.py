"""What people call an area, as one shapely geometry in degrees."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Any

import shapely
from shapely.affinity import translate

from xr_rsembed.errors import GridError
from xr_rsembed.explore.polygons import read_table
from xr_rsembed.providers.grid import place_outline

_MGRS = re.compile(r"^T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])$")
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_KM_100 = 100_000


_AREAS = "a bbox, polygons, a vector file, a list of MGRS tiles, a DataArray or a GeoBox"


def area_geometry(area: Any) -> Any:
    """The geometry of an area.

    Parameters
    ----------
    area : bbox, BBox, GeoDataFrame, GeoSeries, shapely geometry, GeoJSON, path, MGRS tiles, DataArray or GeoBox
        A bbox is (west, south, east, north) in degrees, west > east across the antimeridian. A path is a vector file.
        MGRS tiles are names of 100 km squares, such as ``["32TQQ", "33TTM"]``.

    Returns
    -------
    shapely geometry
        In EPSG:4326, not empty.

    Raises
    ------
    GridError
        For anything that is no area.

    Examples
    --------
    >>> area_geometry((9.0, 45.0, 9.5, 45.25)).area
    0.125
    """
    if isinstance(area, (str, os.PathLike)):
        is_file = os.path.exists(area) or os.path.splitext(area)[1]
        area = read_table(area, "Reading an area") if is_file else mgrs_square(os.fspath(area))
    elif isinstance(area, Sequence) and area and all(isinstance(one, str) for one in area):
        area = shapely.union_all([area_geometry(one) for one in area])
    if hasattr(area, "union_all") and area.crs is not None:  # of which place_outline would take the box
        area = area.to_crs(4326).union_all()
    geometry = _wrapped(place_outline(area, _AREAS).to_crs(4326, resolution=math.inf).geom)
    if geometry.area == 0:
        raise GridError(
            "This is no area.",
            found=repr(area)[:200],
            expected=_AREAS,
            remedy="area=(9.0, 45.0, 9.5, 45.5), or area='places.geojson'",
        )
    return geometry


def _wrapped(geometry: Any) -> Any:
    """The geometry with longitudes from -180 to 180, where it runs on past them."""
    west, south, east, north = geometry.bounds
    if -180 <= west <= east <= 180:
        return geometry
    turns = [(turn, shapely.box(turn - 180, south, turn + 180, north)) for turn in (-360, 0, 360)]
    return shapely.union_all([translate(geometry.intersection(globe), -turn) for turn, globe in turns])


def mgrs_square(name: str) -> Any:
    """The 100 km square of an MGRS tile, in degrees.

    Sentinel-2's tiles are these squares and some ten kilometres beyond them to the east and south.

    Examples
    --------
    >>> [round(edge, 2) for edge in mgrs_square("32TQQ").bounds]
    [11.5, 44.19, 12.81, 45.13]
    """
    from pyproj import Transformer

    match = _MGRS.match(name.upper())
    if match is None:
        raise GridError(
            "This is neither a file nor an MGRS tile.", found=repr(name), expected="a path, or a tile: 32TQQ"
        )
    zone, band, column, row = int(match[1]), match[2], match[3], match[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if not 1 <= zone <= 60 or column not in columns:
        raise GridError("There is no such MGRS tile.", found=repr(name), expected=f"a column of {columns}")
    left = (columns.index(column) + 1) * _KM_100
    north = band >= "N"
    crs = f"EPSG:{(32600 if north else 32700) + zone}"
    to_degrees = Transformer.from_crs(crs, 4326, always_xy=True)
    to_metres = Transformer.from_crs(4326, crs, always_xy=True)
    south_edge = 8 * _BANDS.index(band) - 80
    lowest = to_metres.transform(6 * zone - 183, south_edge)[1]
    # Row letters repeat every 2000 km, and start five letters on in even zones.
    bottom = ((_ROWS.index(row) - 5 * (zone % 2 == 0)) % 20) * _KM_100
    while bottom + _KM_100 <= lowest:
        bottom += 20 * _KM_100
    square = shapely.segmentize(shapely.box(left, bottom, left + _KM_100, bottom + _KM_100), _KM_100 / 8)
    return shapely.transform(square, to_degrees.transform, interleaved=False)
