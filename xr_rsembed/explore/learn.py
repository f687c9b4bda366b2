"""From a few labels to a map: classes with their confidence, or values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, OptionError
from xr_rsembed.explore.blocked import class_scores, value_scores
from xr_rsembed.explore.cells import check_cells, map_cells, sklearn_or_error
from xr_rsembed.explore.codes import as_codes
from xr_rsembed.explore.labels import labelled_cells
from xr_rsembed.explore.once import OncePerBlock, note_pass
from xr_rsembed.explore.spaces import check_same_space, provenance, space_of

__all__ = ["Classifier", "Method", "Regressor", "classify", "fit_classifier", "fit_regressor", "regress"]

Method = Literal["knn", "linear"]

_NEIGHBOURS = 5


@dataclass(frozen=True)
class Classifier:
    """What was learned of classes, as :func:`fit_classifier` finds it.

    Parameters
    ----------
    classes : tuple of str
        The names of the codes 0, 1, ...
    estimator : scikit-learn estimator
    scores : mapping
        Of the spatially blocked cross-validation, as :func:`classify` lists them; empty where there was none.
    space : mapping
        Of which model and settings the embedding was; only such embeddings can be mapped.
    colors : tuple of str
        Of the classes, ``#rrggbb``; empty for ours.
    """

    classes: tuple[str, ...]
    estimator: Any = field(repr=False)
    scores: Mapping[str, Any]
    space: Mapping[str, Any] = field(repr=False)
    colors: tuple[str, ...] = field(default=(), repr=False)

    def predict(self, emb: xr.DataArray, *, return_probability: bool = False) -> xr.Dataset:
        """The map of classes of an embedding, lazily where it is lazy.

        Parameters
        ----------
        emb : DataArray, dims (..., D, y, x)
        return_probability : bool
            The probability of every class too.

        Returns
        -------
        Dataset
            As :func:`classify` gives it.

        Raises
        ------
        MismatchError
            If the embedding is of another model or another setting than the one learned from.
        """
        check_cells(emb)
        check_same_space(self.space, space_of(emb), "A fitted classifier")
        knows = hasattr(self.estimator, "predict_proba")
        if return_probability and not knows:
            raise OptionError(
                "This estimator has no probabilities.",
                found=type(self.estimator).__name__,
                expected="an estimator with predict_proba",
                remedy="sklearn.calibration.CalibratedClassifierCV(estimator), or return_probability=False",
            )
        found = map_cells(
            emb, self._scores if knows else self._codes, "class", len(self.classes) if knows else 1
        )
        valid = found.notnull().all("class")
        best = found.fillna(0).argmax("class") if knows else found.isel({"class": 0})
        codes = as_codes(best.where(valid), self.classes, self.colors).assign_attrs(long_name="class")
        maps = {"class": codes}
        if knows:
            named = {"long_name": "share or probability of the class", "units": "1"}
            maps["confidence"] = found.max("class").assign_attrs(named)
        if return_probability:
            maps["probability"] = found.rename({"class": "label"}).assign_coords(label=list(self.classes))
            maps["probability"].attrs.update(named)
        return xr.Dataset(maps, attrs={**provenance(emb), "classes": list(self.classes), **self.scores})

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        return self.estimator.predict_proba(vectors)

    def _codes(self, vectors: np.ndarray) -> np.ndarray:
        return self.estimator.predict(vectors)[:, None]


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
        check_cells(emb)
        check_same_space(self.space, space_of(emb), "A fitted regressor")
        values = map_cells(emb, self._values, "part", 1).isel(part=0)
        return values.rename(self.column).assign_attrs(**provenance(emb), **self.scores)

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        return self.estimator.predict(vectors)[:, None]


def fit_classifier(
    emb: xr.DataArray,
    labels: Any,
    column: str = "class",
    method: Method | Any = "knn",
    *,
    block: int | None = None,
    cross_validate: bool = True,
) -> Classifier:
    """Learn classes from labelled points or polygons; the arguments are those of :func:`classify`.

    Returns
    -------
    Classifier
        Its ``predict`` maps this embedding or another of the same model.
    """
    note_pass(emb)
    return _fit_classes(emb, labels, column, method, block, cross_validate)


def _fit_classes(
    emb: xr.DataArray,
    labels: Any,
    column: str,
    method: Any,
    block: int | None,
    cross_validate: bool,
    read: Callable[..., xr.DataArray] | None = None,
) -> Classifier:
    _check(method)
    cells = labelled_cells(emb, labels, column, numeric=False, side=block, read=read)
    classes, targets = np.unique(cells.targets.astype(str), return_inverse=True)
    if len(classes) < 2:
        raise LabelError(
            "One class alone cannot be told from anything.",
            found=f"only {str(classes[0])!r} in {len(targets)} labelled cells",
            expected="at least two classes on valid cells",
            remedy="label places of another class, or map what is alike with similarity()",
        )

    def make(n: int) -> Any:
        return _classifier(method, n)

    scores = class_scores(cells, make) if cross_validate else {}
    if "cv_accuracy" in scores:
        _report(
            f"{len(classes)} classes from {len(targets)} cells by {_name(method)}",
            scores,
            "accuracy {cv_accuracy:.2f} (95 % interval {cv_accuracy_low:.2f} to {cv_accuracy_high:.2f}), "
            "balanced accuracy {cv_balanced_accuracy:.2f}",
        )
    fitted = make(len(targets)).fit(cells.vectors, targets)
    names = tuple(map(str, classes))
    return Classifier(names, fitted, scores, space_of(emb), _colors(labels, column, names))


def _colors(labels: Any, column: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The colours of the classes, where the labels have a column of them, as the explorer saves it; else none."""
    if "color" not in labels.columns or column == "color":
        return ()
    known = labels.dropna(subset="color").drop_duplicates(column)
    color_of = dict(zip(known[column].astype(str), known["color"].astype(str), strict=True))
    colors = tuple(color_of.get(name, "") for name in names)
    return colors if all(re.fullmatch("#[0-9a-fA-F]{6}", color) for color in colors) else ()


