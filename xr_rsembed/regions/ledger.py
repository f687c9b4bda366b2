"""The region's store: a group for each zone, one record for each unit and period, and the settings that it holds to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.errors import ContainsArrayError

from xr_rsembed.errors import StoreError, StoreNotFoundError
from xr_rsembed.georef import geobox_coords
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.regions.work import Recipe
from xr_rsembed.specs import TemporalSpec
from xr_rsembed.store.conventions import group_attrs, plain

__all__ = ["ATTR", "Ledger", "period_name", "weights_of"]

ATTR = "rsembed_region"
_RECORD = "unit_record"  # (time, unit_y, unit_x): JSON, one object of the store each
_CHUNK = 14  # cells a side of a chunk within a shard, at most


def period_name(span: TemporalSpec) -> str:
    """A period as a key: ``2022-06-01_2022-09-01``.

    Examples
    --------
    >>> period_name(TemporalSpec.parse("2022-06"))
    '2022-06-01_2022-07-01'
    """

    def moment(when: Any) -> str:
        return (
            f"{when:%Y-%m-%d}" if not (when.hour or when.minute or when.second) else f"{when:%Y-%m-%dT%H%M%S}"
        )

    return f"{moment(span.start)}_{moment(span.end)}"


@dataclass(frozen=True)
class Ledger:
    """Reads and writes one store; travels to workers.

    Parameters
    ----------
    store : path, URL or zarr store
    storage_options : mapping, optional
    """

    store: Any
    storage_options: Mapping[str, Any] | None = None

    def root(self, mode: Any = "r") -> zarr.Group:
        """The store's root group."""
        return zarr.open_group(
            self.store, mode=mode, storage_options=dict(self.storage_options or {}) or None
        )

    def settings(self) -> dict[str, Any]:
        """What the store says of the region.

        Raises
        ------
        StoreNotFoundError
            If there is no region.
        """
        try:
            found = self.root().attrs.get(ATTR)
        except FileNotFoundError:
            found = None
        if not found:
            raise StoreNotFoundError(
                "There is no region here.",
                found=str(self.store),
                expected="a store that region() began",
                remedy="xr_rsembed.region(store, area, time).run()",
            )
        return dict(found)  # type: ignore[arg-type]

    def zones(self) -> dict[str, Lattice]:
        """The lattices of a store that exists; none of one that does not."""
        try:
            return {name: Lattice(**one) for name, one in self.settings()["zones"].items()}
        except StoreNotFoundError:
            return {}

    def begin(self, recipe: Recipe, zones: Mapping[str, Lattice], request: dict[str, Any], grid: str) -> None:
        """Create what is missing: the store, its zones, the periods of the request; refuse other settings."""
        described = {**recipe.described(), "grid": grid}
        root = self.root("a")
        known: Any = root.attrs.get(ATTR)
        if known:
            require_same(str(self.store), known["recipe"], plain(described))
            self._same_weights(root, known["zones"], recipe, zones)
        elif list(root.members()):
            raise StoreError(
                "The store holds something else.",
                found=str(self.store),
                expected="a new place, or a region's store",
                remedy="another path",
            )
        content = dict(known) if known else {"recipe": plain(described), "requests": [], "zones": {}}
        if request not in content["requests"]:
            content["requests"] = [*content["requests"], request]
        for name, lattice in zones.items():
            content["zones"] = {**content["zones"], name: vars(lattice)}
        if content != known:
            root.attrs.update(
                {ATTR: content, "geoemb:spatial_layout": "utm_zones" if grid == "utm" else "global"}
            )
        periods = list(dict.fromkeys(period for one in content["requests"] for period in one["periods"]))
        for name in content["zones"]:
            self._zone(recipe, Lattice(**content["zones"][name]), periods)

    def _same_weights(
        self, root: zarr.Group, made: Sequence[str], recipe: Recipe, zones: Mapping[str, Lattice]
    ) -> None:
        """Refuse weights other than those that the store's zones were embedded with."""
        attrs = [root[f"{zone}/embedding"].attrs for zone in made if f"{zone}/embedding" in root]
        if not attrs or not zones:
            return
        now = weights_of(recipe.example(next(iter(zones.values()))).attrs)
        for was in map(weights_of, attrs):
            require_same(str(self.store), was, now)

    def _zone(self, recipe: Recipe, lattice: Lattice, periods: Sequence[str]) -> None:
        """The arrays of one zone; a time axis that is as long as the list of periods."""
        root = self.root("a")
        if f"{lattice.zone}/embedding" not in root:
            self._create(recipe, lattice)
        group: Any = root[lattice.zone]
        height, width = grid = lattice.cell_geobox().shape.yx
        starts, ends = (
            np.array([_moment(period.split("_")[end]) for period in periods], "int64") for end in (0, 1)
        )
        arrays: Any = group["embedding"]
        if arrays.shape == (len(periods), arrays.shape[1], *grid) and np.array_equal(
            group["time"][:], starts
        ):
            return
        coords = geobox_coords(lattice.cell_geobox())
        for name, values in (("time", starts), ("time_end", ends), ("y", coords["y"]), ("x", coords["x"])):
            group[name].resize((len(values),))
            group[name][:] = np.asarray(values)
        group.attrs.update(self._grid_attrs(lattice))
        group[_RECORD].resize((len(periods), lattice.rows, lattice.columns))
        arrays.resize((len(periods), arrays.shape[1], height, width))

    @staticmethod
    def _grid_attrs(lattice: Lattice) -> dict[str, Any]:
        grid = lattice.cell_geobox()
        box = [float(edge) for edge in grid.boundingbox.bbox]
        return {"spatial:shape": list(grid.shape.yx), "spatial:bbox": box}

    def _create(self, recipe: Recipe, lattice: Lattice) -> None:
        example = recipe.example(lattice)
        grid = lattice.cell_geobox()
        placed = example.isel(y=slice(0, 2), x=slice(0, 2)).assign_coords(
            {name: coord[:2] if name in ("y", "x") else coord for name, coord in geobox_coords(grid).items()}
        )
        attrs = group_attrs(placed, dtype="float32") | self._grid_attrs(lattice)
        group = self.root("a").require_group(lattice.zone)
        group.attrs.update(attrs)
        coords: dict[str, Any] = geobox_coords(grid)
        days: Any = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        for name in ("y", "x"):
            values = np.asarray(coords[name])
            array = group.create_array(
                name,
                shape=values.shape,
                dtype="float64",
                chunks=(4096,),
                dimension_names=(name,),
                overwrite=True,
            )
            array[:] = values
            array.attrs.update(plain(getattr(coords[name], "attrs", {})))
        times: Any = {"shape": (0,), "dtype": "int64", "chunks": (512,), "dimension_names": ("time",)}
        for name in ("time", "time_end"):
            group.create_array(name, **times, attributes=days, overwrite=True)
        depth = np.asarray(example["D"].values)
        group.create_array("D", shape=depth.shape, dtype="int64", dimension_names=("D",), overwrite=True)[
            :
        ] = depth
        group.create_array(
            "spatial_ref",
            shape=(),
            dtype="int64",
            attributes=plain(coords["spatial_ref"].attrs),
            overwrite=True,
        )[...] = 0
        inner = next(side for side in range(min(_CHUNK, lattice.cells), 0, -1) if lattice.cells % side == 0)
        size = example.sizes["D"]
        said = {
            name: value
            for name, value in example.attrs.items()
            if not name.startswith("scene_") and name not in ("units", "time_start", "time_end")
        }
        group.create_array(
            _RECORD,
            shape=(0, lattice.rows, lattice.columns),
            dtype=str,
            chunks=(1, 1, 1),
            dimension_names=("time", "unit_y", "unit_x"),
            overwrite=True,
        )
        with contextlib.suppress(ContainsArrayError):  # another job of this region was the first
            group.create_array(
                "embedding",
                shape=(0, size, *grid.shape.yx),
                dtype=example.dtype,
                chunks=(1, size, inner, inner),
                shards=(1, size, lattice.cells, lattice.cells),
                fill_value=np.nan,
                dimension_names=("time", "D", "y", "x"),
                attributes=plain({**said, "grid_mapping": "spatial_ref", "coordinates": "time_end"}),
            )

    def write(
        self, lattice: Lattice, unit: Unit, period: str, values: np.ndarray, said: Mapping[str, Any]
    ) -> None:
        """Write a unit's cells as one shard, then its record; without a valid cell only the record."""
        valid = int(np.isfinite(values).any(axis=0).sum())
        if valid:
            array: Any = self.root("r+")[f"{unit.zone}/embedding"]
            time = self.periods().index(period)
            y, x = unit.row * lattice.cells, unit.column * lattice.cells
            array[time : time + 1, :, y : y + lattice.cells, x : x + lattice.cells] = values[None]
        state = "done" if valid else "empty"
        self.record(unit, period, {"state": state, "valid_cells": valid, **said})

    def periods(self) -> list[str]:
        """The periods of the time axis, in its order."""
        requests = self.settings()["requests"]
        return list(dict.fromkeys(period for one in requests for period in one["periods"]))

    def record(self, unit: Unit, period: str, content: Mapping[str, Any]) -> None:
        """Say what became of a unit: one object of the store, whole or not at all."""
        array: Any = self.root("r+")[f"{unit.zone}/{_RECORD}"]
        array[self.periods().index(period), unit.row, unit.column] = json.dumps(plain(dict(content)))

    def records(self, wanted: Sequence[tuple[Unit, str]]) -> dict[tuple[Unit, str], dict[str, Any]]:
        """The records that are there."""
        try:
            root, periods = self.root(), self.periods()
        except (FileNotFoundError, StoreNotFoundError):
            return {}
        found = {}
        for zone, period in dict.fromkeys((unit.zone, period) for unit, period in wanted):
            units = [unit for unit, one in wanted if (unit.zone, one) == (zone, period)]
            if period not in periods or f"{zone}/{_RECORD}" not in root:
                continue
            top, left = min(unit.row for unit in units), min(unit.column for unit in units)
            bottom, right = max(unit.row for unit in units) + 1, max(unit.column for unit in units) + 1
            array: Any = root[f"{zone}/{_RECORD}"]
            texts = array[periods.index(period), top:bottom, left:right]
            for unit in units:
                if text := str(texts[unit.row - top, unit.column - left]):
                    found[unit, period] = json.loads(text)
        return found


def _moment(text: str) -> int:
    """Seconds since 1970 of one end of a period's name."""
    if "T" in text:
        day, clock = text.split("T")
        text = f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:]}"
    return int(np.datetime64(text, "s").astype("int64"))


def weights_of(attrs: Mapping[str, Any]) -> dict[str, str]:
    """What tells an embedding's weights from others: the file's hash, or the source of weights without a file.

    Examples
    --------
    >>> weights_of({"weights": "random (seed 0)", "weights_sha256": ""})
    {'weights': 'random (seed 0)'}
    """
    if sha256 := attrs.get("weights_sha256"):
        return {"weights_sha256": str(sha256)}
    return {"weights": str(attrs.get("weights", ""))}


def require_same(store: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to mix two recipes in one store.

    Raises
    ------
    StoreError
        With what differs.
    """
    differ = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if differ:
        raise StoreError(
            "The region's store was begun with other settings.",
            found=", ".join(f"{name} {now.get(name)}" for name in differ),
            expected=", ".join(f"{name} {was.get(name)}" for name in differ),
            remedy=f"the settings of {store}, or another store",
        )
