"""Principal components of an embedding: fitted on a sample of cells, applied lazily, kept for other scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError
from xr_rsembed.explore.cells import check_cells, map_cells, sample_cells, sklearn_or_error
from xr_rsembed.explore.spaces import check_same_space, provenance, space_of

__all__ = ["Components", "fit_pca", "pca"]


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
    space : mapping
        Of which model and settings the embedding was; only such embeddings can be transformed.
    """

    mean: np.ndarray = field(repr=False)
    axes: np.ndarray = field(repr=False)
    explained_variance_ratio: np.ndarray
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
        check_cells(emb)
        check_same_space(self.space, space_of(emb), "A fitted PCA")
        scores = map_cells(emb, self.project, "component", len(self.axes))
        return scores.assign_coords(
            component=np.arange(1, len(self.axes) + 1),
            explained_variance_ratio=("component", self.explained_variance_ratio),
        ).assign_attrs(provenance(emb), long_name="principal components")

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Components of plain vectors: (n, D) to (n, components)."""
        return (vectors - self.mean) @ self.axes.T


def fit_pca(emb: xr.DataArray, n: int = 3, *, sample: int = 20_000, seed: int = 0) -> Components:
    """Find the principal components of an embedding on a sample of its valid cells.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
        Of a lazy one only the blocks that the sample comes from are computed.
    n : int
        Number of components.
    sample : int
        About how many cells to fit on.
    seed : int
        Which cells.

    Returns
    -------
    Components

    Raises
    ------
    SceneError
        If no cell is valid.
    OptionError
        If there are fewer than ``n`` dimensions or sampled cells.
    MissingDependencyError
        Without scikit-learn.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(4, 9, 9)) * np.array([9, 3, 1, 0.1]).reshape(4, 1, 1)
    >>> fitted = fit_pca(xr.DataArray(values, dims=("D", "y", "x")), n=2)
    >>> fitted.axes.shape, bool(abs(fitted.axes[0, 0]) > 0.99)
    ((2, 4), True)
    """
    sklearn_or_error("pca")
    from sklearn.decomposition import PCA

    vectors = sample_cells(emb, sample, seed)
    if not 1 <= n <= min(vectors.shape):
        raise OptionError(
            f"There are not {n} principal components.",
            found=f"n={n}, {len(vectors)} sampled cells of D = {vectors.shape[1]}",
            expected=f"1 to {min(vectors.shape)}",
        )
    fitted = PCA(n, random_state=seed).fit(vectors)
    ratio = np.nan_to_num(fitted.explained_variance_ratio_)  # of cells that are all alike there is no share
    return Components(
        fitted.mean_.astype("float32"), fitted.components_.astype("float32"), ratio, space_of(emb)
    )


def pca(
    emb: xr.DataArray, n: int = 3, *, fitted: Components | None = None, sample: int = 20_000, seed: int = 0
) -> xr.DataArray:
    """Principal components of an embedding, as maps.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    n, sample, seed
        As for :func:`fit_pca`.
    fitted : Components, optional
        Those of another scene, so that both are drawn in the same colours; ``n`` is theirs then.

    Returns
    -------
    DataArray, dims (..., component, y, x), float32
        Lazy where the embedding is; NaN in invalid cells. Coord ``explained_variance_ratio`` along ``component``.

    Raises
    ------
    SceneError, OptionError, MismatchError, MissingDependencyError
        As :func:`fit_pca` and :meth:`Components.transform` do.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(4, 9, 12))
    >>> pca(xr.DataArray(values, dims=("D", "y", "x")), n=3).sizes
    Frozen({'component': 3, 'y': 9, 'x': 12})
    """
    return (fitted or fit_pca(emb, n, sample=sample, seed=seed)).transform(emb)