def classify(
    emb: xr.DataArray,
    labels: Any,
    column: str = "class",
    method: Method | Any = "knn",
    *,
    block: int | None = None,
    cross_validate: bool = True,
    return_probability: bool = False,
) -> xr.Dataset:
    """A map of classes from a few labelled points or polygons.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x)
        With leading dims such as time a label holds at every date, and every date gets its map.
    labels : GeoDataFrame
        Points or polygons in any CRS. A polygon labels the cells whose centres lie in it; of large ones at most
        5 000 cells in all are taken, at random, of each class its share.
    column : str
        The column with the classes: names or numbers. Where a column ``color`` gives each a ``#rrggbb``, as the
        explorer saves it, the map's ``flag_colors`` are these.
    method : {"knn", "linear"} or scikit-learn classifier
        The five most similar labelled cells, weighted by their distance; or logistic regression, which needs some
        more labels and is the better of the two then; or an estimator or pipeline of your own, taken as it is.
    block : int, optional
        Side of the blocks that the cross-validation leaves out, in cells; by default one tile of the model.
    cross_validate : bool
        Print the score of a spatially blocked cross-validation and keep it in attrs.
    return_probability : bool
        Give ``probability`` (..., label, y, x) too, float32: that of every class.

    Returns
    -------
    Dataset
        ``class`` (..., y, x), int16: codes from 0 in the alphabetical order of the classes, -1 (``_FillValue``) in
        invalid cells, with CF's ``flag_values`` and ``flag_meanings``, and ``flag_colors``; and ``confidence``
        (..., y, x), float32, 0 to 1, where the estimator has probabilities. Lazy where the embedding is, and the blocks
        under labels, which were computed to learn from, stay in memory: computing the map runs the model once.
        Attrs: ``classes``; ``cv_accuracy`` with ``cv_accuracy_low`` and ``cv_accuracy_high``, its 95 % interval by
        Wilson with blocks for trials; ``cv_balanced_accuracy``, ``cv_folds``; ``cv_n`` labelled cells in ``cv_blocks``
        blocks of ``cv_block_cells`` cells a side, ``cv_classes``. Where a class lies in one block only it cannot be
        tested: ``cv_untested`` names it, and no accuracy is given.

    Raises
    ------
    LabelError
        If there is no usable label, or one class only.
    OptionError
        For another method.
    MissingDependencyError
        Without scikit-learn or geopandas.

    Warns
    -----
    RsEmbedWarning
        Of labels left out, and where labels lie too close together for a score.

    Examples
    --------
    >>> import geopandas
    >>> import shapely
    >>> values = np.repeat(np.eye(2), [4, 8], axis=0).T.reshape(2, 3, 4)
    >>> emb = xr.DataArray(values, dims=("D", "y", "x"))
    >>> places = geopandas.GeoDataFrame(
    ...     {"class": ["water", "forest"]}, geometry=[shapely.Point(1.5, 0.5), shapely.Point(1.5, 2.5)]
    ... )
    >>> found = classify(emb, places, cross_validate=False)
    >>> found["class"].attrs["flag_meanings"], found["class"].values[:, 0].tolist()
    ('forest water', [1, 0, 0])
    """
    note_pass(emb)
    blocks = OncePerBlock(emb)
    learned = _fit_classes(emb, labels, column, method, block, cross_validate, blocks.isel)
    return learned.predict(blocks.embedding(), return_probability=return_probability)


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
    return _fit_values(emb, labels, column, method, block, cross_validate)


