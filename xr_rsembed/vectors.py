"""Vector cubes of places, and a file of one that survives being cut: a small part for each place until it is whole."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, OptionError, StoreError
from xr_rsembed.explore.tables import to_geoparquet
from xr_rsembed.extras import require
from xr_rsembed.providers.grid import place_outline, target_grid
from xr_rsembed.specs import BBox, PointBuffer
from xr_rsembed.times import DEFAULT_TIME, TemporalSpec


@dataclass(frozen=True)
class VectorFile:
    """One ``.parquet`` or ``.zarr`` of a vector cube, and the parts that wait beside it."""

    path: Path
    found: dict[str, xr.DataArray] = field(default_factory=dict)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> VectorFile:
        """The file of this path, with what it holds already."""
        path = Path(path)
        if path.suffix not in (".parquet", ".zarr"):
            raise StoreError(
                "Vectors go to .parquet or .zarr.", found=path.name, remedy=f"out='{path.stem}.parquet'"
            )
        if not path.exists():
            return cls(path)
        try:
            return cls(path, _stored_vectors(path))
        except Exception as error:
            raise StoreError(
                f"{path} is there and is no vector cube of xr-rsembed.",
                found=f"{type(error).__name__}: {error}",
                remedy="another out=, or move the file away",
            ) from None

    @property
    def parts(self) -> Path:
        """The folder of what is done and not yet in the file."""
        return self.path.with_name(self.path.name + ".parts")

    def known(self, key: str) -> xr.DataArray | None:
        """The vector of a place that was embedded before."""
        if key in self.found:
            return self.found[key]
        part = self.parts / f"{key}.npz"
        if not part.exists():
            return None
        with np.load(part, allow_pickle=False) as content:
            return _vector(content["vector"], json.loads(str(content["attrs"])))

    def keep(self, key: str, vector: xr.DataArray) -> None:
        """Keep one vector; a part is there whole or not at all."""
        self.parts.mkdir(parents=True, exist_ok=True)
        draft = self.parts / f".{key}.npz"
        np.savez(draft, vector=vector.values, attrs=json.dumps(vector.attrs))
        draft.replace(self.parts / f"{key}.npz")

    def write(self, cube: xr.DataArray, *, complete: bool) -> None:
        """Write the whole cube; the parts go once no place is left to try again."""
        if self.path.suffix == ".parquet":
            to_geoparquet(cube, self.path, overwrite=True)
        else:
            draft = self.path.with_name(f".{self.path.name}")
            shutil.rmtree(draft, ignore_errors=True)
            _write_zarr(cube, draft)
            former = self.path.with_name(f".{self.path.name}.former")
            if self.path.exists():  # aside first: at no moment is there nothing
                self.path.replace(former)
            draft.replace(self.path)
            shutil.rmtree(former, ignore_errors=True)
        if complete:
            shutil.rmtree(self.parts, ignore_errors=True)


def _place_geometry(place: Any) -> Any:
    """What stands for a place in the cube, in degrees: the point of a PointBuffer, else its outline."""
    import shapely

    try:
        outline = place_outline(place)
        if outline.boundingbox.right > 180 and outline.crs == 4326:  # across the antimeridian
            return target_grid(place).geographic_extent.geom
        return outline.to_crs(4326).geom
    except Exception:  # a place that cannot be read; it gets its own error later
        return shapely.Point()


def vector_cube(
    vectors: Mapping[int, xr.DataArray], geometries: Sequence[Any], columns: Mapping[str, Any]
) -> xr.DataArray:
    """dims (geometry, D), with columns along the geometries; attrs that differ from place to place are left out."""
    one = next(iter(vectors.values()))
    values = np.full((len(geometries), *one.shape), np.nan, dtype=one.dtype)
    for index, vector in vectors.items():
        values[index] = vector.values
    attrs = {
        name: value
        for name, value in one.attrs.items()
        if all(_same(vector.attrs.get(name), value) for vector in vectors.values())
    }
    names = np.empty(len(geometries), dtype=object)
    names[:] = geometries
    along = {
        name: ("geometry", np.array(column, dtype=str) if isinstance(column, list) else column)
        for name, column in columns.items()
    }
    coords = {"geometry": names, "D": one["D"].values, **along}
    cube = xr.DataArray(values, dims=("geometry", *one.dims), coords=coords, name="embedding", attrs=attrs)
    return cube.xvec.set_geom_indexes("geometry", crs=4326)


def _frame_columns(frame: Any) -> dict[str, np.ndarray]:
    """The index and columns of a GeoDataFrame or GeoSeries by name, without its geometry."""
    table = (
        frame.drop(columns=frame.geometry.name)
        if hasattr(frame, "columns")
        else frame.to_frame("geometry")[[]]
    )
    plain = table.index.names == [None] and table.index.tolist() == [*range(len(table))]
    if not plain and not {*table.index.names} & {*table.columns}:
        table = table.reset_index()
    return {str(name): table[name].to_numpy() for name in table.columns}


def _stored_vectors(path: Path) -> dict[str, xr.DataArray]:
    """The vectors (D,) that a file holds, by their keys; those of places that failed are left out."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=["embedding", "key", "error"])
        attrs = json.loads(table.schema.metadata[b"xr_rsembed"])
        values = np.array(table["embedding"].to_pylist(), "float32")
        columns = (table[name].to_pylist() for name in ("key", "error"))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's, on strings
            cube = xr.open_zarr(path, consolidated=False)["embedding"].load()
        values, attrs = cube.values, cube.attrs
        columns = (cube[name].values for name in ("key", "error"))
    rows = zip(*columns, values, strict=True)
    return {str(key): _vector(vector, attrs) for key, error, vector in rows if not error}


