"""A picture of a region, as a pyramid in its store: three components, one palette for all zones and periods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.explore.components import Components, fit_pca
from xr_rsembed.regions.store import RegionStore, put_array, put_coords
from xr_rsembed.regions.units import Key, Lattice, Unit

GROUP = "preview"
_LEVELS = 5
_SAMPLE = 20_000


def write_preview(store: RegionStore) -> None:
    """Write ``preview/ZONE/LEVEL`` with an array ``rgba`` (time, band, y, x), uint8; each level halves the one before.

    Raises
    ------
    StoreError
        If nothing is embedded yet.
    """
    root: Any = store.root("a")
    done, periods = store.done(), store.periods()
    zones = {name: lattice for name, lattice in store.zones().items() if any(u.zone == name for u, _ in done)}
    sample = _sample(root, zones, done, periods)
    components = fit_pca(sample, 3)
    for zone, lattice in zones.items():
        units_of_zone = [(periods.index(period), unit) for unit, period in done if unit.zone == zone]
        arrays, embedding = _levels(root, lattice, len(periods)), root[f"{zone}/embedding"]
        for time, unit in units_of_zone:
            window = (time, slice(None), *lattice.window(unit))
            arrays[0][window] = _coloured(embedding[window], components)
        for level in range(1, len(arrays)):
            # A chunk of a level has as many cells as a unit.
            chunks = {
                (time, Unit(zone, unit.row >> level, unit.column >> level)) for time, unit in units_of_zone
            }
            for time, chunk in sorted(chunks):
                y, x = lattice.window(chunk)
                twice = [slice(2 * one.start, 2 * one.stop) for one in (y, x)]
                arrays[level][time, :, y, x] = _halved(arrays[level - 1][(time, slice(None), *twice)])


def _sample(
    root: Any, zones: Mapping[str, Lattice], done: Sequence[Key], periods: Sequence[str]
) -> xr.DataArray:
    """Vectors (D, 1, cells) of cells at random from at most a hundred units, of all zones alike."""
    rng = np.random.default_rng(0)
    chosen = [done[i] for i in sorted(rng.permutation(len(done))[:100])]
    vectors = []
    for unit, period in chosen:
        window = (periods.index(period), slice(None), *zones[unit.zone].window(unit))
        values = root[f"{unit.zone}/embedding"][window]
        flat = values.reshape(len(values), -1)
        flat = flat[:, np.isfinite(flat).all(0)]
        vectors.append(flat[:, rng.permutation(flat.shape[1])[: _SAMPLE // len(chosen) + 1]])
    cells = np.concatenate(vectors, axis=1)
    return xr.DataArray(cells[:, None], dims=("D", "y", "x"), coords={"D": np.arange(len(cells))})


def _coloured(values: np.ndarray, components: Components) -> np.ndarray:
    """(D, y, x) to (4, y, x) uint8, transparent where invalid."""
    colours = components.colors(components.project(np.moveaxis(values, 0, -1)))
    return np.moveaxis(np.rint(255 * colours).astype("uint8"), -1, 0)


def _halved(rgba: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 of the pixels that are not transparent."""
    padded = np.pad(rgba, ((0, 0), (0, rgba.shape[1] % 2), (0, rgba.shape[2] % 2))).astype("float32")
    blocks = padded.reshape(4, padded.shape[1] // 2, 2, padded.shape[2] // 2, 2)
    seen = blocks[3:] > 0
    count = seen.sum((2, 4))
    means = (blocks[:3] * seen).sum((2, 4)) / np.maximum(count, 1)
    return np.concatenate([np.rint(means), 255 * (count > 0)]).astype("uint8")


def _levels(root: Any, lattice: Lattice, times: int) -> list[Any]:
    """The arrays of a zone's pyramid, from fine to coarse, laid out anew."""
    grid, n = lattice.cell_geobox(), lattice.cells
    arrays, layout = [], []
    for level in range(_LEVELS):
        group = root.create_group(f"{GROUP}/{lattice.zone}/{level}", overwrite=True)
        put_coords(group, grid, time=root[lattice.zone]["time"][:])
        shape = grid.shape.yx
        arrays.append(
            put_array(
                group,
                "rgba",
                "time band y x",
                shape=(times, 4, *shape),
                dtype="uint8",
                chunks=(1, 4, *(min(n, size) for size in shape)),
                fill_value=0,
                attributes={"grid_mapping": "spatial_ref"},
            )
        )
        layout.append({"asset": str(level), "spatial:shape": list(shape), "resolution": abs(grid.affine.a)})
        if level:
            layout[-1] |= {"derived_from": str(level - 1), "resampling_method": "average"}
        half = -(-shape[0] // 2), -(-shape[1] // 2)
        grid = type(grid)(half, grid.affine * grid.affine.scale(2), grid.crs)
    root[f"{GROUP}/{lattice.zone}"].attrs["multiscales"] = {"layout": layout}
    return arrays
