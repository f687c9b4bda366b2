"""Units of work: the squares of a zone's lattice that an area touches; each zone has one lattice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xr_rsembed.errors import GridError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True)
class Lattice:
    """All units that a zone could have, from its top left corner on.

    Parameters
    ----------
    zone : str
        Name of the group: ``utm32``, or ``grid``.
    crs : str
    left, top : float
        Corner, in the CRS's units.
    rows, columns : int
        Units along y and x.
    side : int
        Pixels of a unit: a multiple of the tiles' stride, so that tiles of neighbours lie on one lattice.
    resolution : float
    cells : int
        Embedding cells of a unit.
    offset : float
        From a unit's corner to that of its first cell: denser cells than one a patch lie around the patches' centres.
    """

    zone: str
    crs: str
    left: float
    top: float
    rows: int
    columns: int
    side: int
    resolution: float
    cells: int
    offset: float = 0.0

    def geobox(self, unit: Unit | None = None, margins: tuple[int, int] = (0, 0)) -> GeoBox:
        """The pixels of a unit, by default the first, with margins: to the top and left, to the bottom and right."""
        before, after = margins
        row, column = (unit.row, unit.column) if unit else (0, 0)
        x = self.left + self.resolution * (column * self.side - before)
        y = self.top - self.resolution * (row * self.side - before)
        return _geobox((before + self.side + after,) * 2, x, y, self.resolution, self.crs)

    def cell_geobox(self, unit: Unit | None = None) -> GeoBox:
        """The embedding's cells of a unit, by default of the whole zone."""
        size = self.side * self.resolution / self.cells
        rows, columns = (1, 1) if unit else (self.rows, self.columns)
        row, column = (unit.row, unit.column) if unit else (0, 0)
        x = self.left + column * self.side * self.resolution + self.offset
        y = self.top - row * self.side * self.resolution - self.offset
        return _geobox((rows * self.cells, columns * self.cells), x, y, size, self.crs)

    def window(self, unit: Unit) -> tuple[slice, slice]:
        """The cells of a unit along y and x, in the arrays of its zone."""
        n = self.cells
        return slice(unit.row * n, (unit.row + 1) * n), slice(unit.column * n, (unit.column + 1) * n)


def _geobox(shape: tuple[int, int], x: float, y: float, size: float, crs: str) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox(shape, Affine(size, 0, x, 0, -size, y), crs)


@dataclass(frozen=True, order=True)
class Unit:
    """One unit of a zone, by its row and column on the zone's lattice."""

    zone: str
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.zone}_{self.row:05d}_{self.column:05d}"


#: A unit, and the name of a period.
Key = tuple[Unit, str]


@dataclass(frozen=True)
class Status:
    """How far a region is, by the records in its store.

    Parameters
    ----------
    done, empty, left : list of str
        Units and periods: embedded; without a valid pixel; not worked on yet.
    failed : dict of str to str
        The reason by unit and period.
    """

    done: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.done)} done, {len(self.empty)} empty, {len(self.failed)} failed, {len(self.left)} left"
        return "\n".join([counts, *(f"  {name}: {reason}" for name, reason in self.failed.items())])


def lattices(
    area: Any, grid: Any, like: Lattice, *, extent: Any = None, known: Mapping[str, Lattice] | None = None
) -> dict[str, Lattice]:
    """The lattices of an area's zones.

    Parameters
    ----------
    area : shapely geometry
        In degrees.
    grid : "utm", CRS or GeoBox
        The UTM zones that the area touches; one CRS; or exactly this grid.
    like : Lattice
        Whose units they have.
    extent : shapely geometry, optional
        What the lattices cover besides the area, for cells to come.
    known : mapping of str to Lattice, optional
        Those of a store that exists: they keep their corner, and grow to the east and south.

    Raises
    ------
    GridError
        For a grid that is none of these, an area beyond UTM's latitudes, or west or north of a known corner.
    """
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    known, size = known or {}, like.side * like.resolution
    if isinstance(grid, GeoBox):
        return {"grid": _of_geobox(grid, like, known.get("grid"))}
    found = {}
    for zone, crs, part in _parts(area, area if extent is None else area.union(extent), grid):
        before = known.get(zone)
        try:
            crs = before.crs if before else str(crs)
            box = Geometry(part, "EPSG:4326").to_crs(crs, resolution=0.05).boundingbox
        except Exception as error:
            raise GridError(
                "The grid is no CRS.", found=repr(crs), expected="'utm', a CRS or a GeoBox"
            ) from error
        left = before.left if before else math.floor(box.left / size) * size
        top = before.top if before else math.ceil(box.top / size) * size
        if box.left < left or box.top > top:
            raise GridError(
                "The area lies west or north of what the store was laid out for.",
                found=f"{zone}: {box.left:.0f} {box.top:.0f}",
                expected=f"x from {left:.0f}, y up to {top:.0f}",
                remedy="another store, begun with extent= an area that holds all that is to come",
            )
        shape = math.ceil((top - box.bottom) / size), math.ceil((box.right - left) / size)
        found[zone] = _grown(replace(like, zone=zone, crs=crs, left=left, top=top), shape, before)
    return found


