"""Errors that say what was found, what was expected, and the one line that mends it.

Every class is an :class:`RsEmbedError` and also the built-in that fits, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

import difflib
import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any


class RsEmbedError(Exception):
    """Base of every error that xr-rsembed raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, in one sentence.
    found, expected, remedy : object, optional
        Lines added below the sentence: what was found, what was expected, and the one line that fixes it.

    Examples
    --------
    >>> print(RsEmbedError("Too few bands.", found=3, expected=12, remedy='da.rsembed.to_bands("terramind")'))
    Too few bands.
      found:    3
      expected: 12
      remedy:   da.rsembed.to_bands("terramind")
    """

    def __init__(
        self, problem: str, *, found: object = None, expected: object = None, remedy: object = None
    ) -> None:
        lines = [problem]
        for word, value in (("found:", found), ("expected:", expected), ("remedy:", remedy)):
            if value is not None:
                lines.append(f"  {word:<9} {value}")
        # One positional argument: the finished text survives pickling to and from a dask worker.
        super().__init__("\n".join(lines))


class RsEmbedWarning(UserWarning):
    """Something worth knowing that does not stop the work."""


def warn(text: str) -> None:
    """Warn at the user's own line, the first one outside the package; a second scene at that line warns again.

    ``warnings.warn`` would swallow the second one: Python shows the same text at the same line once.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    warnings.warn_explicit(
        text,
        RsEmbedWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<string>"),
    )


_PACKAGE = f"{Path(__file__).parent}{os.sep}"


class SceneError(RsEmbedError, ValueError):
    """The scene's dims, dtype or pixels cannot be embedded."""


class GridError(SceneError):
    """The scene's grid is irregular or rotated, or two grids differ."""


class BandOrderError(RsEmbedError, ValueError):
    """The scene's bands are not the model's bands in the model's order."""


class UnitsError(RsEmbedError, ValueError):
    """The scene's pixel units are not what the model takes, or are in doubt."""


class OptionError(RsEmbedError, ValueError):
    """An option has a value that cannot be used."""


class UnknownModelError(RsEmbedError, ValueError):
    """No model, or no modality of it, goes by this name."""


class WeightsError(RsEmbedError, RuntimeError):
    """A weights file is damaged, unsafe, or of another model."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """There is no weights file at this place."""


class HubError(WeightsNotFoundError, ConnectionError):
    """The Hugging Face hub could not be reached, or does not give the weights out."""


class DeviceError(RsEmbedError, RuntimeError):
    """The device asked for is not there."""


class EncoderError(RsEmbedError, RuntimeError):
    """An encoder gave back something that breaks its contract."""


class BlockError(RsEmbedError, RuntimeError):
    """The work on one block failed; the message names the block's window."""


class StoreError(RsEmbedError, ValueError):
    """A store cannot be written, resumed or read as asked."""


class StoreExistsError(StoreError, FileExistsError):
    """The output is there already."""


class StoreLockedError(StoreError, PermissionError):
    """Another process is writing this store."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no stored embedding at this place."""


class ProviderError(RsEmbedError, RuntimeError):
    """A provider failed to give pixels or an answer."""


class ProviderAuthError(ProviderError, PermissionError):
    """A provider wants a login or a token."""


class CatalogError(ProviderError, ValueError):
    """A catalogue, collection or asset table does not hold what was asked for."""


class NoScenesError(ProviderError, LookupError):
    """A search found no scene."""


class LabelError(RsEmbedError, ValueError):
    """Labels cannot be used with this embedding."""


class MismatchError(RsEmbedError, ValueError):
    """Two embeddings lie in different vector spaces, or a fitted object meets an embedding of another model."""


class MissingDependencyError(RsEmbedError, ImportError):
    """An optional package is not installed."""


