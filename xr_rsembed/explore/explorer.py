"""What the explorer knows and answers: the cells of an embedding, a clicked cell, labels, and colours for them.

All cells are held in memory as unit vectors, so an answer is one matrix product: a full Sentinel-2 granule of TerraMind
tiny (470 000 cells, D 192) takes 360 MB. Nothing here knows of pages or widgets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import SceneError
from xr_rsembed.georef import scene_geobox

__all__ = ["COLOURS", "VIEWS", "Cells", "Explorer", "read_cells"]

VIEWS = ("PCA", "Clusters", "Similar", "Labels")
# Okabe and Ito's colours: told apart with any kind of colour vision.
COLOURS = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (120, 120, 120),
        (160, 60, 160),
        (90, 50, 20),
    ],
    dtype="uint8",
)


@dataclass(frozen=True)
class Cells:
    """The valid cells of an embedding, ready to be compared.

    Parameters
    ----------
    units : array, shape (cell, D), float32
        Vectors of length 1.
    where : int array, shape (cell,)
        Their flat positions in the grid, ascending.
    x, y : array
        Cell centres.
    """

    units: np.ndarray
    where: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.y), len(self.x)

    def at(self, x: float, y: float) -> int | None:
        """Which cell lies at a place; None outside the grid or where the cell is not valid."""
        half_x, half_y = (abs(axis[-1] - axis[0]) / max(len(axis) - 1, 1) / 2 for axis in (self.x, self.y))
        column, row = int(np.abs(self.x - x).argmin()), int(np.abs(self.y - y).argmin())
        if abs(self.x[column] - x) > half_x or abs(self.y[row] - y) > half_y:
            return None
        flat = row * len(self.x) + column
        found = int(np.searchsorted(self.where, flat))
        return found if found < len(self.where) and self.where[found] == flat else None

    def similarity(self, cell: int) -> np.ndarray:
        """Cosine similarity of every cell to one of them."""
        return self.units @ self.units[cell]

    def classes(self, labels: Mapping[str, list[int]]) -> np.ndarray:
        """For every cell, the number of the class whose labelled cells it resembles most."""
        means = np.stack([self.units[cells].mean(axis=0) for cells in labels.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return (self.units @ means.T).argmax(axis=1)

    def picture(self, colours: np.ndarray) -> np.ndarray:
        """Colours (cell, 3) as an RGBA picture of the grid, south at the bottom, clear where a cell is not valid."""
        flat = np.zeros((self.shape[0] * self.shape[1], 4), dtype="uint8")
        flat[self.where, :3] = colours
        flat[self.where, 3] = 255
        picture = flat.reshape(*self.shape, 4)
        picture = picture[::-1] if self.y[0] > self.y[-1] else picture
        picture = picture[:, ::-1] if self.x[0] > self.x[-1] else picture
        return np.ascontiguousarray(picture)


def read_cells(embedding: xr.DataArray | xr.Dataset) -> Cells:
    """Read the cells of a grid embedding, a block at a time.

    Parameters
    ----------
    embedding : DataArray, dims (D, y, x)

    Raises
    ------
    SceneError
        If the embedding is no grid of cells, or has no valid one.

    Examples
    --------
    >>> emb = xr.DataArray(np.ones((3, 2, 4), "float32"), dims=("D", "y", "x"))
    >>> read_cells(emb).units.shape
    (8, 3)
    """
    if not isinstance(embedding, xr.DataArray):
        raise SceneError(
            "The explorer shows one embedding.",
            found=f"{type(embedding).__name__} of {', '.join(map(str, embedding))}",
            expected="a DataArray",
            remedy="choose one first, such as ds.embedding",
        )
    if set(embedding.dims) != {"D", "y", "x"}:
        raise SceneError(
            "The explorer shows one grid of cells.",
            found=f"dims {tuple(embedding.dims)}",
            expected="dims (D, y, x)",
            remedy="choose one first, such as emb.isel(time=0)",
        )
    values = embedding.transpose("y", "x", "D")
    step = max(1, int(2e7 // (values.sizes["x"] * values.sizes["D"])))
    parts, places = [], []
    for row in range(0, values.sizes["y"], step):
        part = np.asarray(values[row : row + step], dtype="float32").reshape(-1, values.sizes["D"])
        valid = np.isfinite(part).all(axis=1)
        part = part[valid]
        parts.append(part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12))
        places.append(np.flatnonzero(valid) + row * values.sizes["x"])
    units = np.concatenate(parts)
    if not len(units):
        raise SceneError("The embedding has no valid cell.", found="NaN throughout", expected="finite cells")
    scene_geobox(embedding)  # a grid with gaps would be drawn in the wrong places
    x, y = (
        np.asarray(embedding[dim], dtype="float64")
        if dim in embedding.coords
        else np.arange(embedding.sizes[dim], dtype="float64")
        for dim in ("x", "y")
    )
    return Cells(units, np.concatenate(places), x, y)


class Explorer:
    """The state of one explorer page: which view is shown, which cell was clicked, which labels there are."""

    def __init__(self, embedding: xr.DataArray | xr.Dataset, *, clusters: int = 8) -> None:
        self.cells = read_cells(embedding)
        self.attrs = dict(embedding.attrs)
        self.labels: dict[str, list[int]] = {}
        self.clicked: int | None = None
        self._clusters = clusters
        self._pictures: dict[str, np.ndarray] = {}

    def colours(self, view: str) -> np.ndarray:
        """The colours of all cells in a view, shape (cell, 3), uint8."""
        if view == "Similar" and self.clicked is not None:
            return _heat(self.cells.similarity(self.clicked))
        if view == "Labels" and self.labels:
            return COLOURS[self.cells.classes(self.labels) % len(COLOURS)]
        if view == "Clusters":
            return self._kept("Clusters", self._cluster_colours)
        return self._kept("PCA", self._component_colours)

    def click(self, view: str, x: float, y: float, name: str = "class 1") -> str:
        """Take a click; say what it did."""
        cell = self.cells.at(x, y)
        if cell is None:
            return "No valid cell there."
        self.clicked = cell
        place = f"cell at x {x:.0f}, y {y:.0f}"
        if view == "Labels":
            self.labels.setdefault(name, []).append(cell)
            return f"**{name}**: {place}. {sum(map(len, self.labels.values()))} labels."
        close = int((self.cells.similarity(cell) > 0.9).sum())
        return f"Like the {place}: {close} of {len(self.cells.where)} cells above a cosine of 0.9."

    def geojson(self) -> str:
        """The labels as GeoJSON points in the embedding's own CRS."""
        features = [
            {
                "type": "Feature",
                "properties": {"class": name},
                "geometry": {"type": "Point", "coordinates": list(self.place(cell))},
            }
            for name, cells in self.labels.items()
            for cell in cells
        ]
        return json.dumps({"type": "FeatureCollection", "features": features})

    def place(self, cell: int) -> tuple[float, float]:
        row, column = divmod(int(self.cells.where[cell]), len(self.cells.x))
        return float(self.cells.x[column]), float(self.cells.y[row])

    def _kept(self, name: str, make: Any) -> np.ndarray:
        if name not in self._pictures:
            self._pictures[name] = make()
        return self._pictures[name]

    def _component_colours(self) -> np.ndarray:
        from sklearn.decomposition import PCA

        count = min(3, *self.cells.units.shape)
        scores = PCA(count, random_state=0).fit(self._sample()).transform(self.cells.units)
        low, high = np.percentile(scores, (2, 98), axis=0)
        scaled = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
        scaled = np.pad(scaled, ((0, 0), (0, 3 - count)), constant_values=0.5)
        return (scaled * 255).astype("uint8")

    def _cluster_colours(self) -> np.ndarray:
        from sklearn.cluster import KMeans

        sample = self._sample()
        means = KMeans(min(self._clusters, len(sample)), n_init=1, random_state=0).fit(sample)
        return COLOURS[means.predict(self.cells.units) % len(COLOURS)]

    def _sample(self, size: int = 20_000) -> np.ndarray:
        units = self.cells.units
        if len(units) <= size:
            return units
        return units[np.random.default_rng(0).choice(len(units), size, replace=False)]


def _heat(values: np.ndarray) -> np.ndarray:
    """Similarities as colours: magma from the 2nd percentile to the highest."""
    from matplotlib import colormaps

    low, high = np.percentile(values, 2), values.max()
    scaled = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    return (colormaps["magma"](scaled)[:, :3] * 255).astype("uint8")