def _grown(lattice: Lattice, shape: tuple[int, int], before: Lattice | None) -> Lattice:
    """A lattice of at least so many rows and columns, and no fewer than before."""
    rows, columns = shape
    if before is not None:
        rows, columns = max(rows, before.rows), max(columns, before.columns)
    return replace(lattice, rows=rows, columns=columns)


def _parts(area: Any, whole: Any, grid: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each zone's name and CRS, and what lies in it."""
    if grid != "utm":
        yield "grid", grid, whole
        return
    south, north = whole.bounds[1], whole.bounds[3]
    if south < -80 or north > 84:
        raise GridError(
            "UTM does not reach the poles.",
            found=f"latitudes {south:.2f} to {north:.2f}",
            expected="-80 to 84",
            remedy="grid='EPSG:3413' in the north, grid='EPSG:3031' in the south",
        )
    touched = dict(_zones(area))
    for zone, part in _zones(whole):
        if zone in touched:
            yield f"utm{zone:02d}", f"EPSG:{(32600 if part.centroid.y >= 0 else 32700) + zone}", part


def _zones(area: Any) -> Iterator[tuple[int, Any]]:
    """UTM zones, and what of the area lies in each."""
    from shapely import box

    west, south, east, north = area.bounds
    for zone in range(1, 61):
        edge = 6 * zone - 186
        if edge < east and edge + 6 > west:
            part = area.intersection(box(edge, south, edge + 6, north))
            if part.area > 0:
                yield zone, part


def _of_geobox(grid: GeoBox, like: Lattice, before: Lattice | None) -> Lattice:
    affine = grid.affine
    if grid.crs is None or not grid.axis_aligned or affine.a <= 0 or affine.a != -affine.e:
        raise GridError(
            "A region's grid has a CRS, square pixels and north up.", found=repr(grid), remedy="grid='utm'"
        )
    offset = like.offset / like.resolution * affine.a
    lattice = replace(
        like, zone="grid", crs=str(grid.crs), left=affine.c, top=affine.f, resolution=affine.a, offset=offset
    )
    return _grown(lattice, (math.ceil(grid.shape.y / like.side), math.ceil(grid.shape.x / like.side)), before)


def units_of(area: Any, lattice: Lattice) -> list[Unit]:
    """The units of a zone that the area touches, row by row; of a UTM zone, within the zone's six degrees."""
    from odc.geo.geom import Geometry
    from odc.geo.gridspec import GridSpec
    from odc.geo.types import xy_

    if lattice.zone.startswith("utm"):
        area = dict(_zones(area)).get(int(lattice.zone[3:]))
        if area is None:
            return []
    bottom = lattice.top - lattice.rows * lattice.side * lattice.resolution
    spec = GridSpec(
        lattice.crs, (lattice.side, lattice.side), lattice.resolution, origin=xy_(lattice.left, bottom)
    )
    projected = Geometry(area, "EPSG:4326").to_crs(lattice.crs, resolution=0.05)
    units = [
        Unit(lattice.zone, lattice.rows - 1 - y, x) for (x, y), _ in spec.tiles_from_geopolygon(projected)
    ]
    return sorted(
        unit for unit in units if 0 <= unit.row < lattice.rows and 0 <= unit.column < lattice.columns
    )