def one_of(name: str, value: Any, choices: Iterable[Any], problem: str | None = None) -> Any:
    """``value``, where it is one of the choices; else an error with all of them, and the nearest as remedy.

    >>> one_of("blend", "mean", ("center", "mean"))
    'mean'
    >>> one_of("blend", "centre", ("center", "mean"))
    Traceback (most recent call last):
    xr_rsembed.errors.OptionError: blend has a value it cannot take.
      found:    'centre'
      expected: 'center' or 'mean'
      remedy:   blend='center'
    """
    choices = tuple(choices)
    kind = str if isinstance(value, str) else type(value)  # numpy's words are words; True is no 1
    if any(value is one or (type(one) is kind and value == one) for one in choices):
        return value
    near = nearest(str(value), [one for one in choices if isinstance(one, str)], 0.4)
    raise OptionError(
        problem or f"{name} has a value it cannot take.",
        found=repr(value),
        expected=" or ".join(", ".join(map(repr, choices)).rsplit(", ", 1)),
        remedy=f"{name}={near!r}" if near else None,
    )


def check_names(given: Mapping[str, Any], known: Iterable[str], owner: str, near: Iterable[str] = ()) -> None:
    """Raise where an option goes by a name that is not known; the nearest, also of those ``near``, is the remedy.

    >>> check_names({"reader": "odc"}, ("catalog", "reader"), "Provider 'stac'")
    """
    known = [*known]
    for name in given:
        if name not in known:
            close = nearest(name, [*known, *near])
            raise OptionError(
                f"{owner} has no option {name!r}.",
                found=f"{name}={given[name]!r}",
                expected=", ".join(known) or "no option",
                remedy=f"did you mean {close}=?" if close else None,
            )


def known_name(
    name: str,
    names: Iterable[str],
    problem: str,
    error: type[RsEmbedError] = OptionError,
    expected: object = None,
    cutoff: float = 0.6,
) -> str:
    """``name``, where it is one of the names; else an ``error`` with all of them, or ``expected``, and the nearest.

    >>> known_name("blocktiles", ("block_tiles", "progress"), "There is no such option.")
    Traceback (most recent call last):
    xr_rsembed.errors.OptionError: There is no such option.
      found:    'blocktiles'
      expected: block_tiles, progress
      remedy:   did you mean 'block_tiles'?
    """
    names = tuple(names)
    if name in names:
        return name
    near = nearest(name, names, cutoff)
    raise error(
        problem,
        found=repr(name),
        expected=expected or ", ".join(names),
        remedy=f"did you mean {near!r}?" if near else None,
    )


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was perhaps meant, in any case of letters; None where none is near.

    >>> nearest("TerraMnd", ["terrafm", "terramind"])
    'terramind'
    """
    by_lower = {one.lower(): one for one in names}
    near = difflib.get_close_matches(name.lower(), by_lower, 1, cutoff)
    return by_lower[near[0]] if near else None


def whole_number(
    name: str, value: Any, at_least: int | None = None, expected: str = "an int, such as 8"
) -> int:
    """``value`` as an int, where it is a whole number (Python's or numpy's, no bool) of at least ``at_least``.

    >>> whole_number("workers", 8, at_least=1)
    8
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and (at_least is None or value >= at_least):
        return int(value)
    raise OptionError(
        f"{name} must be a whole number{'' if at_least is None else f' of at least {at_least}'}.",
        found=repr(value),
        expected=expected,
    )


def number(
    name: str,
    value: Any,
    low: float,
    high: float,
    error: type[RsEmbedError] = OptionError,
    otherwise: str = "",
) -> Any:
    """``value`` as Python's own int or float, where it is a finite number from ``low`` to ``high`` and no bool.

    >>> number("min_valid", 0.5, 0.0, 1.0)
    0.5
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if real and math.isfinite(value) and low <= value <= high:
        return value.item() if hasattr(value, "item") else value  # numpy's
    raise error(
        f"{name} is out of range.",
        found=repr(value),
        expected=f"a number from {low} to {high}{otherwise}",
    )


def check_new(path: Path, overwrite: bool) -> None:
    """Raise where a file would replace a folder or, without ``overwrite``, another file."""
    if path.is_dir() or (path.exists() and not overwrite):
        raise StoreExistsError(
            f"{path} is there already.",
            found="a folder" if path.is_dir() else "a file",
            expected="a new path",
            remedy="another path" if path.is_dir() else "overwrite=True to replace it",
        )
