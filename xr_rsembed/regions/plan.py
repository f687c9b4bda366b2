"""What a run would take, from the catalogue and a timed tile."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.errors import NoScenesError
from xr_rsembed.regions.store import period_span
from xr_rsembed.tiling import plan_axis

if TYPE_CHECKING:
    from xr_rsembed.regions.run import RegionRun


def plan_table(run: RegionRun, timed: bool) -> Any:
    """The table of :meth:`.run.RegionRun.plan`."""
    import pandas

    recipe, records = run.recipe, run.store.records(run.keys)
    seconds = _tile_seconds(run) if timed else float("nan")
    rows = []
    for unit, period in run.keys:
        lattice = run.zones[unit.zone]
        side = lattice.side + sum(recipe.margins)
        tiles = (
            len(plan_axis(side, recipe.overlap, size=recipe.spec.image_size).starts) * recipe.density
        ) ** 2
        try:
            scene = recipe.scene(lattice, unit, period_span(period))
            items = len(np.atleast_1d(scene.attrs.get("item_ids", [])))
            size = items * scene.sizes["band"] * side * side * scene.dtype.itemsize
        except NoScenesError:
            items = tiles = size = 0
        state = records.get((unit, period), {}).get("state", "left")
        rows.append((str(unit), period, unit.zone, items, tiles, size, tiles * seconds, state))
    columns = ["unit", "period", "zone", "scenes", "tiles", "bytes", "seconds", "state"]
    return pandas.DataFrame(rows, columns=columns)


def _tile_seconds(run: RegionRun) -> float:
    """Seconds a tile, measured on synthetic pixels."""
    recipe = run.recipe
    lattice = replace(next(iter(run.zones.values())), side=recipe.spec.image_size)
    example = recipe.example(lattice)
    example.compute()  # loads the model
    started = time.perf_counter()
    example.compute()
    return (time.perf_counter() - started) / recipe.density**2
