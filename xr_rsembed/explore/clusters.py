"""Clusters of an embedding: k-means by direction, fitted on a sample of cells, applied lazily."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError, whole_number
from xr_rsembed.explore.cells import map_cells, sample_cells, unit
from xr_rsembed.explore.codes import as_codes
from xr_rsembed.explore.once import Read, fit_once, note_pass
from xr_rsembed.explore.spaces import provenance, space_of
from xr_rsembed.extras import require


@dataclass(frozen=True)
class Clusters:
    """Cluster centres, as :func:`fit_clusters` finds them.

    Parameters
    ----------
    centres : array, shape (k, D), float32
        Means of vectors of length 1; the cluster with the most sampled cells first.
    shares : array, shape (k,)
        Each one's share of the sample.
    space : mapping
        Of which model and settings the embedding was; only such embeddings can be mapped.
    """

    centres: np.ndarray = field(repr=False)
    shares: np.ndarray
    space: Mapping[str, Any]

    def predict(self, emb: xr.DataArray) -> xr.DataArray:
        """Which cluster every cell is nearest to, lazily where the embedding is lazy.

        Returns
        -------
        DataArray, dims (..., y, x), int16
            0 to k - 1, and -1 in invalid cells.

        Raises
        ------
        MismatchError
            If the embedding is of another model or another setting than the fitted one.
        """
        numbers = map_cells(emb, self._numbers, "number", 1, self.space, "A fitted clustering").isel(number=0)
        codes = as_codes(numbers, [f"cluster_{i}" for i in range(len(self.centres))])
        return codes.rename("cluster").assign_attrs(provenance(emb), long_name="cluster")

    def _numbers(self, vectors: np.ndarray) -> np.ndarray:
        # The nearest centre: |v - c|^2 without the |v|^2 that all centres share.
        distance = (self.centres**2).sum(axis=1) - 2 * unit(np.ascontiguousarray(vectors)) @ self.centres.T
        return distance.argmin(axis=1)[:, None]


def fit_clusters(emb: xr.DataArray, k: int = 8, *, sample: int = 20_000, seed: int = 0) -> Clusters:
    """Find clusters of an embedding; the arguments and errors are those of :func:`cluster`.

    Of a lazy embedding only the blocks that the sample comes from are computed.

    Returns
    -------
    Clusters
        Its ``predict`` maps this embedding or another of the same model.
    """
    note_pass(emb)
    return _fit(emb, emb.isel, k, sample, seed)


def cluster(
    emb: xr.DataArray, k: int = 8, *, fitted: Clusters | None = None, sample: int = 20_000, seed: int = 0
) -> xr.DataArray:
    """A map of clusters: cells that point the same way, by k-means on vectors of length 1.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
    k : int
        Number of clusters.
    fitted : Clusters, optional
        Those of another scene, so that numbers mean the same on both; ``k`` is theirs then.
    sample : int
        About how many valid cells to fit on.
    seed : int
        Which cells, and where k-means begins.

    Returns
    -------
    DataArray, dims (..., y, x), int16
        0 to k - 1, the largest cluster first, and -1 (``_FillValue``) in invalid cells, with CF's ``flag_values`` and
        ``flag_meanings``. Lazy where the embedding is.

    Raises
    ------
    SceneError
        If no cell is valid.
    OptionError
        If there are fewer than ``k`` different cells in the sample.
    MismatchError
        If ``fitted`` are those of another model or setting.
    MissingDependencyError
        Without scikit-learn.

    Examples
    --------
    >>> values = np.repeat(np.eye(2), [4, 8], axis=0).T.reshape(2, 3, 4)
    >>> cluster(xr.DataArray(values, dims=("D", "y", "x")), k=2).values
    array([[1, 1, 1, 1],
           [0, 0, 0, 0],
           [0, 0, 0, 0]], dtype=int16)
    """
    found, emb = (fitted, emb) if fitted else fit_once(_fit, emb, k, sample, seed)
    return found.predict(emb)


def _fit(emb: xr.DataArray, read: Read, k: int, sample: int, seed: int) -> Clusters:
    require("sklearn", "cluster()")
    from sklearn.cluster import KMeans

    vectors = unit(sample_cells(emb, sample, seed, read))
    different = len(np.unique(vectors, axis=0))
    if not 1 <= whole_number("k", k) <= min(different, np.iinfo("int16").max):
        raise OptionError(
            f"The cells cannot form {k} clusters.",
            found=f"k={k}, {different} different cells in the sample",
            expected=f"1 to {different}",
        )
    fitted = KMeans(k, n_init=3, random_state=seed).fit(vectors)
    sizes = np.bincount(fitted.labels_, minlength=k)
    order = np.argsort(-sizes, kind="stable")
    return Clusters(
        fitted.cluster_centers_[order].astype("float32"), sizes[order] / len(vectors), space_of(emb)
    )
