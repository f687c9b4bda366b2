"""What encoders take besides pixels: when and where tiles were seen, and the seeds of generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, OptionError, SceneError
from xr_rsembed.georef import scene_geobox
from xr_rsembed.models.encoder import Context
from xr_rsembed.tiling import Block, Tile

_KNOWN = ("time", "place", "resolution")
_METRES_PER_DEGREE = 111_320.0  # of latitude


@dataclass(frozen=True)
class Origin:
    """What the dates and places of tiles follow from; small, picklable, the same for all blocks."""

    needs: tuple[str, ...]
    time: np.ndarray  # datetime64[s] over the scene's leading dims, NaT where it is not needed
    crs: str  # in WKT; empty where it is not needed
    affine: tuple[float, ...]  # six numbers, from pixels to the CRS

    def context(self, block: Block, tiles: Sequence[Tile], size: int) -> Context:
        """The context of some tiles of a block, as images of ``size`` pixels."""
        nothing = np.full(len(tiles), np.nan)
        latitude, longitude, resolution = nothing, nothing, float("nan")
        if self.crs:
            rows = np.array([block.y.starts[i] + block.y.size / 2 for _, i, _ in tiles])
            columns = np.array([block.x.starts[j] + block.x.size / 2 for _, _, j in tiles])
            a, b, c, d, e, f = self.affine
            if "place" in self.needs:
                longitude, latitude = _to_degrees(self.crs).transform(
                    a * columns + b * rows + c, d * columns + e * rows + f
                )
            if "resolution" in self.needs:
                crs = _to_degrees(self.crs).source_crs
                unit = _METRES_PER_DEGREE if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
                resolution = abs(e) * unit * block.y.size / size
        return Context(
            self.time[block.leading].reshape(-1)[[n for n, _, _ in tiles]], latitude, longitude, resolution
        )


@dataclass(frozen=True)
class Seeds:
    """What the seeds of tiles follow from: the user's seed, and the row and column of the scene's first pixel."""

    seed: int
    row: int
    column: int

    def context(self, block: Block, tiles: Sequence[Tile], size: int) -> list[int]:
        """The seed of each tile."""
        return [
            tile_seed(self.seed, self.row + block.y.starts[i], self.column + block.x.starts[j])
            for _, i, j in tiles
        ]


def tile_seed(seed: int, row: int, column: int) -> int:
    """The seed of a tile's noise, from the user's seed and the tile's place on the map's pixel lattice.

    Examples
    --------
    >>> tile_seed(0, 0, 160) == tile_seed(0, 0, 160), tile_seed(0, 0, 160) == tile_seed(0, 160, 0)
    (True, False)
    """
    words = [number % 2**64 for number in (seed, row, column)]
    # terratorch adds the number of each step to it, and torch takes no more than 64 bits.
    return int(np.random.SeedSequence(words).generate_state(1)[0])


@cache
def _to_degrees(crs: str) -> Any:
    """To longitude and latitude; made once a process, for it takes longer than a batch of points."""
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def origin_of(scene: xr.DataArray, needs: Sequence[str], model: str) -> Origin | None:
    """The origin of a scene's tiles, None for a model that needs nothing of it; refuses scenes that do not say it."""
    if unknown := set(needs) - set(_KNOWN):
        raise OptionError(
            f"{model} asks for what no scene says.", found=sorted(unknown), expected=", ".join(_KNOWN)
        )
    if not needs:
        return None
    grid = scene_geobox(scene)
    located = {"place", "resolution"} & set(needs)
    if located and grid.crs is None:
        raise GridError(
            f"{model} takes the {' and '.join(sorted(located))} of the scene, which has no CRS.",
            found="no CRS",
            expected="a georeferenced scene",
            remedy='da.rio.write_crs("EPSG:32632")',
        )
    sizes = tuple(scene.sizes[dim] for dim in scene.dims[:-3])
    time = _times(scene, model) if "time" in needs else np.full(sizes, np.datetime64("NaT", "s"))
    crs = grid.crs.to_wkt() if located and grid.crs is not None else ""
    return Origin(tuple(needs), time, crs, tuple(grid.affine)[:6])


def _times(scene: xr.DataArray, model: str) -> np.ndarray:
    """The date of each index of the leading dims."""
    leading = scene.dims[:-3]
    time = scene.coords.get("time")
    if (
        time is not None
        and set(time.dims) <= set(leading)
        and time.dtype.kind == "M"
        and not time.isnull().any()
    ):
        along = time.variable.set_dims({dim: scene.sizes[dim] for dim in leading})
        return np.asarray(along.values.astype("datetime64[s]"))
    span = [str(scene.attrs[name]) for name in ("time_start", "time_end") if name in scene.attrs]
    start, end = map(datetime.fromisoformat, span if len(span) == 2 else ("2022-07-01", "2022-07-01"))
    raise SceneError(
        f"{model} takes the date of the scene, which does not say one.",
        found=("no coord time" if time is None else f"time of dtype {time.dtype} along {time.dims}")
        + (f"; pixels from {span[0]} to {span[1]}" if span else ""),
        expected="a coord time of datetime64, one for each date or one for the scene",
        remedy=f'da.assign_coords(time=np.datetime64("{start + (end - start) / 2:%Y-%m-%d}"))',
    )
