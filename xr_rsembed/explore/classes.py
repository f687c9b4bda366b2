"""From a few labels to a map of classes with their confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, OptionError
from xr_rsembed.explore.cells import map_cells
from xr_rsembed.explore.codes import as_codes, is_hex_color
from xr_rsembed.explore.labels import labelled_cells
from xr_rsembed.explore.learn import Method, check_method, fitted, score_classes
from xr_rsembed.explore.once import Read, fit_once, note_pass
from xr_rsembed.explore.spaces import provenance, space_of


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
        if return_probability and not self._has_probabilities:
            raise OptionError(
                "This estimator has no probabilities.",
                found=type(self.estimator).__name__,
                expected="an estimator with predict_proba",
                remedy="sklearn.calibration.CalibratedClassifierCV(estimator), or return_probability=False",
            )
        size = len(self.classes) if self._has_probabilities else 1
        found = map_cells(emb, self._of_vectors, "label", size, self.space, "A fitted classifier")
        best = found.fillna(0).argmax("label") if self._has_probabilities else found.isel(label=0)
        codes = as_codes(best.where(found.notnull().all("label")), self.classes, self.colors)
        maps = {"class": codes.assign_attrs(long_name="class")}
        named = {"long_name": "share or probability of the class", "units": "1"}
        if self._has_probabilities:
            maps["confidence"] = found.max("label").assign_attrs(named)
        if return_probability:
            maps["probability"] = found.assign_coords(label=list(self.classes)).assign_attrs(named)
        return xr.Dataset(maps, attrs={**provenance(emb), "classes": list(self.classes), **self.scores})

    @property
    def _has_probabilities(self) -> bool:
        return hasattr(self.estimator, "predict_proba")

    def _of_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """The probability of every class; of an estimator without probabilities the code."""
        vectors = np.ascontiguousarray(vectors)
        if self._has_probabilities:
            return self.estimator.predict_proba(vectors)
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
    return _fit_classes(emb, emb.isel, labels, column, method, block, cross_validate)


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
        For another method, or a block that is no number of cells.
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
    learned, emb = fit_once(_fit_classes, emb, labels, column, method, block, cross_validate)
    return learned.predict(emb, return_probability=return_probability)


def _fit_classes(
    emb: xr.DataArray, read: Read, labels: Any, column: str, method: Any, block: int | None, score: bool
) -> Classifier:
    check_method(method, numeric=False)
    cells = labelled_cells(emb, labels, column, numeric=False, side=block, read=read)
    classes, codes = np.unique(cells.targets.astype(str), return_inverse=True)
    if len(classes) < 2:
        raise LabelError(
            "One class alone cannot be told from anything.",
            found=f"only {str(classes[0])!r} in {len(codes)} labelled cells",
            expected="at least two classes on valid cells",
            remedy="label places of another class, or map what is alike with similarity()",
        )
    names = tuple(map(str, classes))
    scores = score_classes(replace(cells, targets=codes), names, method) if score else {}
    estimator = fitted(method, cells.vectors, codes)
    return Classifier(names, estimator, scores, space_of(emb), _colors(labels, column, names))


def _colors(labels: Any, column: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The colours of the classes, where the labels have a column of them, as the explorer saves it; else none."""
    if "color" not in labels.columns or column == "color":
        return ()
    known = labels.dropna(subset="color").drop_duplicates(column)
    color_of = dict(zip(known[column].astype(str), known["color"].astype(str), strict=True))
    colors = tuple(color_of.get(name, "") for name in names)
    return colors if all(map(is_hex_color, colors)) else ()
