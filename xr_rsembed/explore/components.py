"""Principal components of an embedding: fitted on a sample of cells, applied lazily, kept for other scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError, whole_number
from xr_rsembed.explore.cells import map_cells, sample_cells
from xr_rsembed.explore.once import Read, fit_once, note_pass
from xr_rsembed.explore.spaces import provenance, space_of


@dataclass(frozen=True)
class Components:
    """Principal components, as :func:`fit_pca` finds them.

    Parameters
    ----------
    mean : array, shape (D,), float32
    axes : array, shape (n, D), float32
        Directions of length 1, the one with the most variance first.
    explained_variance_ratio : array, shape (n,)
        Each one's share of the sample's variance.
    percentiles : array, shape (101, n), float32
        Of the sample's components, 0 to 100: what a picture makes dark and bright.
    space : mapping
        Of which model and settings the embedding was; only such embeddings can be transformed.
    """

    mean: np.ndarray = field(repr=False)
    axes: np.ndarray = field(repr=False)
    explained_variance_ratio: np.ndarray
    percentiles: np.ndarray = field(repr=False)
    space: Mapping[str, Any]

    def transform(self, emb: xr.DataArray) -> xr.DataArray:
        """Project an embedding, lazily where it is lazy.

        Returns
        -------
        DataArray, dims (..., component, y, x), float32
            ``component`` counts from 1; NaN in invalid cells.

        Raises
        ------
        MismatchError
            If the embedding is of another model or another setting than the fitted one.
        """
        scores = map_cells(emb, self.project, "component", len(self.axes), self.space, "A fitted PCA")
        return scores.assign_coords(
            component=np.arange(1, len(self.axes) + 1),
            explained_variance_ratio=("component", self.explained_variance_ratio),
        ).assign_attrs(provenance(emb), long_name="principal components")

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Components of plain vectors: (n, D) to (n, components)."""
        return vectors @ self.axes.T - self.mean @ self.axes.T  # no second copy of the vectors

    def colors(self, scores: np.ndarray, percent: tuple[float, float] = (2, 98)) -> np.ndarray:
        """Red, green, blue and opacity of components: (..., components) to (..., 4) in 0..1, clear where NaN.

        Parameters
        ----------
        scores : array
            As :meth:`project` gives them; the first three count, and a missing third is half bright.
        percent : (float, float)
            Percentiles of the fitted sample that are the darkest and the brightest.
        """
        count = min(3, scores.shape[-1])
        low, high = (
            [np.interp(p, np.arange(101), self.percentiles[:, n]) for n in range(count)] for p in percent
        )
        colours = np.full((*scores.shape[:-1], 4), 0.5, dtype="float32")
        scaled = (scores[..., :count] - low) / np.maximum(np.subtract(high, low), 1e-12)
        colours[..., 3] = np.isfinite(scaled).all(axis=-1)
        colours[..., :count] = np.clip(np.nan_to_num(scaled), 0, 1)
        return colours


def fit_pca(emb: xr.DataArray, n: int = 3, *, sample: int = 20_000, seed: int = 0) -> Components:
    """Find the principal components of an embedding; the arguments and errors are those of :func:`pca`.

    Of a lazy embedding only the blocks that the sample comes from are computed.

    Returns
    -------
    Components
        Its ``transform`` projects this embedding or another of the same model.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(4, 9, 9)) * np.array([9, 3, 1, 0.1]).reshape(4, 1, 1)
    >>> fitted = fit_pca(xr.DataArray(values, dims=("D", "y", "x")), n=2)
    >>> fitted.axes.shape, bool(abs(fitted.axes[0, 0]) > 0.99)
    ((2, 4), True)
    """
    note_pass(emb)
    return principal_components(emb, emb.isel, n, sample, seed)


def pca(
    emb: xr.DataArray, n: int = 3, *, fitted: Components | None = None, sample: int = 20_000, seed: int = 0
) -> xr.DataArray:
    """Principal components of an embedding, as maps.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    n : int
        Number of components.
    fitted : Components, optional
        Those of another scene, so that both are drawn in the same colours; ``n`` is theirs then.
    sample : int
        About how many valid cells to fit on.
    seed : int
        Which cells.

    Returns
    -------
    DataArray, dims (..., component, y, x), float32
        Lazy where the embedding is; NaN in invalid cells. Coord ``explained_variance_ratio`` along ``component``.

    Raises
    ------
    SceneError
        If no cell is valid.
    OptionError
        If there are fewer than ``n`` dimensions or sampled cells.
    MismatchError
        If ``fitted`` are those of another model or setting.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(4, 9, 12))
    >>> pca(xr.DataArray(values, dims=("D", "y", "x")), n=3).sizes
    Frozen({'component': 3, 'y': 9, 'x': 12})
    """
    found, emb = (fitted, emb) if fitted else fit_once(principal_components, emb, n, sample, seed)
    return found.transform(emb)


def principal_components(
    emb: xr.DataArray, read: Read, n: int, sample: int = 20_000, seed: int = 0
) -> Components:
    """What :func:`fit_pca` finds in cells that ``read``, such as ``emb.isel``, gives."""
    vectors = sample_cells(emb, sample, seed, read)
    if not 1 <= whole_number("n", n) <= min(vectors.shape):
        raise OptionError(
            f"There are not {n} principal components.",
            found=f"n={n}, {len(vectors)} sampled cells of D = {vectors.shape[1]}",
            expected=f"1 to {min(vectors.shape)}",
        )
    # By numpy, since importing scikit-learn takes longer than all the rest of a picture.
    mean = vectors.mean(axis=0, dtype="float64").astype("float32")
    vectors -= mean
    variance, directions = np.linalg.eigh((vectors.T @ vectors).astype("float64"))  # in ascending order
    total = np.einsum("nd,nd->", vectors, vectors)  # 0 of cells that are all alike
    ratio = variance[: -n - 1 : -1].clip(0) / (total or 1)
    axes = directions[:, : -n - 1 : -1].T
    largest = np.take_along_axis(axes, abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = (axes * np.sign(largest)).astype("float32")  # whose own sign is arbitrary
    percentiles = np.percentile(vectors @ axes.T, np.arange(101), axis=0).astype("float32")
    return Components(mean, axes, ratio, percentiles, space_of(emb))
