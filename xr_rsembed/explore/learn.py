"""What learning classes and learning values share: the methods, and the score of a map in blocks that were left out.

Neighbouring cells resemble each other, and the cells of one tile have seen each other through the model. A score from
cells left out one by one would only tell how well neighbours are copied.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from xr_rsembed.errors import OptionError, warn
from xr_rsembed.explore.labels import LabelledCells
from xr_rsembed.extras import require

Method = Literal["knn", "linear"]

_NEIGHBOURS = 5
_FOLDS = 5


def check_method(method: Any, *, numeric: bool) -> None:
    """Raise an OptionError unless this can learn values (``numeric``) or classes.

    Without scikit-learn a MissingDependencyError.
    """
    if not (isinstance(method, str) and method in get_args(Method)) and not hasattr(method, "fit"):
        raise OptionError(
            "There is no such method.",
            found=f"method={method!r}",
            expected="'knn' or 'linear', or a scikit-learn estimator",
        )
    require("sklearn", "Learning from labels")
    if not hasattr(
        method, "__sklearn_tags__"
    ):  # of a name, or of one that is like scikit-learn's but does not say
        return
    from sklearn.utils import get_tags

    kind, wanted = get_tags(method).estimator_type, "regressor" if numeric else "classifier"
    if kind not in (None, wanted):  # it would take codes for numbers, or numbers for names
        raise OptionError(
            f"This estimator is a {kind}, and a {wanted} is needed.",
            found=f"method={method!r}"[:80],
            expected=f"a {wanted}",
            remedy="classify() maps classes, regress() maps values, cluster() needs no labels",
        )


def fitted(method: Any, vectors: np.ndarray, targets: np.ndarray) -> Any:
    """A new estimator of values (float targets) or of classes, fitted."""
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    numeric = targets.dtype.kind == "f"
    if not isinstance(method, str):
        estimator = clone(method)
    elif method == "knn":  # between vectors of length 1 the nearest is the most similar
        neighbours = KNeighborsRegressor if numeric else KNeighborsClassifier
        estimator = make_pipeline(
            Normalizer(), neighbours(min(_NEIGHBOURS, len(targets)), weights="distance")
        )
    else:
        logistic = LogisticRegression(max_iter=2000, class_weight="balanced")
        ridge = RidgeCV(np.logspace(-2, 5, 15))
        estimator = make_pipeline(StandardScaler(), ridge if numeric else logistic)
    return estimator.fit(vectors, targets)


def score_classes(cells: LabelledCells, names: Sequence[str], method: Any) -> dict[str, Any]:
    """The accuracy of classes predicted for blocks that were left out, printed too; attrs as :func:`classify` has them.

    ``names`` are those of the codes that the cells have for targets. A class whose labels lie in one block can never be
    both learned and tested. An accuracy of the others would be that of an easier map, so there is none then.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    blocks_of = [len(np.unique(cells.blocks[cells.targets == code])) for code in range(len(names))]
    untested = [name for name, blocks in zip(names, blocks_of, strict=True) if blocks < 2]
    scores = {**_counts(cells), "cv_classes": len(names), "cv_untested": untested}
    if untested:
        warn(
            f"There is no score of this map: all labels of {', '.join(untested)} ({len(untested)} of {len(names)} "
            f"classes) lie in one block of {cells.side} x {cells.side} cells, and cannot be both learned and tested. "
            "Label more places of each class, further apart, or take smaller blocks (block=4)."
        )
        return scores
    folds = min(_FOLDS, *blocks_of)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer cells than folds
        predicted = _predicted(cells, method, StratifiedGroupKFold(folds, shuffle=True, random_state=0))
        accuracy = float(accuracy_score(cells.targets, predicted))
        balanced = float(balanced_accuracy_score(cells.targets, predicted))
    low, high = _interval(accuracy, scores["cv_blocks"])
    numbers = (
        f"accuracy {accuracy:.2f} (95 % interval {low:.2f} to {high:.2f}), balanced accuracy {balanced:.2f}"
    )
    _report(f"{len(names)} classes", method, scores, folds, numbers)
    return {
        "cv_accuracy": accuracy,
        "cv_accuracy_low": low,
        "cv_accuracy_high": high,
        "cv_balanced_accuracy": balanced,
        "cv_folds": folds,
        **scores,
    }


def score_values(cells: LabelledCells, column: str, method: Any) -> dict[str, Any]:
    """R2 and RMSE of values predicted for blocks that were left out, printed too; attrs as :func:`regress` has them."""
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold

    scores, (names, block) = _counts(cells), np.unique(cells.blocks, return_inverse=True)
    if len(names) < 2:
        warn(
            f"There is no score of this map: all labels lie in one block of {cells.side} x {cells.side} cells. Spread "
            "them out, or take smaller blocks (block=4)."
        )
        return scores
    folds = min(_FOLDS, len(names))
    predicted = _predicted(cells, method, GroupKFold(folds))
    r2, squares = float(r2_score(cells.targets, predicted)), (predicted - cells.targets) ** 2
    rmse = float(squares.mean() ** 0.5)
    # Blocks are drawn with replacement, not cells: those of one block are wrong together.
    draws = np.random.default_rng(0).integers(0, len(names), (1000, len(names)))
    sums, sizes = np.bincount(block, squares), np.bincount(block)
    low, high = np.percentile(np.sqrt(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)), (2.5, 97.5))
    numbers = f"R2 {r2:.2f}, RMSE {rmse:.4g} (95 % interval {low:.4g} to {high:.4g})"
    _report(column, method, scores, folds, numbers)
    spread = {"cv_rmse_low": float(low), "cv_rmse_high": float(high)}
    return {"cv_r2": r2, "cv_rmse": rmse, **spread, "cv_folds": folds, **scores}


def _counts(cells: LabelledCells) -> dict[str, Any]:
    blocks = len(np.unique(cells.blocks))
    return {"cv_n": len(cells.targets), "cv_blocks": blocks, "cv_block_cells": cells.side}


def _predicted(cells: LabelledCells, method: Any, splitter: Any) -> np.ndarray:
    """For every cell what is predicted from the folds that it is not in."""
    predicted = np.empty_like(cells.targets)
    for train, test in splitter.split(cells.vectors, cells.targets, cells.blocks):
        targets = cells.targets[train]
        if (targets == targets[0]).all():  # nothing to tell apart: no estimator takes that
            predicted[test] = targets[0]
        elif len(test):
            predicted[test] = fitted(method, cells.vectors[train], targets).predict(cells.vectors[test])
    return predicted


def _interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n independent trials.

    >>> [round(end, 2) for end in _interval(1.0, 10)]
    [0.72, 1.0]
    """
    z = 1.96
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _report(what: str, method: Any, scores: Mapping[str, Any], folds: int, numbers: str) -> None:
    name = method if isinstance(method, str) else type(method).__name__
    blocks = f"{scores['cv_blocks']} blocks of {scores['cv_block_cells']} x {scores['cv_block_cells']} cells"
    print(
        f"{what} from {scores['cv_n']} cells by {name}. "
        f"Spatial cross-validation in {folds} folds of {blocks}: {numbers}."
    )
