"""The region's store: a group for each zone, one record for each unit and period, and the settings that it holds to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError

from xr_rsembed.errors import StoreError, StoreNotFoundError
from xr_rsembed.georef import geobox_coords
from xr_rsembed.regions.recipe import Recipe, deciding
from xr_rsembed.regions.units import Key, Lattice, Status, units_of
from xr_rsembed.store.conventions import group_attrs, plain
from xr_rsembed.store.io_errors import explained
from xr_rsembed.store.target import StoreLike, Target
from xr_rsembed.times import TemporalSpec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_SETTINGS = "rsembed_region"  # an attr of the root
_RECORD = "unit_record"  # (time, unit_y, unit_x): JSON, one object of the store each
_CHUNK = 14  # cells a side of a chunk within a shard, at most
_TIME = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
#: What of a lattice cannot change once it has cells.
_FIXED = ("crs", "left", "top", "side", "resolution", "cells", "offset")


def period_name(span: TemporalSpec) -> str:
    """A period as a key.

    Examples
    --------
    >>> period_name(TemporalSpec.parse("2022-06"))
    '2022-06-01_2022-07-01'
    """
    ends = (f"{end:%Y-%m-%dT%H%M%S.%f}" for end in (span.start, span.end))
    return "_".join(end.removesuffix(".000000").removesuffix("T000000") for end in ends)


def period_span(period: str) -> TemporalSpec:
    """The period of this name."""
    return TemporalSpec(*(datetime.fromisoformat(end).replace(tzinfo=UTC) for end in period.split("_")))


def _seconds(times: Iterable[datetime]) -> np.ndarray:
    """Times as the store holds them, in seconds since 1970."""
    return np.array([int(time.timestamp()) for time in times], "int64")


def put_array(group: zarr.Group, name: str, dims: str, **layout: Any) -> zarr.Array[Any]:
    """The array of a group with dims such as ``"y x"``; created where there is none."""
    with contextlib.suppress(ContainsArrayError):  # another job of this region was the first
        group.create_array(name, dimension_names=dims.split(), **layout)
    array: Any = group[name]
    return array


def put_coords(group: zarr.Group, grid: GeoBox, **others: np.ndarray) -> None:
    """The coords of a group: y, x and spatial_ref of its grid, and ``time`` and others; longer where they are there."""
    coords = geobox_coords(grid)
    attrs = {name: plain(coord.attrs) for name, coord in coords.items()}
    put_array(group, "spatial_ref", "", shape=(), dtype="int64", attributes=attrs["spatial_ref"])
    for name, values in {"y": coords["y"].values, "x": coords["x"].values, **others}.items():
        along_time = name in ("time", "time_end")
        array = put_array(
            group,
            name,
            "time" if along_time else name,
            shape=(0,),
            dtype=values.dtype,
            chunks=(4096,),
            attributes=_TIME if along_time else attrs.get(name),
        )
        array.resize(values.shape)
        array[:] = values


@dataclass(frozen=True)
class RegionStore:
    """Reads and writes one store; travels to workers.

    Parameters
    ----------
    place : path, URL or zarr store
    storage_options : mapping, optional
    """

    place: StoreLike
    storage_options: Mapping[str, Any] | None = None

    @property
    def target(self) -> Target:
        return Target.at(self.place, storage_options=self.storage_options)

    @property
    def address(self) -> str:
        """Where the store lies, without keys; a StoreError for a store object."""
        if isinstance(self.place, Store):
            raise StoreError(
                "This store has no address that others could open.",
                found=f"a {type(self.place).__name__}",
                expected="a path or an address",
            )
        return self.target.name

    def root(self, mode: Any = "r") -> zarr.Group:
        """The store's root group."""
        target = self.target
        with _explained(target, "read" if mode == "r" else "written"):
            return zarr.open_group(target.store, mode=mode, zarr_format=3)

    def _content(self) -> dict[str, Any] | None:
        """The root's attr; None where there is no region."""
        target = self.target
        with _explained(target, "read"), contextlib.suppress(FileNotFoundError):
            return zarr.open_group(target.store, mode="r", zarr_format=3).attrs.get(_SETTINGS)  # type: ignore[return-value]
        return None

    def settings(self) -> dict[str, Any]:
        """The recipe, the zones and the requests; a StoreNotFoundError if there is no region."""
        content = self._content()
        if content is None:
            raise StoreNotFoundError(
                "There is no region here.",
                found=str(self.target),
                expected="a store that region() began",
                remedy="xr_rsembed.region(store, area, time).run()",
            )
        return content

    def zones(self) -> dict[str, Lattice]:
        """The lattices of a store that exists; none of one that does not."""
        content = self._content()
        return {name: Lattice(**one) for name, one in content["zones"].items()} if content else {}

    def periods(self) -> list[str]:
        """The periods of the time axis, in its order."""
        return list(
            dict.fromkeys(one for request in self.settings()["requests"] for one in request["periods"])
        )

    def requested(self) -> list[Key]:
        """Every unit and period that any call asked this store for."""
        from shapely.geometry import shape

        keys: dict[Key, None] = {}
        for request in self.settings()["requests"]:
            area = shape(request["area"])
            units = [unit for lattice in self.zones().values() for unit in units_of(area, lattice)]
            keys |= dict.fromkeys((unit, period) for period in request["periods"] for unit in units)
        return list(keys)

    def status(self, keys: Sequence[Key]) -> Status:
        """The status of these units by their records."""
        records, status = self.records(keys), Status()
        for unit, period in keys:
            name, record = f"{unit} {period}", records.get((unit, period), {"state": "left"})
            if record["state"] == "failed":
                status.failed[name] = str(record["reason"])
            else:
                getattr(status, record["state"]).append(name)
        return status

    def done(self) -> list[Key]:
        """Every unit and period that has cells in the store; a StoreError if there is none."""
        found = [key for key, record in self.records(self.requested()).items() if record["state"] == "done"]
        if not found:
            raise StoreError(
                "Nothing of the region is embedded yet.", found=str(self.target), remedy="run.run()"
            )
        return found

    def check(self, recipe: Recipe, zones: Mapping[str, Lattice]) -> None:
        """Refuse to mix two recipes, or two grids, in one store, with what differs."""
        if (content := self._content()) is None:
            return
        now = plain(recipe.described())
        was = now | content["recipe"]  # an older version recorded less, and more
        was |= {part: deciding(was[part]) for part in ("settings", "options")}
        for name, lattice in zones.items():
            before = content["zones"].get(name) or next(iter(content["zones"].values()), vars(lattice))
            fixed = _FIXED if name in content["zones"] else ("side", "resolution", "cells", "offset")
            now |= {f"{name} {one}": getattr(lattice, one) for one in fixed}
            was |= {f"{name} {one}": before[one] for one in fixed}
        self._require_same(was, now)

    def _require_same(self, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if differ := [name for name in {**was, **now} if was.get(name) != now.get(name)]:
            raise StoreError(
                "The region's store was begun with other settings.",
                found=", ".join(f"{name} {now.get(name)}" for name in differ),
                expected=", ".join(f"{name} {was.get(name)}" for name in differ),
                remedy=f"the settings of {self.target}, or another store",
            )

    def begin(self, recipe: Recipe, zones: Mapping[str, Lattice], request: dict[str, Any]) -> None:
        """Create what is missing: the store, its zones, the periods of the request; refuse other settings."""
        self.check(recipe, zones)
        known = self._content()
        others = set() if known else {name for name in self.target.objects() if not name.endswith(".partial")}
        if others - {"zarr.json"}:
            raise StoreError(
                "The store holds something else.",
                found=str(self.target),
                expected="a new place, or a region's store",
                remedy="another path",
            )
        like = next(iter(zones.values()))
        example = recipe.example(like)  # raises what a setting has wrong before anything is written
        root: Any = self.root("a")
        content = known or {"recipe": plain(recipe.described()), "requests": [], "zones": {}}
        for zone in content["zones"]:
            if f"{zone}/embedding" in root:
                self._require_same(
                    deciding_attrs(root[f"{zone}/embedding"].attrs), deciding_attrs(example.attrs)
                )
        requests = content["requests"] + [request] * (request not in content["requests"])
        lattices = content["zones"] | {name: vars(lattice) for name, lattice in zones.items()}
        if (content := content | {"requests": requests, "zones": lattices}) != known:
            layout = "utm_zones" if recipe.grid == "utm" else "global"
            root.attrs.update({_SETTINGS: content, "geoemb:spatial_layout": layout})
        for lattice in self.zones().values():
            self._lay_out(example, lattice, self.periods())

    def _lay_out(self, example: xr.DataArray, lattice: Lattice, periods: Sequence[str]) -> None:
        """The arrays of one zone, as large as its lattice and the list of periods."""
        group: Any = self.root("a").require_group(lattice.zone)
        grid, depth = lattice.cell_geobox(), example.sizes["D"]
        if "embedding" not in group:
            self._create(group, example, lattice)
        embedding, spans = group["embedding"], [period_span(period) for period in periods]
        starts, ends = _seconds(span.start for span in spans), _seconds(span.end for span in spans)
        shape = (len(periods), depth, *grid.shape.yx)
        if embedding.shape == shape and np.array_equal(group["time"][:], starts):
            return
        put_coords(group, grid, time=starts, time_end=ends, D=np.arange(depth))
        box = [float(edge) for edge in grid.boundingbox.bbox]
        group.attrs.update({"spatial:shape": list(grid.shape.yx), "spatial:bbox": box})
        group[_RECORD].resize((len(periods), lattice.rows, lattice.columns))
        embedding.resize(shape)  # last: a zone that has its size is whole

    @staticmethod
    def _create(group: zarr.Group, example: xr.DataArray, lattice: Lattice) -> None:
        """The arrays of a new zone, without a length along time."""
        depth, n = example.sizes["D"], lattice.cells
        placed = example.assign_coords(geobox_coords(lattice.cell_geobox()[:n, :n]))
        group.attrs.update(group_attrs(placed, dtype="float32"))
        put_array(
            group,
            _RECORD,
            "time unit_y unit_x",
            shape=(0, lattice.rows, lattice.columns),
            dtype=str,
            chunks=(1, 1, 1),
        )
        inner = next(side for side in range(min(_CHUNK, n), 0, -1) if n % side == 0)
        attributes = {
            name: value
            for name, value in example.attrs.items()
            if not name.startswith("scene_") and name not in ("units", "time_start", "time_end")
        }
        put_array(
            group,
            "embedding",
            "time D y x",
            shape=(0, depth, lattice.rows * n, lattice.columns * n),
            dtype=example.dtype,
            chunks=(1, depth, inner, inner),
            shards=(1, depth, n, n),
            fill_value=np.nan,
            attributes=plain({**attributes, "grid_mapping": "spatial_ref", "coordinates": "time_end"}),
        )

    def write(self, lattice: Lattice, key: Key, embedding: xr.DataArray | None, scenes: Sequence[str]) -> str:
        """Write a unit's cells as one shard, then its record; without a valid cell only the record. Gives the state.

        Cells that were made otherwise than those of the store are refused.
        """
        unit, period = key
        valid = 0 if embedding is None else int(embedding.notnull().any("D").sum())
        if embedding is not None and valid:
            window = (self.periods().index(period), slice(None), *lattice.window(unit))
            array: Any = self.root("r+")[f"{unit.zone}/embedding"]
            self._require_same(deciding_attrs(array.attrs), deciding_attrs(embedding.attrs))
            with _explained(self.target):
                array[window] = embedding.values
        state = "done" if valid else "empty"
        self.record(key, {"state": state, "valid_cells": valid, "scenes": scenes})
        return state

    def record(self, key: Key, content: Mapping[str, Any]) -> None:
        """Say what became of a unit: one object of the store, whole or not at all."""
        unit, period = key
        array: Any = self.root("r+")[f"{unit.zone}/{_RECORD}"]
        with _explained(self.target):
            array[self.periods().index(period), unit.row, unit.column] = json.dumps(plain(dict(content)))

    def tidy(self) -> None:
        """Remove what writers that were killed have left on a disk: objects that were not put in their places yet."""
        if root := self.target.root:
            for path in root.rglob(".*.partial"):
                path.unlink(missing_ok=True)

    def records(self, wanted: Sequence[Key]) -> dict[Key, dict[str, Any]]:
        """The records that are there."""
        if self._content() is None:
            return {}
        root, periods = self.root(), self.periods()
        found = {}
        for zone, period in dict.fromkeys((unit.zone, period) for unit, period in wanted):
            if period not in periods or f"{zone}/{_RECORD}" not in root:
                continue
            units = [unit for unit, one in wanted if (unit.zone, one) == (zone, period)]
            top, left = min(unit.row for unit in units), min(unit.column for unit in units)
            bottom, right = max(unit.row for unit in units) + 1, max(unit.column for unit in units) + 1
            array: Any = root[f"{zone}/{_RECORD}"]
            texts = array[periods.index(period), top:bottom, left:right]
            for unit in units:
                if text := str(texts[unit.row - top, unit.column - left]):
                    found[unit, period] = json.loads(text)
        return found


def _explained(target: Target, doing: str = "written") -> Any:
    remedy = "make room, or mend the access or the address, then the same call again: finished units are safe"
    return explained(target, remedy, doing=doing, local=target.root is not None)


def deciding_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What tells an embedding's numbers from others beyond the recipe: its weights, and what options decide.

    Examples
    --------
    >>> deciding_attrs({"weights": "random (seed 0)", "weights_sha256": "", "normalization": "zscore"})
    {'weights': 'random (seed 0)', 'normalization': 'zscore'}
    """
    name = "weights_sha256" if attrs.get("weights_sha256") else "weights"
    return {one: plain(attrs[one]) for one in (name, "normalization", "layer") if one in attrs}
