"""What the explorer knows and answers: an embedding in memory, a clicked cell, drawn labels, and pictures of them.

Nothing here knows of pages or widgets. The embedding is computed once, straight into one array, and shared by all
pages; components, clusters and classes are those of the library.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import RsEmbedError, SceneError
from xr_rsembed.explore.cells import check_cells, named_as_bands, no_valid_cell
from xr_rsembed.explore.classes import fit_classifier
from xr_rsembed.explore.clusters import Clusters, fit_clusters
from xr_rsembed.explore.codes import NO_CLASS, flags_of, painted
from xr_rsembed.explore.components import Components, fit_pca
from xr_rsembed.explore.label_set import LabelSet
from xr_rsembed.explore.once import note_pass
from xr_rsembed.explore.polygons import cells_at
from xr_rsembed.georef import scene_geobox

VIEWS = ("PCA", "Clusters", "Similar", "Labels")

Legend = list[tuple[str, str, str]]  # colour, name, count
Picture = tuple[np.ndarray, Legend]  # RGBA bytes


class Vectors:
    """An embedding in memory, dims ([time,] D, y, x), with what is fitted on it; the same for every page.

    A lazy one is computed here, a block at a time. A SceneError where this is no grid of cells, or no cell is valid.

    Examples
    --------
    >>> vectors = Vectors(xr.DataArray(np.ones((3, 2, 4), "float32"), dims=("D", "y", "x")))
    >>> int(vectors.valid(0).sum())
    8
    """

    def __init__(self, embedding: Any) -> None:
        self.dim = _leading_dim(embedding)
        note_pass(embedding)
        self.emb: xr.DataArray = _in_memory(embedding.transpose(..., "D", "y", "x"))
        self.geobox = scene_geobox(embedding)
        self.norms = [
            np.sqrt(np.einsum("dyx,dyx->yx", one, one, dtype="float32"))
            for one in map(self._values, self.dates)
        ]
        if not any(self.valid(date).any() for date in self.dates):
            raise no_valid_cell()
        self._clusters: dict[int, Clusters] = {}

    @property
    def dates(self) -> range:
        return range(self.emb.sizes[self.dim] if self.dim else 1)

    def at(self, date: int) -> xr.DataArray:
        """The embedding at one index of its leading dim, dims (D, y, x)."""
        return self.emb.isel({self.dim: date}) if self.dim else self.emb

    def valid(self, date: int) -> np.ndarray:
        norm: np.ndarray = self.norms[date]
        return np.isfinite(norm) & (norm > 0)

    def similarity(self, cell: tuple[int, int], date: int) -> np.ndarray:
        """Cosine similarity of every cell (y, x) to one of them; NaN where a cell is not valid."""
        values, norm = self._values(date), self.norms[date]
        vector = values[(slice(None), *cell)].astype("float32")
        dots = np.tensordot(vector, values, axes=(0, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine: np.ndarray = np.clip(dots / (norm * norm[cell]), -1, 1)
        return cosine

    @cached_property
    def components(self) -> Components:
        return fit_pca(self.emb, min(3, self.emb.sizes["D"]))

    def clusters(self, k: int) -> Clusters:
        if k not in self._clusters:
            self._clusters[k] = fit_clusters(self.emb, k)
        return self._clusters[k]

    def _values(self, date: int) -> np.ndarray:
        return self.at(date).values


class Explorer:
    """The state of one page: which view is shown, and of each view its own settings."""

    def __init__(self, vectors: Vectors, *, clusters: int = 8) -> None:
        self.vectors = vectors
        self.view, self.date = VIEWS[0], 0
        self.k = clusters
        self.cell: tuple[int, int] | None = None  # whose likes are shown
        self.threshold, self.scale = -1.0, (0.0, 1.0)
        crs = vectors.geobox.crs
        self.labels = LabelSet(crs.proj if crs is not None else None)
        self.note = "Click a cell to see where else the scene looks like it."

    def locate(self, x: float, y: float) -> tuple[int, int] | None:
        """The valid cell (row, column) at a place; None where there is none."""
        row, column, inside = cells_at(x, y, self.vectors.geobox)
        return (int(row), int(column)) if inside and self.vectors.valid(self.date)[row, column] else None

    def find_like(self, x: float, y: float) -> None:
        """Show what is like the cell at a place, on a scale from the 2nd percentile to the highest value."""
        cell = self.locate(x, y)
        if cell is None:
            self.note = "No valid cell there."
            return
        self.view, self.cell = "Similar", cell
        values = self.vectors.similarity(cell, self.date)
        low = float(np.nanpercentile(values, 2))
        self.scale = (round(low, 2), 1.0)
        self.threshold = -1.0
        self.note = f"Like the cell in row {cell[0]}, column {cell[1]}."

    def draw(self, name: str, geometry: Any) -> None:
        """Add a label, a point or a polygon in the grid's CRS."""
        import shapely

        self.view = "Labels"
        grid = shapely.box(*self.vectors.geobox.extent.boundingbox.bbox)
        if not geometry.is_valid or not geometry.intersects(grid):
            self.note = "A label lies on the embedding, and its outline does not cross itself."
            return
        self.labels.add(name, geometry)
        self.note = f"{name}: {self.labels.counts()[name]} labels."

    def picture(self) -> Picture:
        """The view, dims (y, x, 4), clear where a cell is not valid; where it cannot be made the legend says why."""
        legend = self._label_counts() if self.view == "Labels" else []
        try:
            if self.view == "Similar" and self.cell is not None:
                return self._similar(self.cell)
            if self.view == "Clusters":
                found = self.vectors.clusters(self.k).predict(self.vectors.at(self.date))
                return self._coded(found.values, flags_of(found))
            if self.view != "Labels":
                return self._components()
            if len(legend) > 1:
                return self._classes(legend)
        except RsEmbedError as error:
            legend.append(("#ffffff", str(error).splitlines()[0], ""))
        blank = np.zeros((*self.vectors.geobox.shape, 4), dtype="uint8")
        return blank, legend or [("#ffffff", "no class yet", "")]

    def _components(self) -> Picture:
        components = self.vectors.components
        values = components.transform(self.vectors.at(self.date)).values
        share = f"{components.explained_variance_ratio.sum():.0%} of variance"
        legend = [("#888888", "components 1 to 3 as red, green, blue", share)]
        return _bytes(components.colors(np.moveaxis(values, 0, -1))), legend

    def _similar(self, cell: tuple[int, int]) -> Picture:
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        values = self.vectors.similarity(cell, self.date)
        low, high = self.scale
        colors = colormaps["magma"](np.clip((values - low) / max(high - low, 1e-6), 0, 1))
        shown = self.vectors.valid(self.date) & (np.nan_to_num(values, nan=-2.0) >= self.threshold)
        colors[..., 3] = shown
        steps = [
            (to_hex(colormaps["magma"](at)), f"cosine {low + at * (high - low):.2f}", "")
            for at in (1.0, 0.5, 0.0)
        ]
        total = int(self.vectors.valid(self.date).sum())
        return _bytes(colors), [*steps, ("#ffffff", "shown", f"{int(shown.sum())} of {total} cells")]

    def _label_counts(self) -> Legend:
        counts = self.labels.counts()
        colors = self.labels.colors.items()
        return [(color, name, f"{counts[name]} labels") for name, color in colors if counts[name]]

    def _classes(self, drawn: Legend) -> Picture:
        learned = fit_classifier(self.vectors.emb, self.labels.frame(), cross_validate=False)
        codes = learned.predict(self.vectors.at(self.date))["class"].values
        flags = {code: (name, self.labels.colors[name]) for code, name in enumerate(learned.classes)}
        picture, legend = self._coded(codes, flags)
        cells = {name: count for _, name, count in legend}
        return picture, [(c, name, f"{n}, {cells.get(name, '0 cells')}") for c, name, n in drawn]

    def _coded(self, codes: np.ndarray, flags: dict[int, tuple[str, str]]) -> Picture:
        counts = np.bincount(codes[codes != NO_CLASS], minlength=len(flags))
        legend = [(color, name, f"{counts[code]} cells") for code, (name, color) in flags.items()]
        return _bytes(painted(codes, {code: color for code, (_, color) in flags.items()})), legend


