"""Vector cubes of places, and a file of one that survives being cut: a small part for each place until it is whole."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, OptionError, StoreError
from xr_rsembed.explore.cubes import label_rows
from xr_rsembed.explore.tables import to_geoparquet
from xr_rsembed.extras import require
from xr_rsembed.providers.grid import place_outline, target_grid
from xr_rsembed.specs import BBox, PointBuffer
from xr_rsembed.times import DEFAULT_TIME, TemporalSpec


class VectorFile:
    """One ``.parquet`` or ``.zarr`` of a vector cube, and the folder of parts that are not in it yet.

    ``known`` holds the vectors (D,) of both by their keys.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.parts = self.path.with_name(self.path.name + ".parts")
        self.known: dict[str, xr.DataArray] = {}
        if self.path.suffix not in (".parquet", ".zarr"):
            raise StoreError(
                "Vectors go to .parquet or .zarr.",
                found=self.path.name,
                remedy=f"out='{self.path.stem}.parquet'",
            )
        if self.path.exists():
            try:
                self.known |= _stored_vectors(self.path)
            except Exception as error:
                raise StoreError(
                    f"{path} is there and is no vector cube of xr-rsembed.",
                    found=f"{type(error).__name__}: {error}",
                    remedy="another out=, or move the file away",
                ) from None
        for part in self.parts.glob("[!.]*.npz"):
            with np.load(part, allow_pickle=False) as content:
                self.known[part.stem] = _vector(content["vector"], json.loads(str(content["attrs"])))

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


def vector_cube(
    vectors: Mapping[int, xr.DataArray], frame: Any, errors: Sequence[str], keys: Sequence[str]
) -> xr.DataArray:
    """dims (geometry, D), labelled by the table of places; attrs that differ from place to place are left out."""
    one = next(iter(vectors.values()))
    values = np.full((len(frame), *one.shape), np.nan, dtype=one.dtype)
    for index, vector in vectors.items():
        values[index] = vector.values
    attrs = {
        name: value
        for name, value in one.attrs.items()
        if all(np.array_equal(vector.attrs.get(name, ""), value) for vector in vectors.values())
    }
    coords = {"D": one["D"].values}
    cube = xr.DataArray(values, dims=("geometry", *one.dims), coords=coords, name="embedding", attrs=attrs)
    return label_rows(cube, frame, np.array(errors)).assign_coords(key=("geometry", np.array(keys)))


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


def place_table(spatials: Any) -> tuple[list[Any], Any]:
    """The places, and a GeoDataFrame of their geometries in degrees, with the columns that were given."""
    geopandas = require("geopandas", "A vector cube")
    require("xvec", "A vector cube")  # registers .xvec
    if isinstance(spatials, geopandas.GeoSeries):
        spatials = spatials.to_frame("geometry")
    frame = None
    if isinstance(spatials, geopandas.GeoDataFrame):
        if spatials.crs is None:
            raise GridError(
                "The places have no CRS.", found=type(spatials).__name__, remedy="gdf.set_crs(4326)"
            )
        frame = spatials.to_crs(4326)
        spatials = frame.geometry
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
    shapes = [_place_geometry(place) for place in places]
    if frame is None:
        return places, geopandas.GeoDataFrame(geometry=shapes, crs=4326)
    frame[frame.geometry.name] = geopandas.GeoSeries(shapes, index=frame.index, crs=4326)
    return places, frame


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