def _fit_values(
    emb: xr.DataArray,
    labels: Any,
    column: str,
    method: Any,
    block: int | None,
    cross_validate: bool,
    read: Callable[..., xr.DataArray] | None = None,
) -> Regressor:
    _check(method)
    cells = labelled_cells(emb, labels, column, numeric=True, side=block, read=read)
    if (cells.targets == cells.targets[0]).all():
        raise LabelError(
            "One value alone says nothing of others.",
            found=f"{column} = {cells.targets[0]:g} in all {len(cells.targets)} labelled cells",
            expected="at least two different values on valid cells",
        )

    def make(n: int) -> Any:
        return _regressor(method, n)

    scores = value_scores(cells, make) if cross_validate else {}
    if "cv_rmse" in scores:
        _report(
            f"{column} from {len(cells.targets)} cells by {_name(method)}",
            scores,
            "R2 {cv_r2:.2f}, RMSE {cv_rmse:.4g} (95 % interval {cv_rmse_low:.4g} to {cv_rmse_high:.4g})",
        )
    return Regressor(
        column, make(len(cells.targets)).fit(cells.vectors, cells.targets), scores, space_of(emb)
    )


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
    note_pass(emb)
    blocks = OncePerBlock(emb)
    return _fit_values(emb, labels, column, method, block, cross_validate, blocks.isel).predict(
        blocks.embedding()
    )


def _check(method: Any) -> None:
    if not (isinstance(method, str) and method in get_args(Method)) and not hasattr(method, "fit"):
        raise OptionError(
            "There is no such method.",
            found=f"method={method!r}",
            expected="'knn' or 'linear', or a scikit-learn estimator",
        )
    sklearn_or_error("Learning from labels")


def _name(method: Any) -> str:
    return method if isinstance(method, str) else type(method).__name__


def _classifier(method: Any, n: int) -> Any:
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    if not isinstance(method, str):
        return clone(method)
    if method == "knn":  # between vectors of length 1 the nearest is the most similar
        return make_pipeline(Normalizer(), KNeighborsClassifier(min(_NEIGHBOURS, n), weights="distance"))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))


def _regressor(method: Any, n: int) -> Any:
    from sklearn.base import clone
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    if not isinstance(method, str):
        return clone(method)
    if method == "knn":
        return make_pipeline(Normalizer(), KNeighborsRegressor(min(_NEIGHBOURS, n), weights="distance"))
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))


def _report(what: str, scores: Mapping[str, Any], numbers: str) -> None:
    side = scores["cv_block_cells"]
    how = f"cross-validation in {scores['cv_folds']} folds of {scores['cv_blocks']} blocks of {side} x {side} cells"
    print(f"{what}. Spatial {how}: {numbers.format(**scores)}.")