def _bytes(colors: np.ndarray) -> np.ndarray:
    return (colors * 255).round().astype("uint8")


def _leading_dim(emb: xr.DataArray) -> Hashable | None:
    """The dim before D, y and x; a SceneError where there are several, or where this is a scene."""
    check_cells(emb)
    if named_as_bands(emb):
        raise SceneError(
            "The explorer shows embeddings, and this is a scene.",
            found=f"bands {', '.join(map(str, np.ravel(emb.attrs['long_name'])))}",
            expected="vectors (D, y, x)",
            remedy="embed it first; the scene goes beside its embedding (scene=)",
        )
    others = [dim for dim in emb.dims if dim not in ("D", "y", "x")]
    unlike = [dim for dim in others if dim in ("layer", "modality")]  # vectors of several spaces are no dates
    if len(others) > 1 or unlike:
        raise SceneError(
            "The explorer shows grids of cells.",
            found=f"dims {emb.dims}",
            expected="dims (D, y, x), or with time before them",
            remedy=f"choose one first, such as emb.isel({(unlike or others)[0]}=0)",
        )
    return others[0] if others else None


def _in_memory(embedding: xr.DataArray) -> xr.DataArray:
    """The values in one array; blocks are put where they belong as they come, so that none lies in memory twice."""
    import dask.array
    import dask.threaded
    from dask.base import get_scheduler

    if embedding.chunks is None or get_scheduler() not in (None, dask.threaded.get, dask.local.get_sync):
        return embedding.compute()  # other processes cannot put blocks here
    values = np.empty(embedding.shape, embedding.dtype)
    # A store's reader has threads of its own: blocks read side by side would take more memory and no less time.
    stored: dict[str, Any] = {"num_workers": 1} if "preferred_chunks" in embedding.encoding else {}
    dask.array.store(embedding.data, values, lock=False, **stored)
    return embedding.copy(data=values)