def _vector(values: np.ndarray, attrs: dict[str, Any]) -> xr.DataArray:
    return xr.DataArray(values, dims="D", coords={"D": np.arange(len(values))}, attrs=attrs)


def _write_zarr(cube: xr.DataArray, path: Path) -> None:
    import shapely

    # Text holds every kind of geometry, side by side too; CF's own encoding does not.
    text = np.array(shapely.to_wkt(cube["geometry"].values, rounding_precision=-1), dtype=str)
    plain = cube.drop_vars("geometry").assign_coords(geometry=("geometry", text, {"crs": "EPSG:4326"}))
    objects = [name for name, coord in plain.coords.items() if coord.dtype == object]
    plain = plain.assign_coords({name: plain[name].astype(str) for name in objects})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, on strings
        plain.to_dataset(name="embedding").to_zarr(path, mode="w", consolidated=False)


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def times_of(temporal: Any, places: int) -> list[TemporalSpec]:
    """One span for each place, from one for all or a list with one for each."""
    if temporal is None:
        temporal = DEFAULT_TIME
    several = hasattr(temporal, "to_list") or (isinstance(temporal, np.ndarray) and temporal.ndim == 1)
    if several:  # a column: one for each place
        temporal = list(temporal)
    pair = isinstance(temporal, list | tuple) and len(temporal) == 2 and not any(map(_is_span, temporal))
    if places == 2 and pair and not several and temporal is not DEFAULT_TIME:
        raise OptionError(
            "Two times over two places may be one span for both, or one time for each.",
            found=repr(temporal),
            expected="one of the two",
            remedy=f"TemporalSpec.range({temporal[0]!r}, {temporal[1]!r}) for one span, or "
            f"[TemporalSpec.parse({temporal[0]!r}), TemporalSpec.parse({temporal[1]!r})]",
        )
    if several or isinstance(temporal, list):
        if len(temporal) != places:
            raise OptionError(
                "One time for each place.",
                found=f"{len(temporal)} times",
                expected=f"{places}",
                remedy=f"TemporalSpec.range({temporal[0]!r}, {temporal[1]!r}) for one span" if pair else None,
            )
        return [TemporalSpec.parse(time) for time in temporal]
    return [TemporalSpec.parse(temporal)] * places


def _is_span(time: Any) -> bool:
    """Whether a time can only be a span of its own, never one end of one."""
    return (isinstance(time, str) and "/" in time) or not isinstance(time, str | int | date | np.generic)


def listed_places(spatials: Any) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """The places, their shapely geometries in degrees, and what a GeoDataFrame knows of them."""
    geopandas = require("geopandas", "A vector cube")
    require("xvec", "A vector cube")  # registers .xvec
    columns: dict[str, Any] = {}
    if isinstance(spatials, geopandas.GeoDataFrame | geopandas.GeoSeries):
        if spatials.crs is None:
            raise GridError(
                "The places have no CRS.", found=type(spatials).__name__, remedy="gdf.set_crs(4326)"
            )
        columns = _frame_columns(spatials)
        spatials = list(spatials.to_crs(4326).geometry)
    elif isinstance(spatials, Mapping):
        raise OptionError(
            "Places are a list or a GeoDataFrame.",
            found="a mapping",
            remedy="geopandas.GeoDataFrame.from_features(geojson, crs=4326)",
        )
    elif isinstance(spatials, PointBuffer | BBox) or hasattr(spatials, "geom_type"):
        spatials = [spatials]
    places = list(spatials)
    if not places:
        raise OptionError("There are no places.", found="spatials=[]", expected="at least one place")
    return places, [_place_geometry(place) for place in places], columns
