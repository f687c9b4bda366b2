"""A picture of a region, as a pyramid in its store: three components, one palette for all zones and periods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import SceneError
from xr_rsembed.explore.components import fit_pca
from xr_rsembed.georef import geobox_coords
from xr_rsembed.regions.ledger import Ledger
from xr_rsembed.regions.units import Lattice, Unit
from xr_rsembed.store.conventions import plain

__all__ = ["GROUP", "write_preview"]

GROUP = "preview"
_LEVELS = 5
_SAMPLE = 20_000
Key = tuple[Unit, str]


def write_preview(
    ledger: Ledger, lattices: dict[str, Lattice], done: Sequence[Key], periods: Sequence[str]
) -> None:
    """Write ``preview/ZONE/LEVEL`` with an array ``rgba`` (time, band, y, x), uint8; each level halves the one before.

    Parameters
    ----------
    done : sequence of (Unit, str)
        The units that have cells.
    periods : sequence of str
        Of the store's time axis.
    """
    if not done:
        raise SceneError("There is nothing to draw yet.", found="no embedded unit", remedy="run.run() first")
    root: Any = ledger.root("a")
    components = fit_pca(_sample(root, lattices, done, periods), 3)
    low, high = (
        np.quantile(components.project(_sample(root, lattices, done, periods).values[:, 0].T), share, axis=0)
        for share in (0.02, 0.98)
    )
    for zone, lattice in lattices.items():
        own = [key for key in done if key[0].zone == zone]
        if not own:
            continue
        arrays = _levels(root, lattice, len(periods))
        for unit, period in own:
            time = periods.index(period)
            window = _window(unit, lattice)
            values = root[zone]["embedding"][(time, slice(None), *window)]
            arrays[0][(time, slice(None), *window)] = _coloured(values, components, low, high)
        for level in range(1, len(arrays)):
            fine, coarse = arrays[level - 1], arrays[level]
            for time, window in _touched(own, periods, lattice, level):
                twice = tuple(slice(2 * one.start, 2 * one.stop) for one in window)
                coarse[(time, slice(None), *window)] = _halved(fine[(time, slice(None), *twice)])


def _window(unit: Unit, lattice: Lattice) -> tuple[slice, slice]:
    n = lattice.cells
    return slice(unit.row * n, (unit.row + 1) * n), slice(unit.column * n, (unit.column + 1) * n)


def _sample(
    root: Any, lattices: dict[str, Lattice], done: Sequence[Key], periods: Sequence[str]
) -> xr.DataArray:
    """Vectors (D, 1, cells) of cells at random from at most a hundred units, of all zones alike."""
    rng = np.random.default_rng(0)
    chosen = [done[i] for i in sorted(rng.permutation(len(done))[:100])]
    vectors = []
    for unit, period in chosen:
        values = root[unit.zone]["embedding"][
            (periods.index(period), slice(None), *_window(unit, lattices[unit.zone]))
        ]
        flat = values.reshape(len(values), -1)
        flat = flat[:, np.isfinite(flat).all(0)]
        vectors.append(flat[:, rng.permutation(flat.shape[1])[: _SAMPLE // len(chosen) + 1]])
    cells = np.concatenate(vectors, axis=1)
    return xr.DataArray(cells[:, None], dims=("D", "y", "x"), coords={"D": np.arange(len(cells))})


def _coloured(values: np.ndarray, components: Any, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(D, y, x) to (4, y, x) uint8, transparent where invalid."""
    valid = np.isfinite(values).all(0)
    scores = components.project(np.where(valid, values, 0).reshape(len(values), -1).T)
    shares = np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, 1).T.reshape(3, *valid.shape)
    colours = np.concatenate([np.rint(255 * shares), 255.0 * valid[None]])
    return np.where(valid, colours, 0).astype("uint8")


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
    grid = lattice.cell_geobox()
    arrays, layout = [], []
    for level in range(_LEVELS):
        group = root.create_group(f"{GROUP}/{lattice.zone}/{level}", overwrite=True)
        coords: dict[str, Any] = geobox_coords(grid)
        for name in ("y", "x"):
            values = np.asarray(coords[name])
            group.create_array(name, shape=values.shape, dtype="float64", dimension_names=(name,))[:] = values
        group.create_array(
            "spatial_ref", shape=(), dtype="int64", attributes=plain(coords["spatial_ref"].attrs)
        )
        times_of = root[lattice.zone]["time"]
        group.create_array(
            "time", shape=(times,), dtype="int64", dimension_names=("time",), attributes=dict(times_of.attrs)
        )[:] = times_of[:]
        arrays.append(
            group.create_array(
                "rgba",
                shape=(times, 4, *grid.shape.yx),
                dtype="uint8",
                chunks=(1, 4, *(min(lattice.cells, size) for size in grid.shape.yx)),
                fill_value=0,
                dimension_names=("time", "band", "y", "x"),
                attributes={"grid_mapping": "spatial_ref"},
            )
        )
        layout.append(
            {"asset": str(level), "spatial:shape": list(grid.shape.yx), "resolution": abs(grid.affine.a)}
        )
        if level:
            layout[-1] |= {"derived_from": str(level - 1), "resampling_method": "average"}
        height, width = grid.shape.yx
        grid = type(grid)((-(-height // 2), -(-width // 2)), grid.affine * grid.affine.scale(2), grid.crs)
    root[f"{GROUP}/{lattice.zone}"].attrs["multiscales"] = {"layout": layout}
    return arrays


def _touched(
    done: Sequence[Key], periods: Sequence[str], lattice: Lattice, level: int
) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Chunks of a level that have a unit below them, as windows that end with the array's chunks."""
    n, side = lattice.cells, 2**level
    chunks = {(periods.index(period), unit.row // side, unit.column // side) for unit, period in done}
    for time, row, column in sorted(chunks):
        yield time, (slice(row * n, (row + 1) * n), slice(column * n, (column + 1) * n))
