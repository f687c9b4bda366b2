"""Whole regions: units of work on a grid of zones, one store, growing in time."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xr_rsembed.regions.run import RegionRun, region
from xr_rsembed.regions.store import RegionStore
from xr_rsembed.regions.units import Status

__all__ = ["RegionRun", "Status", "open_region", "region", "region_status"]


def region_status(store: Any, *, storage_options: Any = None) -> Status:
    """How far a region is, from its store alone.

    Raises
    ------
    StoreNotFoundError
        If there is no region.
    """
    there = RegionStore(store, storage_options)
    return there.status(there.requested())


def open_region(store: Any, *, storage_options: Any = None) -> xr.DataTree:
    """A region as a DataTree with a group for each zone, lazily: a dask chunk is a unit, and time runs forward.

    Raises
    ------
    StoreNotFoundError
        If there is no region.
    """
    there = RegionStore(store, storage_options)
    there.settings()  # says that there is no region
    zones = {
        name: xr.open_zarr(
            there.target.store,
            group=name,
            consolidated=False,
            decode_coords="all",
            drop_variables="unit_record",
            chunks={"time": 1, "D": -1, "y": lattice.cells, "x": lattice.cells},
        ).sortby("time")
        for name, lattice in there.zones().items()
    }
    return xr.DataTree.from_dict(zones)
