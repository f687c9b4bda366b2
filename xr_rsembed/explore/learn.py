"""What learning classes and learning values share: methods, labelled cells, and the report of a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xr_rsembed.errors import OptionError
from xr_rsembed.explore.labels import LabelledCells, labelled_cells
from xr_rsembed.explore.once import Read
from xr_rsembed.extras import require

Method = Literal["knn", "linear"]

_NEIGHBOURS = 5


def learnable(
    emb: xr.DataArray, read: Read, labels: Any, column: str, method: Any, block: int | None, numeric: bool
) -> LabelledCells:
    """The cells under labels, once the method is known to be one."""
    if not (isinstance(method, str) and method in get_args(Method)) and not hasattr(method, "fit"):
        raise OptionError(
            "There is no such method.",
            found=f"method={method!r}",
            expected="'knn' or 'linear', or a scikit-learn estimator",
        )
    require("sklearn", "Learning from labels")
    return labelled_cells(emb, labels, column, numeric=numeric, side=block, read=read)


def make_estimator(method: Any, n: int, *, numeric: bool) -> Any:
    """A new estimator for n labelled cells, of values or of classes."""
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    if not isinstance(method, str):
        return clone(method)
    if method == "knn":  # between vectors of length 1 the nearest is the most similar
        neighbours = KNeighborsRegressor if numeric else KNeighborsClassifier
        return make_pipeline(Normalizer(), neighbours(min(_NEIGHBOURS, n), weights="distance"))
    logistic = LogisticRegression(max_iter=2000, class_weight="balanced")
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)) if numeric else logistic)


def report(what: str, method: Any, scores: Mapping[str, Any], numbers: str) -> None:
    """Print what was learned by which method, and the score of it."""
    name = method if isinstance(method, str) else type(method).__name__
    side = scores["cv_block_cells"]
    how = f"cross-validation in {scores['cv_folds']} folds of {scores['cv_blocks']} blocks of {side} x {side} cells"
    print(f"{what} by {name}. Spatial {how}: {numbers.format(**scores)}.")
