"""The region's store: a group for each zone, one record for each unit and period, and the settings that it holds to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from xr_rsembed.errors import StoreError, StoreNotFoundError
from xr_rsembed.georef import geobox_coords
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.regions.work import Recipe
from xr_rsembed.specs import TemporalSpec
from xr_rsembed.store.conventions import group_attrs, plain

__all__ = ["ATTR", "Ledger", "period_name"]

ATTR = "rsembed_region"
_RECORDS = (
    "rsembed_units"  # below it no metadata of its own, so that a DataTree of the store shows zones only
)
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

    def _root(self, mode: Any = "r") -> zarr.Group:
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
            found = self._root().attrs.get(ATTR)
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

    def begin(self, recipe: Recipe, zones: Mapping[str, Lattice], request: dict[str, Any], grid: str) -> None:
        """Create what is missing: the store, its zones, the periods of the request; refuse other settings."""
        described = {**recipe.described(), "grid": grid}
        root = self._root("a")
        known: Any = root.attrs.get(ATTR)
        if known:
            require_same(str(self.store), known["recipe"], plain(described))
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

    def _zone(self, recipe: Recipe, lattice: Lattice, periods: Sequence[str]) -> None:
        """The arrays of one zone; a time axis that is as long as the list of periods."""
        root = self._root("a")
        if f"{lattice.zone}/embedding" not in root:
            self._create(recipe, lattice)
        group: Any = root[lattice.zone]
        starts, ends = (
            np.array([_moment(period.split("_")[end]) for period in periods], "int64") for end in (0, 1)
        )
        if group["embedding"].shape[0] == len(periods) and np.array_equal(group["time"][:], starts):
            return
        for name, values in (("time", starts), ("time_end", ends)):
            group[name].resize((len(periods),))
            group[name][:] = values
        group["embedding"].resize((len(periods), *group["embedding"].shape[1:]))

    def _create(self, recipe: Recipe, lattice: Lattice) -> None:
        example = recipe.example(lattice)
        grid = lattice.cell_geobox()
        placed = example.isel(y=slice(0, 2), x=slice(0, 2)).assign_coords(
            {name: coord[:2] if name in ("y", "x") else coord for name, coord in geobox_coords(grid).items()}
        )
        attrs = group_attrs(placed, dtype="float32") | {"spatial:shape": list(grid.shape.yx)}
        attrs["spatial:bbox"] = [float(edge) for edge in grid.boundingbox.bbox]
        group = self._root("a").require_group(lattice.zone)
        group.attrs.update(attrs)
        coords: dict[str, Any] = geobox_coords(grid)
        days = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        for name in ("y", "x"):
            values = np.asarray(coords[name])
            array = group.create_array(
                name,
                shape=values.shape,
                dtype="float64",
                chunks=values.shape,
                dimension_names=(name,),
                overwrite=True,
            )
            array[:] = values
            array.attrs.update(plain(getattr(coords[name], "attrs", {})))
        for name in ("time", "time_end"):
            group.create_array(
                name,
                shape=(0,),
                dtype="int64",
                chunks=(512,),
                dimension_names=("time",),
                attributes=days,
                overwrite=True,
            )
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
            "embedding",
            shape=(0, size, *grid.shape.yx),
            dtype=example.dtype,
            chunks=(1, size, inner, inner),
            shards=(1, size, lattice.cells, lattice.cells),
            fill_value=np.nan,
            dimension_names=("time", "D", "y", "x"),
            attributes=plain({**said, "grid_mapping": "spatial_ref", "coordinates": "time_end"}),
            overwrite=True,
        )

    def write(
        self, lattice: Lattice, unit: Unit, period: str, values: np.ndarray, said: Mapping[str, Any]
    ) -> None:
        """Write a unit's cells as one shard, then its record; without a valid cell only the record."""
        valid = int(np.isfinite(values).any(axis=0).sum())
        if valid:
            array: Any = self._root("r+")[f"{unit.zone}/embedding"]
            time = self._periods().index(period)
            y, x = unit.row * lattice.cells, unit.column * lattice.cells
            array[time : time + 1, :, y : y + lattice.cells, x : x + lattice.cells] = values[None]
        state = "done" if valid else "empty"
        self.record(unit, period, {"state": state, "valid_cells": valid, **said})

    def _periods(self) -> list[str]:
        requests = self.settings()["requests"]
        return list(dict.fromkeys(period for one in requests for period in one["periods"]))

    def record(self, unit: Unit, period: str, content: Mapping[str, Any]) -> None:
        """Say what became of a unit: one object, whole or not at all."""
        zarr.create_group(
            self.store,
            path=f"{_RECORDS}/{period}/{unit}",
            attributes=dict(content),
            overwrite=True,
            storage_options=dict(self.storage_options or {}) or None,
        )

    def records(self, wanted: Sequence[tuple[Unit, str]]) -> dict[tuple[Unit, str], dict[str, Any]]:
        """The records that are there."""

        def read(key: tuple[Unit, str]) -> dict[str, Any] | None:
            try:
                group = zarr.open_group(
                    self.store,
                    path=f"{_RECORDS}/{key[1]}/{key[0]}",
                    mode="r",
                    storage_options=dict(self.storage_options or {}) or None,
                )
            except FileNotFoundError:
                return None
            return dict(group.attrs)

        with ThreadPoolExecutor(8) as pool:
            found = zip(wanted, pool.map(read, wanted), strict=True)
            return {key: content for key, content in found if content}


def _moment(text: str) -> int:
    """Seconds since 1970 of one end of a period's name."""
    if "T" in text:
        day, clock = text.split("T")
        text = f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:]}"
    return int(np.datetime64(text, "s").astype("int64"))


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
