"""From labels with known values to a map of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError
from xr_rsembed.explore.cells import map_cells
from xr_rsembed.explore.labels import labelled_cells
from xr_rsembed.explore.learn import Method, check_method, fitted, score_values
from xr_rsembed.explore.once import Read, fit_once, note_pass
from xr_rsembed.explore.spaces import provenance, space_of


@dataclass(frozen=True)
class Regressor:
    """What was learned of values, as :func:`fit_regressor` finds it.

    Parameters
    ----------
    column : str
        What the values are.
    estimator : scikit-learn estimator
    scores : mapping
        Of the spatially blocked cross-validation, as :func:`regress` lists them; empty where there was none.
    space : mapping
        Of which model and settings the embedding was; only such embeddings can be mapped.
    """

    column: str
    estimator: Any = field(repr=False)
    scores: Mapping[str, Any]
    space: Mapping[str, Any] = field(repr=False)

    def predict(self, emb: xr.DataArray) -> xr.DataArray:
        """The map of values of an embedding, lazily where it is lazy.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            Named ``column``; NaN in invalid cells.

        Raises
        ------
        MismatchError
            If the embedding is of another model or another setting than the one learned from.
        """
        values = map_cells(emb, self._values, "value", 1, self.space, "A fitted regressor").isel(value=0)
        return values.rename(self.column).assign_attrs(**provenance(emb), **self.scores)

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        return self.estimator.predict(np.ascontiguousarray(vectors))[:, None]


def fit_regressor(
    emb: xr.DataArray,
    labels: Any,
    column: str,
    method: Method | Any = "linear",
    *,
    block: int | None = None,
    cross_validate: bool = True,
) -> Regressor:
    """Learn values from labelled points or polygons; the arguments are those of :func:`regress`.

    Returns
    -------
    Regressor
        Its ``predict`` maps this embedding or another of the same model.
    """
    note_pass(emb)
    return _fit_values(emb, emb.isel, labels, column, method, block, cross_validate)


def regress(
    emb: xr.DataArray,
    labels: Any,
    column: str,
    method: Method | Any = "linear",
    *,
    block: int | None = None,
    cross_validate: bool = True,
) -> xr.DataArray:
    """A map of values from points or polygons with known ones.

    Parameters
    ----------
    emb, labels, block, cross_validate
        As for :func:`classify`. A cell under several labels has the mean of their values.
    column : str
        The column with the values.
    method : {"linear", "knn"} or scikit-learn regressor
        Ridge regression, its strength found by leave-one-out; or the five most similar labelled cells, weighted by
        their distance; or an estimator of your own.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Named ``column``; NaN in invalid cells. Lazy where the embedding is. Attrs: the scores ``cv_r2``, ``cv_rmse``
        with its 95 % interval ``cv_rmse_low`` and ``cv_rmse_high``, ``cv_folds``, ``cv_n``, ``cv_blocks``,
        ``cv_block_cells``.

    Raises
    ------
    LabelError
        If there is no usable label, a value is no number, or all are the same.
    OptionError, MissingDependencyError
        As for :func:`classify`.
    """
    learned, emb = fit_once(_fit_values, emb, labels, column, method, block, cross_validate)
    return learned.predict(emb)


def _fit_values(
    emb: xr.DataArray, read: Read, labels: Any, column: str, method: Any, block: int | None, score: bool
) -> Regressor:
    check_method(method, numeric=True)
    cells = labelled_cells(emb, labels, column, numeric=True, side=block, read=read)
    values = cells.targets
    if (values == values[0]).all():
        raise LabelError(
            "One value alone says nothing of others.",
            found=f"{column} = {values[0]:g} in all {len(values)} labelled cells",
            expected="at least two different values on valid cells",
        )
    scores = score_values(cells, column, method) if score else {}
    return Regressor(column, fitted(method, cells.vectors, values), scores, space_of(emb))
